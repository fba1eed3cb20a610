/* state.h: the state file of doc/protocol.md, section 5: where in which log file the batch in hand
 * begins. For sink.c and reconcile.c.
 *
 * Two slots are written in turn, so that a crash at any instruction leaves the one before it
 * readable. The file is locked for as long as it is open. */
#ifndef WORKER_STATE_H
#define WORKER_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/stream-id.h"

#define STATE_SLOT_BYTES 512
#define STATE_TOKEN_LEN  32 /* lower-case hexadecimal digits */

struct stat;

struct state_slot {
    uint64_t gen;           /* number of this slot; 0: there was none */
    uint64_t dev, ino;      /* the file that offset speaks of */
    int64_t offset;         /* its size before the first line of the batch in hand */
    struct stream_id first; /* of that batch; the id after `last` when none is in hand */
    struct stream_id last;
    char token[STATE_TOKEN_LEN + 1]; /* which log this is */
};

enum state_found {
    STATE_NEW,     /* the file was not there, or empty */
    STATE_INVALID, /* no slot is valid: damaged, or another program's file */
    STATE_OLD,     /* written by version 0.1.0 */
    STATE_VALID,
};

struct state {
    int fd;
    struct state_slot slot; /* the one that counts; all zero when there is none */
    enum state_found found; /* at the opening */
    bool dirty;             /* written since the last sync */
};

/* Opens, locks and reads the file, and makes it if need be. False: err holds a sentence, errno
 * the reason (EBUSY: another process has the lock), and nothing is open. */
bool state_open(struct state *s, const char *path, char *err, size_t errlen);

/* Writes `next` with the following generation, and makes it `slot`. False: errno; `slot` stays, and
 * the call may be repeated. */
bool state_write(struct state *s, const struct state_slot *next);

/* Whether the path still leads to the file. */
bool state_in_place(const struct state *s, const char *path);

/* fdatasync(2). */
bool state_sync(struct state *s);

void state_close(struct state *s);

/* Whether a batch is in hand. */
bool state_in_hand(const struct state_slot *slot);

/* Whether the offset of the slot is one of this file. */
bool state_speaks_of(const struct state_slot *slot, const struct stat *file);

/* Makes a token at random. */
void state_new_token(char out[STATE_TOKEN_LEN + 1]);

/* The text of one slot. False: the numbers are too long for the slot. No file has such numbers. */
bool state_format(const struct state_slot *slot, char text[STATE_SLOT_BYTES]);
bool state_parse(struct state_slot *slot, const char text[STATE_SLOT_BYTES]);

#endif
