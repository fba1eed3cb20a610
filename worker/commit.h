/* commit.h: takes one batch at a time through the commit of doc/protocol.md, section 5: dead
 * letters, log, state, acknowledgement. For the consumer. It owns the connection for everything but
 * reading.
 *
 * A batch that was begun has exactly one completion, `done`. All events run from the event loop,
 * never from inside a call of this header. Every event may call every function but commit_free().
 * All calls belong to the thread of the event base. */
#ifndef WORKER_COMMIT_H
#define WORKER_COMMIT_H

#include <stdbool.h>

#include "worker/batch.h"
#include "worker/config.h"
#include "worker/sink.h"
#include "worker/stats.h"

struct event_base;
struct redis_link;
struct committer;

struct commit_events {
    /* The batch in hand is given back: it stands in the log, or, when not `written`, it was dropped
     * and must be read again. Another one may begin. */
    void (*done)(bool written, void *arg);
    /* commit_ready() or commit_unanswered() may have changed. */
    void (*changed)(void *arg);
    /* An acknowledgement was not confirmed: pending entries should be read again. */
    void (*replay)(void *arg);
};

/* Copies the events; all pointers are borrowed for the committer's life. NULL: out of memory. */
struct committer *commit_new(struct event_base *base, const struct config *config,
                             struct sink *sink, struct worker_stats *stats,
                             const struct commit_events *events, void *arg);

/* Whether another batch should be read: the link is up, and few acknowledgements are unanswered. */
bool commit_ready(const struct committer *c);

/* Whether acknowledgements are unanswered, and may still be answered. */
bool commit_unanswered(const struct committer *c);

/* Why the log cannot be written, since the last attempt; borrowed. NULL: it can. */
const char *commit_stuck(const struct committer *c);

/* Begins with a batch, which is borrowed until `done`. Only while none is in hand. */
void commit_begin(struct committer *c, struct stream_batch *batch);

/* The connection that delivered the batch in hand is gone: Redis will deliver it again. It is
 * dropped, if writing has not begun; else it is written, but not acknowledged, since who answers
 * next may be another server. */
void commit_stale(struct committer *c);

/* Turns to the file that has the log's path now; tries again every second until it works. */
void commit_reopen(struct committer *c);

/* The end is near: the batch in hand is dropped, if writing has not begun. */
void commit_stop(struct committer *c);

/* For status commands; borrowed. */
struct redis_link *commit_link(struct committer *c);

/* No event runs any more, and a batch in hand has no completion. NULL is ignored. */
void commit_free(struct committer *c);

#endif
