/* ringdir-internal.h: directories of ring files, and who owns which file (doc/protocol.md, section
 * 6, "Files"). For life.c, source.c and logsend. All descriptors belong to the calling thread's
 * table (table-internal.h). */
#ifndef LC_RINGDIR_INTERNAL_H
#define LC_RINGDIR_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "leftover-internal.h"
#include "ring-internal.h"

#define LC_RING_NAME_MAX 256
#define LC_RINGDIRS_MAX  8

/* ---- Directories ---- */

/* Opens the directory for a ring of one's own; makes it, with mode 0700, when it is missing.
 * `setting` is the property ring_dir. NULL means the first default place that can be used. It must
 * belong to this user, be writable by nobody else, and lie on a file system that is known to be
 * safe. Returns a descriptor, or -1 with a sentence in why. */
int lc_ringdir_open(const char *setting, char *why, size_t whylen);

/* Opens a directory to drain it, not to make a ring there: root may open another user's. Makes
 * nothing. Returns a descriptor, or -1 with a sentence in why. */
int lc_ringdir_open_drain(const char *path, char *why, size_t whylen);

/* The directories of a client. */
struct lc_ringdirs {
    int fds[LC_RINGDIRS_MAX]; /* each is searched for rings of dead processes */
    int count;
    bool own; /* fds[0] is where the own ring goes; else that is in memory */
};

/* Opens them: `drain_dir` alone, or else the one of `ring_dir` ("off": none), or else, when that is
 * NULL, all default places that exist. `why` gets a sentence when the own ring cannot have a file,
 * else it is empty. */
void lc_ringdirs_open(struct lc_ringdirs *dirs, const char *ring_dir, const char *drain_dir,
                      char *why, size_t whylen);
void lc_ringdirs_close(struct lc_ringdirs *dirs);

/* ---- Rings ---- */

/* Makes a ring in the directory, locked; name gets its file's name. Returns 0 or an errno; ENOSPC
 * when not even the smallest ring fits. */
int lc_ringdir_create(int dir, struct lc_ring *ring, uint64_t capacity,
                      char name[LC_RING_NAME_MAX]);

/* Makes a ring in memory only. Returns 0 or an errno. */
int lc_ring_create_anonymous(struct lc_ring *ring, uint64_t capacity);

/* Renames a damaged ring file to <name>.damaged, or <name>.damaged.1 when that exists, and so on.
 * False when it cannot be renamed. */
bool lc_ringdir_set_aside(int dir, const char *name);

/* ---- Adoption ---- */

enum lc_adopt {
    LC_ADOPT_RING,    /* *leftover and name are filled; its file is locked, and ours */
    LC_ADOPT_DAMAGED, /* the file `name` was no ring; it was moved aside */
    LC_ADOPT_NONE,    /* nothing more without an owner */
};

/* A search through the directory for rings without an owner, by one process at a time. */
struct lc_adoption {
    void *stream; /* DIR * */
    int lock;     /* adopt.lock; -1: it cannot be used, and nobody waits for another */
    bool failed;  /* a file could not be looked at, for lack of descriptors or memory */
    char strange[LC_RING_NAME_MAX + 120]; /* a sentence about a file that nobody here can deliver;
                                             empty: there is none */
};

/* Begins a search. False when another process is searching, or has searched in the last pause_ms
 * milliseconds, or when the directory cannot be read. */
bool lc_adoption_begin(struct lc_adoption *search, int dir, int64_t pause_ms);

/* The next ring without an owner from which something is to be delivered or reported. On the way,
 * removes what is empty or was never finished. */
enum lc_adopt lc_adoption_next(struct lc_adoption *search, struct lc_leftover *leftover,
                               char name[LC_RING_NAME_MAX]);
void lc_adoption_end(struct lc_adoption *search);

#endif
