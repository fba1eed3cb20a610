/* place-internal.h: where rings may lie: which file systems are safe, and which directories are
 * looked into when none is named. For ringdir.c. */
#ifndef LC_PLACE_INTERNAL_H
#define LC_PLACE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

enum lc_place {
    LC_PLACE_MEMORY,  /* tmpfs: pages come one by one, and can be given back */
    LC_PLACE_DISK,    /* a disk: all blocks of a ring are reserved when it is made, since a store
                         into a folio that is not whole may be a SIGBUS when the disk is full */
    LC_PLACE_UNKNOWN, /* any other: flock(2), mmap(2) and fallocate(2) are not known to be safe */
};

/* What the open directory's file system is; `name` gets its name, or its number, for a message. */
enum lc_place lc_place_of(int dir, char *name, size_t size);

/* Whether an empty file in such a directory may become a ring. Returns 0, ENOTSUP when its file
 * system shows only now to be unsafe, or another errno. */
int lc_place_check(int fd);

/* The i-th directory that a process of this user puts its rings into when it is told none, the
 * preferred one first. False when there are no more; an empty path: not on this host. */
bool lc_place_default(unsigned i, char *path, size_t size);

/* The i-th directory that stands in for the last default, whose name another user has taken. False
 * when there are no more. */
bool lc_place_spare(unsigned i, char *path, size_t size);

/* Makes one more of these. Returns 0 or an errno. */
int lc_place_make_spare(char *path, size_t size);

#endif
