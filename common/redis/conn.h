/* conn.h: one connection to Redis, from its beginning to its end. link.c makes one after the other.
 * conn.c and reply.c are the only ones of the tree that see hiredis. */
#ifndef COMMON_REDIS_CONN_H
#define COMMON_REDIS_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/redis/reply.h"
#include "common/redis/url.h"

struct event_base;
struct redis_conn;

/* All run from the event loop. */
struct redis_conn_events {
    /* Connected: commands may be sent. Don't call redis_conn_close() from here. */
    void (*connected)(void *arg);
    /* The next reply, in the order of the commands; borrowed until this returns. redis_conn_close()
     * may be called. */
    void (*reply)(const struct redis_reply *reply, void *arg);
    /* The attempt failed, or the connection ended, by no act of ours. It is gone: forget it, and
     * don't close it. */
    void (*closed)(const char *why, void *arg);
};

/* Begins to connect. NULL with the reason in err when it fails at once. Copies the events. A host
 * name that is not an address is resolved here, blocking. */
struct redis_conn *redis_conn_open(struct event_base *base, const struct redis_url *url,
                                   const struct redis_conn_events *events, void *arg, char *err,
                                   size_t errlen);

/* Sends one command, copied. It is written at the end of this turn of the event loop. False when
 * out of memory: the connection is then of no further use. */
bool redis_conn_send(struct redis_conn *conn, const void *command, size_t n);

/* Ends the connection when a reply, or a part of it, is larger than so many bytes; 0: never. */
void redis_conn_limit(struct redis_conn *conn, size_t bytes);

/* When bytes came last, on the monotonic clock; 0: never. */
int64_t redis_conn_read_ms(const struct redis_conn *conn);

/* No event runs any more. What is unanswered stays so. */
void redis_conn_close(struct redis_conn *conn);

#endif
