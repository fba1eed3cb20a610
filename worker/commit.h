/* commit.h: takes one batch at a time through the steps of doc/protocol.md, section 5.3: slot,
 * lines, commit. For the consumer.
 *
 * A batch that was begun has exactly one completion, `done`. All events run from the event loop,
 * never from inside a call of this header. Every event may call every function but commit_free().
 * All calls belong to the thread of the event base. */
#ifndef WORKER_COMMIT_H
#define WORKER_COMMIT_H

#include <stdbool.h>

#include "worker/batch.h"
#include "worker/config.h"
#include "worker/lease.h"
#include "worker/sink.h"
#include "worker/stats.h"

struct event_base;
struct redis_link;
struct committer;

enum commit_result {
    COMMIT_DONE,     /* the batch is in the log, and out of the stream */
    COMMIT_UNKNOWN,  /* the connection broke, or the batch was given up: open the stream again */
    COMMIT_NO_LEASE, /* refused: the stream is another worker's */
    COMMIT_NO_BATCH, /* refused: the stream does not begin with the batch */
};

/* The batch in hand is given back; another one may begin. */
typedef void commit_done_cb(enum commit_result result, void *arg);

/* All pointers are borrowed for the committer's life. NULL: out of memory. */
struct committer *commit_new(struct event_base *base, const struct config *config,
                             struct sink *sink, struct redis_link *link, struct lease *lease,
                             struct worker_stats *stats, commit_done_cb *done, void *arg);

/* Begins with a batch, which is borrowed until `done`. Only while none is in hand. */
void commit_begin(struct committer *c, struct stream_batch *batch);

/* Gives a batch up that was not sent to Redis: its entries will be read again. One that was sent is
 * waited for. */
void commit_leave(struct committer *c);

bool commit_idle(const struct committer *c);

/* Why the log cannot be written, or the batch cannot be committed, since the last attempt;
 * borrowed. NULL: it can. */
const char *commit_stuck(const struct committer *c);

/* Turns to the file that has the log's path now, when no commit is unanswered; tries again every
 * second until it works. */
void commit_reopen(struct committer *c);

/* After the link was freed. A batch in hand has no completion. NULL is ignored. */
void commit_free(struct committer *c);

#endif
