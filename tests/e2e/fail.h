/* fail.h: lets calls of the C library fail that the library and libevent make. For fail.c. */
#ifndef FAIL_H
#define FAIL_H

#include <stdbool.h>

enum fail_kind {
    FAIL_MEMORY,     /* malloc(3) and its kin */
    FAIL_MAP,        /* mmap(2) and its kin */
    FAIL_THREAD,     /* pthread_create(3) */
    FAIL_DESCRIPTOR, /* whatever makes one */
    FAIL_FILE,       /* what makes a file larger, locks or renames it */
    FAIL_KINDS,
};

/* From now on the n-th call of the kind fails, counted from 1, and `more` calls after it. */
void fail_at(enum fail_kind kind, long n, long more);

/* No call fails any more. Returns how many there were since fail_at(). */
long fail_stop(void);

/* Blocks of memory that are allocated and not freed. 0 under a sanitizer, which looks itself. */
long fail_blocks(void);

#endif
