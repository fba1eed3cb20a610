/* commit.h: takes one batch at a time through the commit of doc/protocol.md, section 5: dead
 * letters, log, state, acknowledgement. It owns the connection for everything but reading. */
#ifndef WORKER_COMMIT_H
#define WORKER_COMMIT_H

#include <stdbool.h>

#include "worker/batch.h"
#include "worker/config.h"
#include "worker/stats.h"
#include "worker/sink.h"

struct event_base;
struct redis_link;
struct committer;

struct commit_events {
    void (*changed)(void *arg); /* the batch is done, the link came up, or a reply came: look at the
                                   functions below */
    void (*dropped)(void *arg); /* the link broke while the batch was not written: it is done, and
                                   must be read again */
    void (*replay)(
        void *arg); /* an acknowledgement was not confirmed: pending entries should be read again */
};

/* All pointers are borrowed for the committer's life. NULL: out of memory. */
struct committer *commit_new(struct event_base *base, const struct config *config,
                             struct sink *sink, struct worker_stats *stats,
                             const struct commit_events *events, void *arg);

/* Whether the link is up, and few enough acknowledgements are unanswered, for another batch to be
 * read. */
bool commit_ready(const struct committer *c);

/* A batch is in hand: it is borrowed. */
bool commit_busy(const struct committer *c);

/* Acknowledgements are unanswered, and may still be. */
bool commit_unanswered(const struct committer *c);

/* NULL, or why the log cannot be written, since the last attempt. */
const char *commit_stuck(const struct committer *c);

/* Begins with a batch, when not busy. It may be done before this returns. */
void commit_begin(struct committer *c, struct stream_batch *batch);

/* The connection that delivered the batch in hand is gone: Redis will deliver it again. It is
 * dropped if it is not being written yet, and not acknowledged, since who answers next may be
 * another server. */
void commit_stale(struct committer *c);

/* Turns to the file that has the log's path now; tried again until it works. */
void commit_reopen(struct committer *c);

/* The end is near: a batch that waits for Redis is dropped. */
void commit_stop(struct committer *c);

/* For status commands; borrowed. */
struct redis_link *commit_link(struct committer *c);

void commit_free(struct committer *c);

#endif
