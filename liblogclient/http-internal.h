/* http-internal.h: posts one body at a time to logd, for sender.c. http.c is the only file of the
 * library that touches evhttp.
 *
 * Each request has one completion, whatever goes wrong. It comes from the event loop, never from
 * inside a call. */
#ifndef LC_HTTP_INTERNAL_H
#define LC_HTTP_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "url-internal.h"

struct event_base;
struct lc_http;

struct lc_http_answer {
    int status;             /* 0: there was no answer; what became of the request is unknown */
    const char *error;      /* with status 0: a sentence */
    const char *body;       /* NUL-terminated, at most 64 KiB; "" when there is none */
    int64_t retry_after_ms; /* -1: none given */
    bool late;              /* with status 0: the request was not done in time */
};

struct lc_http_request {
    const struct lc_url *url; /* borrowed until the completion */
    const struct buf *body;   /* borrowed until the completion */
    const char *producer;     /* 32 hexadecimal digits */
    uint64_t sequence, skip;
    int64_t timeout_ms; /* for all of it, from the connect to the end of the answer */
};

typedef void lc_http_done(const struct lc_http_answer *answer, void *arg);

/* NULL when out of memory. `done` gets every completion. */
struct lc_http *lc_http_new(struct event_base *base, lc_http_done *done, void *arg);

/* Begins a request. The one before must be complete. */
void lc_http_post(struct lc_http *http, const struct lc_http_request *request);

/* Gives up what is under way, without a completion. NULL is allowed. */
void lc_http_free(struct lc_http *http);

#endif
