/* server.h: the HTTP server of logd and of logworker's status port: connections, their limits and
 * deadlines, requests in. Answers go out through answer.h. */
#ifndef COMMON_HTTP_SERVER_H
#define COMMON_HTTP_SERVER_H

#include "common/http/message.h"

struct event_base;
struct http_server;

/* Copies the config. One a process, since it accepts through accepting.h. NULL: out of memory. */
struct http_server *http_new(struct event_base *base, const struct http_config *config);

/* Accepts connections on a listening socket, which is taken even on failure. False: out of memory,
 * or the server has as many as it can (ACCEPT_LISTENERS_MAX). */
bool http_listen(struct http_server *s, int fd);

/* Stops accepting, finishes what has begun, and calls `stopped` when no connection is left, from
 * the event loop; http_free() must wait until that has returned. After grace_ms requests that are
 * still incomplete are given up; those that are complete are waited for. */
void http_stop(struct http_server *s, int64_t grace_ms, void (*stopped)(void *arg), void *arg);

/* Closes everything at once, unanswered; not from a callback of the server. NULL is ignored. */
void http_free(struct http_server *s);

#endif
