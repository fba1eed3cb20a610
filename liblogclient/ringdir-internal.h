/* ringdir-internal.h: the directory of ring files, and who owns which (doc/protocol.md, section 6,
 * "Files"). For life.c, source.c and logsend. */
#ifndef LC_RINGDIR_INTERNAL_H
#define LC_RINGDIR_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ring-internal.h"

#define LC_RING_NAME_MAX 256

/* Opens the ring directory; makes it, with mode 0700, when it is missing. `setting` is the property
 * ring_dir. NULL means the private default, which must be a real directory, belong to this user and
 * be closed to others. Returns a descriptor, or -1 with a sentence in why. */
int lc_ringdir_open(const char *setting, char *why, size_t whylen);

/* Makes a ring in the directory, locked; name gets its file's name. Returns 0 or an errno. */
int lc_ringdir_create(int dir, struct lc_ring *ring, uint64_t capacity,
                      char name[LC_RING_NAME_MAX]);

/* Makes a ring in memory only. Returns 0 or an errno. */
int lc_ring_create_anonymous(struct lc_ring *ring, uint64_t capacity);

enum lc_adopt {
    LC_ADOPT_RING,    /* *ring and name are filled; the ring is locked, and ours */
    LC_ADOPT_DAMAGED, /* the file `name` was no ring; it was moved aside */
    LC_ADOPT_NONE,    /* nothing more without an owner */
};

/* A search through the directory for rings without an owner, by one process at a time. */
struct lc_adoption {
    void *stream; /* DIR * */
    int lock;     /* adopt.lock */
    bool failed;  /* a file could not be looked at, for lack of descriptors or memory */
};

/* Begins a search. False when another process is searching, or has searched in the last pause_ms
 * milliseconds, or when the directory cannot be read. */
bool lc_adoption_begin(struct lc_adoption *search, int dir, int64_t pause_ms);

/* The next ring without an owner. On the way, removes what is empty or was never finished. */
enum lc_adopt lc_adoption_next(struct lc_adoption *search, struct lc_ring *ring,
                               char name[LC_RING_NAME_MAX]);
void lc_adoption_end(struct lc_adoption *search);

/* Renames a damaged ring file to <name>.damaged. */
void lc_ringdir_set_aside(int dir, const char *name);

#endif
