/* store.h: batches of records go into Redis, each with one command, a few at a time. Small ones
 * without a producer share a command. api.c sends them.
 *
 * The store owns the link to Redis, and knows whether Redis takes writes. */
#ifndef LOGD_STORE_H
#define LOGD_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/http/failure.h"
#include "logd/producer.h"
#include "logd/stats.h"

struct event_base;
struct redis_url;
struct store;

struct store_config {
    const struct redis_url *url; /* borrowed for the store's life, like stream and stats */
    const char *stream;
    struct logd_stats *stats;
    int64_t reply_timeout_ms;
    int64_t producer_ttl_ms;
    size_t max_in_flight; /* bytes; one batch is always taken */
};

struct store_batch;

/* What became of a batch. */
struct store_outcome {
    const struct failure *failure; /* NULL: Redis has confirmed all records */
    size_t duplicates;             /* how many of them it had before */
    int64_t gap;                   /* sequence numbers that never came */
};

/* Runs once for a batch that store_send() took, from the event loop; all is borrowed until it
 * returns. */
typedef void store_done_cb(void *arg, const struct store_batch *b, const struct store_outcome *o);

/* The records of one request. */
struct store_batch {
    struct buf args; /* room for the command, then INGEST_ARGS arguments a record */
    size_t count;    /* records in it */
    struct producer producer;

    /* For the store alone: */
    store_done_cb *done; /* NULL: nobody waits any more */
    void *arg;
    struct store *store;
    size_t bytes;   /* counted as in flight */
    size_t records; /* in the command that the batch carries: its own, and those gathered into it */
    struct store_batch *next;        /* gathered into the same command */
    struct store_batch *next_listed; /* in the list of the free, or of the waiting */
};

/* Starts connecting; never fails for lack of Redis. NULL: out of memory. */
struct store *store_new(struct event_base *base, const struct store_config *config);

/* NULL when Redis answers and takes writes, as far as is known. Else why not, valid until the next
 * event. */
const char *store_trouble(const struct store *s);

/* Whether a batch has a chance now; else *f is set. Cheap: to be asked before the body is read. */
bool store_open(struct store *s, struct failure *f);

/* An empty batch; NULL: out of memory. To be given to store_send() or store_discard(). */
struct store_batch *store_batch(struct store *s);
void store_discard(struct store_batch *b);

/* Sends the batch. True: it is taken, and `done` runs once. False: *f is set, and the batch stays
 * the caller's. */
bool store_send(struct store_batch *b, store_done_cb *done, void *arg, struct failure *f);

/* Nobody waits for a batch that was sent any more: `done` will not run. */
void store_forget(struct store_batch *b);

/* Closes; `done` runs for what is still in flight. */
void store_free(struct store *s);

#endif
