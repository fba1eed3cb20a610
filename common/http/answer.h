/* answer.h: how a handler answers a request. After an answer the exchange must not be used any
 * more. */
#ifndef COMMON_HTTP_ANSWER_H
#define COMMON_HTTP_ANSWER_H

#include "common/http/failure.h"
#include "common/http/message.h"

void http_answer(struct http_exchange *x, const struct http_response *r);
void http_answer_failure(struct http_exchange *x, const struct failure *f);

/* 200 with a whole body; 503 when the body's memory ran out. The body stays the caller's. */
void http_answer_buf(struct http_exchange *x, const char *content_type, const struct buf *body);

/* {"status":"…"}: 503 with what is wrong, or 200 with `good` when `problem` is NULL. */
void http_answer_status(struct http_exchange *x, const char *problem, const char *good);

/* Runs `gone` when the connection ends before it is answered, such as in http_free(); the exchange
 * must then not be used any more. Only the answer finds out that a client has closed. */
void http_on_gone(struct http_exchange *x, void (*gone)(void *arg), void *arg);

/* What the exchange's server has counted. Borrowed for the server's life. */
const struct http_stats *http_stats(const struct http_exchange *x);

#endif
