/* past.h: the files that the log was before: those of its directory whose name begins with the
 * log's. For reconcile.c. */
#ifndef WORKER_PAST_H
#define WORKER_PAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

struct past_file {
    char *name; /* owned; relative to the directory */
    dev_t dev;
    ino_t ino;
    struct timespec changed;
    int64_t size;
};

struct past {
    int dir;                 /* descriptor of the directory */
    struct past_file *files; /* the one that was changed last comes first */
    size_t count;
    int64_t bytes; /* of all of them */
};

/* Lists them, each once, whatever names it has, without the log itself, which `log` is about, and
 * without its state file. False: errno. */
bool past_list(struct past *p, const char *path, const struct stat *log);

/* *none: whether neither the log, which is open, nor what it was before has a byte. False: errno.
 * The path is the log's. */
bool past_none(const char *path, int log, bool *none);

/* Opens one for reading. -1: errno; EINVAL: it is no log, perhaps compressed. */
int past_open(const struct past *p, size_t i);

void past_free(struct past *p);

#endif
