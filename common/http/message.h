/* message.h: requests and answers, and what an HTTP server is told and counts. The modules above it
 * are connection, answer, server and routes, in this order. */
#ifndef COMMON_HTTP_MESSAGE_H
#define COMMON_HTTP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/http/head.h"

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

/* Borrowed until http_answer() returns. */
struct http_response {
    int status;
    const char *content_type;
    const char *allow; /* value of Allow; NULL: none */
    int retry_after;   /* seconds; 0: none */
    struct span body;
};

#define HTTP_JSON_TYPE "application/json"

struct http_config {
    size_t max_body;        /* bytes */
    size_t max_reading;     /* bytes of unfinished requests on all connections; above: 503 */
    size_t max_connections; /* above, connections wait in the kernel */
    int64_t request_timeout_ms;
    int64_t idle_timeout_ms;
    /* The program has options of these names (--max-body, ...): messages name them. */
    bool has_options;
    /* Names of the headers that the handler reads: at most HEAD_OWN_MAX, then NULL. Borrowed for
     * the server's life. NULL: none. */
    const char *const *headers;
    /* Must answer: at once, or later, unless the exchange is gone first. */
    void (*handle)(struct http_exchange *x, const struct http_request *r, void *arg);
    void *arg;
};

#define HTTP_STATUS_MAX 600

/* What a server counts, from its start on. */
struct http_stats {
    uint64_t answered[HTTP_STATUS_MAX]; /* by status */
    size_t connections;                 /* open now */
};

#endif
