/* answer.c: answers to requests, through evhttp. */
#include "common/http/answer.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdio.h>

#include "common/http/connection.h"

static void on_answered(struct evhttp_request *req, void *arg)
{
    (void)req;
    conn_answered(arg);
}

static bool add_headers(conn *c, const struct http_response *r)
{
    char number[24];
    struct evkeyvalq *headers = evhttp_request_get_output_headers(c->req);
    /* evhttp gives no length to answers to HEAD and CONNECT. */
    snprintf(number, sizeof(number), "%zu", r->body.n);
    bool ok = evhttp_add_header(headers, "Content-Type", r->content_type) == 0 &&
              evhttp_add_header(headers, "Content-Length", number) == 0;
    if (r->allow != NULL)
        ok = ok && evhttp_add_header(headers, "Allow", r->allow) == 0;
    if (r->retry_after > 0) {
        snprintf(number, sizeof(number), "%d", r->retry_after);
        ok = ok && evhttp_add_header(headers, "Retry-After", number) == 0;
    }
    if (c->pool->closing)
        ok = ok && evhttp_add_header(headers, "Connection", "close") == 0;
    return ok;
}

void http_answer(struct http_exchange *x, const struct http_response *r)
{
    struct evhttp_request *req = x->req;
    struct evbuffer *body = evhttp_request_get_output_buffer(req);
    x->gone = NULL;
    if (!add_headers(x, r) || (!x->is_head && evbuffer_add(body, r->body.p, r->body.n) < 0)) {
        conn_end(x);
        return;
    }
    conn_count_answer(x, r->status);
    x->req = NULL;
    conn_set_state(x, CONN_WRITING);
    evhttp_request_set_on_complete_cb(req, on_answered, x);
    evhttp_send_reply(req, r->status, farewell_reason(r->status), NULL);
    /* evhttp would drop the answer on reading the end of a client that has closed its side, and
     * would read what comes next without bound. It reads again once the answer is written. */
    bufferevent_disable(x->bev, EV_READ);
}

void http_answer_failure(struct http_exchange *x, const struct failure *f)
{
    struct buf body = {0};
    failure_write(f, &body);
    http_answer(x, &(struct http_response){.status = f->status,
                                           .content_type = HTTP_JSON_TYPE,
                                           .allow = f->allow,
                                           .retry_after = f->retry_after,
                                           .body = {body.data, body.len}});
    buf_free(&body);
}

static void answer_buf(struct http_exchange *x, int status, const char *type, const struct buf *b)
{
    if (!b->failed) {
        http_answer(x, &(struct http_response){
                           .status = status, .content_type = type, .body = {b->data, b->len}});
        return;
    }
    struct failure f;
    failure_set_unavailable(&f, STORED_UNSAID, "out of memory; try again later");
    http_answer_failure(x, &f);
}

void http_answer_buf(struct http_exchange *x, const char *content_type, const struct buf *body)
{
    answer_buf(x, 200, content_type, body);
}

void http_answer_status(struct http_exchange *x, const char *problem, const char *good)
{
    struct buf body = {0};
    buf_add_lit(&body, "{\"status\":");
    failure_add_string(&body, problem != NULL ? problem : good);
    buf_add_char(&body, '}');
    answer_buf(x, problem != NULL ? 503 : 200, HTTP_JSON_TYPE, &body);
    buf_free(&body);
}

void http_on_gone(struct http_exchange *x, void (*gone)(void *arg), void *arg)
{
    x->gone = gone;
    x->gone_arg = arg;
}

const struct http_stats *http_stats(const struct http_exchange *x)
{
    return &x->pool->stats;
}
