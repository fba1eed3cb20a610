/* link.h: a link to Redis: one asynchronous connection that is made again whenever it ends. Both
 * daemons talk to Redis through it.
 *
 * Accepted means exactly one completion: when redis_link_send() returns true, the callback runs
 * once, from the event loop or from redis_link_free(), never from inside the call; false means it
 * never runs. Replies come in the order of the commands. Every function may be called from every
 * callback. All calls belong to the thread of the event base. The program must ignore SIGPIPE.
 *
 * The events say what happens, and why. The link itself prints each change of its state, at the
 * debug level, and nothing else, except when there is no memory for a timer or a watch on the
 * socket: that ends the program (EXIT_ENVIRONMENT). */
#ifndef COMMON_REDIS_LINK_H
#define COMMON_REDIS_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/redis/reply.h"

struct event_base;
struct redis_link;
struct redis_url;

/* `reply` is NULL when the connection broke first: the outcome is unknown. */
typedef void redis_reply_cb(const struct redis_reply *reply, void *arg);

/* `why` is a sentence without a full stop, borrowed until the callback returns. It never holds the
 * password, and does not name the URL. */
struct redis_link_events {
    /* Connected, authenticated, database selected, and PING answered: Redis serves, and commands
     * may be sent. */
    void (*ready)(void *arg);
    /* Was ready and is no longer; all pending callbacks have run. Another attempt follows. */
    void (*down)(const char *why, void *arg);
    /* Optional: an attempt to connect or to set up failed (refused, wrong password, loading, ...);
     * another follows. */
    void (*failed)(const char *why, void *arg);
};

/* All times are positive. */
struct redis_link_config {
    const char *name;            /* for debug lines; borrowed for the link's life */
    const struct redis_url *url; /* borrowed for the link's life */
    int64_t connect_timeout_ms;  /* for a whole attempt: connect, AUTH, SELECT and PING */
    /* The oldest unanswered command may wait for bytes for so long; then the connection is given
     * up. A long reply on a slow network counts from its last byte. It must be larger than the
     * timeouts of blocking commands. */
    int64_t reply_timeout_ms;
    /* The wait between attempts begins with the least, doubles, and begins again after a link that
     * was ready for a second. Up to half of each wait is taken off at random. */
    int64_t backoff_min_ms, backoff_max_ms;
};

/* Copies config and events. The first attempt is made by the event loop, at once. A host name that
 * is not an address is resolved blocking, at each attempt. Returns NULL when out of memory. */
struct redis_link *redis_link_new(struct event_base *base, const struct redis_link_config *config,
                                  const struct redis_link_events *events, void *arg);

bool redis_link_ready(const struct redis_link *link);

/* Sends one whole command, written with resp.h, copied; not SUBSCRIBE, MONITOR or their like. All
 * commands of one turn of the event loop are written together at its end. False when not ready or
 * out of memory. */
bool redis_link_send(struct redis_link *link, const void *command, size_t n, redis_reply_cb *cb,
                     void *arg);

/* The same for a command in a buffer; false, too, when the buffer has failed. */
bool redis_link_send_buf(struct redis_link *link, const struct buf *command, redis_reply_cb *cb,
                         void *arg);

/* The same for a command of `count` words, as RESP_WORDS() in resp.h makes them. */
bool redis_link_send_words(struct redis_link *link, const char *const *words, size_t count,
                           redis_reply_cb *cb, void *arg);

/* From now on, and on this connection, a reply that is larger than so many bytes breaks it, before
 * it has taken much more memory; 0: none does. */
void redis_link_limit_reply(struct redis_link *link, size_t bytes);

/* Gives the connection, or the attempt, up: for replies that make no sense. The link is not ready
 * from here on. The event loop then runs the pending callbacks with NULL, and `down` or `failed`.
 * Replies that are still on their way are thrown away. Does nothing without a connection. */
void redis_link_reset(struct redis_link *link, const char *why);

/* The same, to get rid of what is under way: the next attempt follows at once. */
void redis_link_renew(struct redis_link *link);

/* Commands without a reply yet. */
size_t redis_link_pending(const struct redis_link *link);

/* Closes. Pending callbacks get NULL, from inside this call; no event runs any more. Called from a
 * callback of the link, the memory goes when that returns. NULL is ignored. */
void redis_link_free(struct redis_link *link);

#endif
