/* server.h: the HTTP server: connections, their limits and deadlines, requests in, answers out. Its
 * source is the only file of logd that knows evhttp. */
#ifndef COMMON_HTTP_SERVER_H
#define COMMON_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/http/failure.h"
#include "common/http/head.h"
#include "logd/stats.h"

struct event_base;
struct http_server;

/* A connection that waits for the answer to one request. */
struct http_exchange;

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_OTHER,
};

/* Borrowed until the handler returns. The framing is checked. */
struct http_request {
    enum http_method method;
    const char *path; /* without the query */
    struct head head;
    struct span body;
};

struct http_response {
    int status;
    const char *content_type;
    const char *allow; /* value of Allow; NULL: none */
    int retry_after;   /* seconds; 0: none */
    struct span body;
};

struct http_config {
    size_t max_body;        /* bytes */
    size_t max_reading;     /* bytes of unfinished requests on all connections; above: 503 */
    size_t max_connections; /* above, connections wait in the kernel */
    int64_t request_timeout_ms;
    int64_t idle_timeout_ms;
    struct logd_stats *stats; /* borrowed */
    /* Must answer: at once, or later, unless the exchange is gone first. */
    void (*handle)(struct http_exchange *x, const struct http_request *r, void *arg);
    void *arg;
};

/* NULL: out of memory. */
struct http_server *http_new(struct event_base *base, const struct http_config *config);

/* Accepts connections on a listening socket, which is taken even on failure. False: out of memory.
 */
bool http_listen(struct http_server *s, int fd);

/* Answers; the exchange must not be used afterwards. */
void http_answer(struct http_exchange *x, const struct http_response *r);
void http_answer_failure(struct http_exchange *x, const struct failure *f);

/* Runs `gone` when the connection ends before it is answered; the exchange must then not be used
 * any more. */
void http_on_gone(struct http_exchange *x, void (*gone)(void *arg), void *arg);

/* Stops accepting, finishes what has begun, and calls `stopped` when no connection is left. After
 * grace_ms requests that are still incomplete are given up; those that are complete are waited for.
 */
void http_stop(struct http_server *s, int64_t grace_ms, void (*stopped)(void *arg), void *arg);

/* Closes everything at once. */
void http_free(struct http_server *s);

#endif
