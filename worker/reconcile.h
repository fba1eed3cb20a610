/* reconcile.h: which entries that Redis still holds have their line in the log already
 * (doc/protocol.md, section 5.2). For sink.c. */
#ifndef WORKER_RECONCILE_H
#define WORKER_RECONCILE_H

#include "common/buf.h"
#include "worker/place.h"
#include "worker/state.h"

struct lookback;

/* All zero at first. */
struct reconcile {
    const char *path; /* of the log; borrowed */
    int64_t look_back;
    int log; /* the log itself; borrowed */
    struct state_slot slot;
    struct lookback *behind; /* lines behind the slot's offset; NULL: none are to be compared */
    struct lookback *all;    /* all lines, likewise */
};

/* Begins anew with what the state says now. */
void reconcile_begin(struct reconcile *r, const char *path, int64_t look_back, int log,
                     const struct state_slot *slot);

/* Looks at all lines that entries from `first` on may have, before any line is added. With `sync`
 * the files are fsynced, since what is found will not be written again. False: errno. */
bool reconcile_look(struct reconcile *r, struct stream_id first, bool sync);

enum entry_class reconcile_class(const struct reconcile *r, struct stream_id id);

/* Takes the line of an entry out of those that stood in the log. */
enum line_found reconcile_find(struct reconcile *r, enum entry_class class, const char *line,
                               size_t n);

/* When the log, or the file that the slot speaks of, ends in a line without its line feed, and
 * `line`, of n bytes, begins so: cuts that rest off. False: errno; repeat the call. */
bool reconcile_torn(const struct reconcile *r, const char *line, size_t n, bool sync);

/* *all: whether the notes have the batch in hand: all whole lines behind the slot's offset. False:
 * errno. */
bool reconcile_covered(const struct reconcile *r, struct span notes, bool *all);

/* Cuts the file that the slot speaks of back to the slot's offset. False: errno. */
bool reconcile_cut(const struct reconcile *r, bool sync);

/* Forgets the lines. */
void reconcile_end(struct reconcile *r);

#endif
