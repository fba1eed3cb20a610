/* state.h: the state file of doc/protocol.md, section 5: what is committed of which log file. For
 * sink.c and tail.c.
 *
 * Two slots are written in turn, so that a crash at any instruction leaves the commit before it
 * readable. The file is locked for as long as it is open. */
#ifndef WORKER_STATE_H
#define WORKER_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/stream-id.h"

#define STATE_SLOT_BYTES 256
#define STATE_TOKEN_LEN  32 /* of lineage and boot: lower-case hexadecimal digits */

struct stat;

struct state_commit {
    uint64_t gen;        /* number of this commit; 0: there was none */
    uint64_t dev, ino;   /* the file that offset speaks of */
    int64_t offset;      /* bytes of it that are committed */
    struct stream_id id; /* largest id that is handled */
    char lineage[STATE_TOKEN_LEN + 1];
    char boot[STATE_TOKEN_LEN + 1];
    bool sync; /* log and state were fsynced in order before this commit */
};

enum state_found {
    STATE_NEW,     /* the file was not there, or empty */
    STATE_INVALID, /* no slot is valid: damaged, or another program's file */
    STATE_VALID,
};

struct state {
    int fd;
    struct state_commit last; /* the commit that counts; all zero when there is none */
    enum state_found found;   /* at the opening */
};

/* Opens, locks and reads the file, and makes it if need be. False: err holds a sentence, errno
 * the reason (EBUSY: another process has the lock), and nothing is open. */
bool state_open(struct state *s, const char *path, char *err, size_t errlen);

/* Writes `next` with the following generation, and makes it `last`. False: errno; `last` stays, and
 * the call may be repeated. */
bool state_write(struct state *s, const struct state_commit *next);

/* Whether the path still leads to the file. */
bool state_in_place(const struct state *s, const char *path);

/* fdatasync(2). */
bool state_sync(struct state *s);

void state_close(struct state *s);

/* Whether the offset of the commit is one of this file. */
bool state_speaks_of(const struct state_commit *c, const struct stat *file);

/* The text of one slot. False: the numbers are too long for the slot. No file has such numbers. */
bool state_format(const struct state_commit *c, char slot[STATE_SLOT_BYTES]);
bool state_parse(struct state_commit *c, const char slot[STATE_SLOT_BYTES]);

/* Whether the n bytes at s are a token. */
bool state_token_valid(const char *s, size_t n);

/* The running system's boot id as a token. False: errno. */
bool state_boot_id(char out[STATE_TOKEN_LEN + 1]);

#endif
