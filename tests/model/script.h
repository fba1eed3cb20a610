/* script.h: Redis in the model: what producers, faults and the scripts of doc/protocol.md, sections
 * 3.4 and 3.5, do to it. Used by worker.c and action.c. */
#ifndef MODEL_SCRIPT_H
#define MODEL_SCRIPT_H

#include "state.h"

enum commit_result {
    COMMIT_DONE,
    COMMIT_REFUSED,
    COMMIT_UNREAD /* it removed what was not read */
};

struct commit {
    uint8_t owner; /* the lease that it asks for */
    uint8_t first, last, count;
    int removed; /* entries that others removed, as far as the worker knows */
    const struct entry
        *batch; /* what the worker has read, or NULL when that is not known any more */
};

/* A producer's record. False when there is none any more. */
bool redis_add(struct state *s, const struct model *m);

enum open_result {
    OPEN_DONE,
    OPEN_STANDBY, /* another log owns the stream */
    OPEN_TAKEN,   /* there are notes of other logs for a batch in hand: nothing is changed */
};

enum open_result redis_open(struct state *s, const struct model *m, int w);

/* Gives the lease back. */
void redis_release(struct state *s, const struct rules *rules, int w);

enum commit_result redis_commit(struct redis *r, const struct rules *rules, const struct commit *c);

/* The log whose lease is the owner's, or -1. */
int redis_owner(const struct redis *r);

/* Entries that others removed, by the law of section 3.6. */
int redis_difference(const struct redis *r);

/* How many lines are noted for this log. */
int redis_notes(const struct redis *r, int w);

bool redis_has_record(const struct redis *r, uint8_t record);

/* Removes the entry at this place, or, in redis_del, all of them with their stream. */
void redis_remove(struct redis *r, int at);
void redis_del(struct redis *r);

#endif
