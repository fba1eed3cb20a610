/* watch.h: looks whether Redis takes writes, and whether its settings keep what it is given. The
 * store uses it. */
#ifndef LOGD_WATCH_H
#define LOGD_WATCH_H

#include "common/redis/link.h"

struct event_base;
struct watch;

/* Runs after each look: NULL when Redis takes writes, else its error. Borrowed. */
typedef void watch_cb(const char *trouble, void *arg);

/* `arg` is borrowed for the watch's life. NULL: out of memory. */
struct watch *watch_new(struct event_base *base, const char *stream, watch_cb *cb, void *arg);

/* The link has become ready: reads the server's settings, warns of those that lose records, and
 * looks every second from now on. */
void watch_start(struct watch *w, struct redis_link *link);

/* The link is down. */
void watch_stop(struct watch *w);

/* After the link is freed. */
void watch_free(struct watch *w);

#endif
