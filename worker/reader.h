/* reader.h: the connection that reads the stream, one read at a time. For the consumer.
 *
 * Accepted means exactly one completion: `entries`, `none` or `refused`. All run from the event
 * loop, never from inside a call of this header. */
#ifndef WORKER_READER_H
#define WORKER_READER_H

#include <stdbool.h>

#include "common/redis/link.h"
#include "worker/config.h"
#include "worker/stream-id.h"

struct event_base;
struct reader;

struct reader_events {
    /* The connection may be used, or is gone; a read under way has been completed. */
    void (*ready)(void *arg);
    void (*down)(void *arg);
    /* Entries have come, at least one; borrowed until this returns. */
    void (*entries)(const struct redis_reply *entries, void *arg);
    /* None has come in time, or the connection is gone. */
    void (*none)(void *arg);
    /* Redis refused. */
    void (*refused)(const char *why, void *arg);
};

/* Copies the events; the config is borrowed for the reader's life. NULL: out of memory. */
struct reader *reader_new(struct event_base *base, const struct config *config,
                          const struct reader_events *events, void *arg);

bool reader_ready(const struct reader *r);

/* Whether a read is under way. */
bool reader_busy(const struct reader *r);

/* Reads at most `count` entries after this one; waits for them for a while. The connection breaks
 * when more than one is asked for, and they are far larger than a batch should be. */
bool reader_read(struct reader *r, struct stream_id after, int64_t count);

/* Reads all entries from one to the other. */
bool reader_range(struct reader *r, struct stream_id from, struct stream_id to);

/* Gets rid of a read under way, by a new connection. */
void reader_renew(struct reader *r);

/* A read under way is completed by `none`, from inside this call. NULL is ignored. */
void reader_free(struct reader *r);

#endif
