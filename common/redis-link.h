/* redis-link.h: one asynchronous connection to Redis that keeps itself up. Its source is the only
 * file that includes hiredis.
 *
 * Accepted means exactly one completion: when redis_link_send() returns true, the callback runs
 * once, from the event loop, never from inside the call; false means it never runs. All calls
 * belong to the thread of the event base. */
#ifndef COMMON_REDIS_LINK_H
#define COMMON_REDIS_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/redis-url.h"

struct event_base;
struct redis_link;
struct redis_reply;

enum redis_reply_type {
    REPLY_STRING,
    REPLY_STATUS,
    REPLY_ERROR,
    REPLY_INTEGER,
    REPLY_NIL,
    REPLY_ARRAY,
};

/* Readers of a reply; it and all that comes out of it is borrowed until the callback returns. */
enum redis_reply_type reply_type(const struct redis_reply *r);
struct span reply_span(const struct redis_reply *r); /* STRING, STATUS, ERROR; else empty */
int64_t reply_integer(const struct redis_reply *r);  /* INTEGER; else 0 */
size_t reply_count(const struct redis_reply *r);     /* ARRAY; else 0 */
const struct redis_reply *reply_at(const struct redis_reply *r, size_t i);
bool reply_is_error(const struct redis_reply *r,
                    const char *code); /* an ERROR that starts with this word, such as "NOSCRIPT" */

/* reply is NULL when the connection broke first: the outcome is unknown. */
typedef void redis_reply_cb(const struct redis_reply *reply, void *arg);

struct redis_link_events {
    void (*ready)(
        void *arg); /* connected, authenticated, database selected; commands may be sent */
    void (*down)(const char *why,
                 void *arg); /* was ready and is no longer, after all pending callbacks have run */
    void (*failed)(
        const char *why,
        void *arg); /* optional: an attempt to connect, or to set up, failed; another follows */
};

struct redis_link_config {
    const struct redis_url *url; /* borrowed for the link's life */
    int64_t connect_timeout_ms;  /* also for AUTH and SELECT */
    int64_t reply_timeout_ms; /* the oldest unanswered command may be this old; then the connection
                                 is given up */
    int64_t backoff_min_ms,
        backoff_max_ms; /* between attempts: doubles, with jitter of up to a half */
};

/* Starts connecting at once; never blocks (a host name that is not an address is resolved by
 * hiredis, blocking). Returns NULL when out of memory. */
struct redis_link *redis_link_new(struct event_base *base, const struct redis_link_config *config,
                                  const struct redis_link_events *events, void *arg);

bool redis_link_ready(const struct redis_link *link);

/* Sends one command, written with resp.h, copied. False when not ready or out of memory. */
bool redis_link_send(struct redis_link *link, const void *command, size_t n, redis_reply_cb *cb,
                     void *arg);

/* Gives the connection up; pending callbacks get NULL, and connecting starts again after the
 * backoff. For replies that make no sense. */
void redis_link_reset(struct redis_link *link, const char *why);

/* Commands without a reply yet. */
size_t redis_link_pending(const struct redis_link *link);

/* Closes; pending callbacks get NULL from inside this call; events do not run any more. May be
 * called from a callback. */
void redis_link_free(struct redis_link *link);

#endif
