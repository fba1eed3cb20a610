#include "common/http/server.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/http/accepting.h"
#include "common/diag.h"
#include "common/http/connection.h"
#include "common/http/farewell.h"

#define STOP_IDLE_MS 100
#define JSON_TYPE    "application/json"

/* What is closed next; from STOP_LISTENERS on every answer closes its connection. */
enum stop_step {
    STOP_NOTHING,
    STOP_LISTENERS,
    STOP_IDLE, /* a little later, since a busy client may be sending its next request */
    STOP_ALL,  /* after the grace: all but requests that wait for their answer */
};

struct http_server {
    struct event_base *base;
    struct evhttp *evhttp;
    struct http_config config;
    struct acceptor acceptor;
    struct evhttp_bound_socket *bound[ACCEPT_LISTENERS_MAX];
    size_t bound_count;
    struct conn_pool pool;
    conn **by_fd; /* evhttp gives its callbacks no room for a pointer of ours */
    size_t by_fd_len;

    struct event *stop_event; /* timer */
    enum stop_step stop;
    struct timeval grace;
    void (*stopped)(void *arg);
    void *stopped_arg;
};

/* ---- Connections end ---- */

static void release(conn *c)
{
    struct http_server *s = c->server;
    evutil_socket_t fd = bufferevent_getfd(c->bev);
    if (fd >= 0 && (size_t)fd < s->by_fd_len && s->by_fd[fd] == c)
        s->by_fd[fd] = NULL;
    conn_free(c);
    if (s->config.stats->connections < s->config.max_connections)
        acceptor_set_full(&s->acceptor, false);
    if (s->stop > STOP_LISTENERS && TAILQ_EMPTY(&s->pool.all))
        s->stopped(s->stopped_arg);
}

/* evhttp is about to free the connection. A request that it has already taken off the connection is
 * left to us; one that is still on it, it frees. */
static void on_close(struct evhttp_connection *evcon, void *arg)
{
    (void)evcon;
    conn *c = arg;
    if (c->req != NULL && evhttp_request_get_connection(c->req) == NULL)
        evhttp_request_free(c->req);
    if (c->state == CONN_HANDLING && c->gone != NULL)
        c->gone(c->gone_arg);
    release(c);
}

/* on_close() follows. */
static void end(conn *c)
{
    evhttp_connection_free(c->evcon);
}

/* ---- Requests arrive ---- */

static enum http_method method_of(struct evhttp_request *req)
{
    switch (evhttp_request_get_command(req)) {
    case EVHTTP_REQ_GET:
        return HTTP_GET;
    case EVHTTP_REQ_HEAD:
        return HTTP_HEAD;
    case EVHTTP_REQ_POST:
        return HTTP_POST;
    default:
        return HTTP_OTHER;
    }
}

/* Whether evhttp reads a body with this method; with others it takes the body for the next request.
 */
static bool reads_body(struct evhttp_request *req)
{
    switch (evhttp_request_get_command(req)) {
    case EVHTTP_REQ_GET:
    case EVHTTP_REQ_POST:
    case EVHTTP_REQ_PUT:
    case EVHTTP_REQ_DELETE:
    case EVHTTP_REQ_OPTIONS:
    case EVHTTP_REQ_PATCH:
    case EVHTTP_REQ_CONNECT:
        return true;
    default:
        return false;
    }
}

static void on_request(struct evhttp_request *req, void *arg)
{
    struct http_server *s = arg;
    struct evhttp_connection *evcon = evhttp_request_get_connection(req);
    conn *c = s->by_fd[bufferevent_getfd(evhttp_connection_get_bufferevent(evcon))];
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(req));
    struct evbuffer *input = evhttp_request_get_input_buffer(req);
    struct http_request r = {.method = method_of(req), .path = path != NULL ? path : ""};
    struct failure f;
    struct evkeyval *header;
    c->is_head = r.method == HTTP_HEAD;
    for (header = TAILQ_FIRST(evhttp_request_get_input_headers(req)); header != NULL;
         header = TAILQ_NEXT(header, next))
        head_take(&r.head, header->key, header->value);
    if (!head_framing_ok(&r.head, reads_body(req), &f) || !conn_chunks_ok(c, &f)) {
        conn_fail(c, &f);
        return;
    }
    c->req = req;
    c->gone = NULL;
    conn_request_complete(c);
    r.body.n = evbuffer_get_length(input);
    r.body.p = r.body.n > 0 ? (const char *)evbuffer_pullup(input, -1) : "";
    if (r.body.p == NULL) {
        failure_set_unavailable(&f, STORED_NOTHING, "logd is out of memory; try again later");
        http_answer_failure(c, &f);
        return;
    }
    s->config.handle(c, &r, s->config.arg);
}

/* ---- Answers ---- */

static void on_answered(struct evhttp_request *req, void *arg)
{
    conn *c = arg;
    (void)req;
    conn_answered(c);
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
    if (c->server->stop != STOP_NOTHING)
        ok = ok && evhttp_add_header(headers, "Connection", "close") == 0;
    return ok;
}

void http_answer(struct http_exchange *x, const struct http_response *r)
{
    conn *c = x;
    struct evhttp_request *req = c->req;
    struct evbuffer *body = evhttp_request_get_output_buffer(req);
    if (!add_headers(c, r) || (!c->is_head && evbuffer_add(body, r->body.p, r->body.n) < 0)) {
        end(c);
        return;
    }
    stats_answered(c->server->config.stats, r->status);
    c->req = NULL;
    c->gone = NULL;
    conn_set_state(c, CONN_WRITING);
    evhttp_request_set_on_complete_cb(req, on_answered, c);
    evhttp_send_reply(req, r->status, farewell_reason(r->status), NULL);
    /* evhttp would drop the answer on reading the end of a client that has closed its side, and
     * would read what comes next without bound. It reads again once the answer is written. */
    bufferevent_disable(c->bev, EV_READ);
}

void http_answer_failure(struct http_exchange *x, const struct failure *f)
{
    struct buf body = {0};
    failure_write(f, &body);
    struct http_response r = {.status = f->status,
                              .content_type = JSON_TYPE,
                              .retry_after = f->retry_after,
                              .body = {body.data, body.len}};
    http_answer(x, &r);
    buf_free(&body);
}

void http_on_gone(struct http_exchange *x, void (*gone)(void *arg), void *arg)
{
    x->gone = gone;
    x->gone_arg = arg;
}

/* ---- Connections begin ---- */

/* evhttp asks for the bufferevent of a connection that it has accepted. */
static struct bufferevent *on_accept(struct event_base *base, void *arg)
{
    static struct diag_limit limit;
    struct http_server *s = arg;
    conn *c = conn_new(&s->pool, s);
    (void)base;
    if (s->config.stats->connections >= s->config.max_connections) {
        diag_warn_limited(&limit,
                          "%zu connections are open, as many as --max-connections: others "
                          "wait until one ends",
                          (size_t)s->config.stats->connections);
        acceptor_set_full(&s->acceptor, true);
    }
    return c->bev;
}

static bool reserve_fd(struct http_server *s, size_t fd)
{
    if (fd < s->by_fd_len)
        return true;
    size_t len = fd + 64;
    conn **by_fd = realloc(s->by_fd, len * sizeof(conn *));
    if (by_fd == NULL)
        return false;
    memset(by_fd + s->by_fd_len, 0, (len - s->by_fd_len) * sizeof(conn *));
    s->by_fd = by_fd;
    s->by_fd_len = len;
    return true;
}

/* Only now evhttp has made its connection, which it
 * gives to the bufferevent's callbacks; without it the connection has failed already. */
static void attach(conn *c)
{
    struct bufferevent *bev = c->bev;
    void *evcon = NULL;
    bufferevent_getcb(bev, NULL, NULL, NULL, &evcon);
    evutil_socket_t fd = bufferevent_getfd(bev);
    if (evcon == NULL) {
        release(c);
    } else if (!reserve_fd(c->server, (size_t)fd)) {
        diag_die(EXIT_ENVIRONMENT, "out of memory for a connection");
    } else {
        c->evcon = evcon;
        c->server->by_fd[fd] = c;
        evhttp_connection_set_closecb(evcon, on_close, c);
        conn_set_state(c, CONN_IDLE);
    }
    bufferevent_decref(bev);
}

/* ---- Stopping ---- */

/* Whether something has come that the loop has not read yet. */
static bool has_unread(const conn *c)
{
    char byte;
    return recv(bufferevent_getfd(c->bev), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static void close_listeners(struct http_server *s)
{
    acceptor_forget(&s->acceptor);
    for (size_t i = 0; i < s->bound_count; i++)
        evhttp_del_accept_socket(s->evhttp, s->bound[i]);
    s->bound_count = 0;
    if (TAILQ_EMPTY(&s->pool.all))
        s->stopped(s->stopped_arg);
}

static void close_idle(struct http_server *s)
{
    conn *c, *next;
    for (c = TAILQ_FIRST(&s->pool.all); c != NULL; c = next) {
        next = TAILQ_NEXT(c, all);
        if (c->state == CONN_IDLE && !has_unread(c))
            evhttp_connection_free(c->evcon);
    }
}

static void end_grace(struct http_server *s)
{
    conn *c, *next;
    size_t given_up = 0;
    for (c = TAILQ_FIRST(&s->pool.all); c != NULL; c = next) {
        next = TAILQ_NEXT(c, all);
        if (c->state == CONN_HANDLING)
            continue;
        given_up += c->state == CONN_READING;
        evhttp_connection_free(c->evcon);
    }
    if (given_up > 0)
        diag_warn("%zu incomplete requests given up (--shutdown-timeout)", given_up);
}

static void on_stop(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct http_server *s = arg;
    struct timeval wait = {.tv_usec = STOP_IDLE_MS * 1000};
    switch (s->stop) {
    case STOP_LISTENERS:
        s->stop = STOP_IDLE;
        close_listeners(s);
        break;
    case STOP_IDLE:
        s->stop = STOP_ALL;
        wait = s->grace;
        close_idle(s);
        break;
    case STOP_ALL:
        end_grace(s);
        return;
    case STOP_NOTHING:
        return;
    }
    if (evtimer_add(s->stop_event, &wait) < 0)
        diag_die(EXIT_ENVIRONMENT, "cannot set a timer: out of memory");
}

void http_stop(struct http_server *s, int64_t grace_ms, void (*stopped)(void *arg), void *arg)
{
    /* The loop first accepts and reads once more what has come before the stop. */
    static const struct timeval soon = {0};
    s->stop = STOP_LISTENERS;
    s->stopped = stopped;
    s->stopped_arg = arg;
    s->grace = (struct timeval){.tv_sec = grace_ms / 1000, .tv_usec = grace_ms % 1000 * 1000};
    if (evtimer_add(s->stop_event, &soon) < 0)
        diag_die(EXIT_ENVIRONMENT, "cannot set a timer: out of memory");
}

/* ---- Life cycle ---- */

static bool set_up(struct http_server *s)
{
    bool ok = acceptor_init(&s->acceptor, s->base);
    ok = conn_pool_init(&s->pool, s->base, &s->config) && ok;
    s->pool.attach = attach;
    s->pool.end = end;
    s->evhttp = evhttp_new(s->base);
    s->stop_event = evtimer_new(s->base, on_stop, s);
    return ok && s->evhttp != NULL && s->stop_event != NULL;
}

struct http_server *http_new(struct event_base *base, const struct http_config *config)
{
    struct http_server *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return NULL;
    s->base = base;
    s->config = *config;
    if (!set_up(s)) {
        http_free(s);
        return NULL;
    }
    evhttp_set_max_headers_size(s->evhttp, CONN_HEAD_MAX);
    evhttp_set_max_body_size(s->evhttp, (ev_ssize_t)config->max_body);
    evhttp_set_allowed_methods(s->evhttp, UINT16_MAX); /* answering 405 is the handler's */
    evhttp_set_gencb(s->evhttp, on_request, s);
    evhttp_set_bevcb(s->evhttp, on_accept, s);
    return s;
}

bool http_listen(struct http_server *s, int fd)
{
    struct evconnlistener *listener = acceptor_add(&s->acceptor, s->base, fd);
    if (listener == NULL)
        return false;
    s->bound[s->bound_count] = evhttp_bind_listener(s->evhttp, listener);
    return s->bound[s->bound_count++] != NULL;
}

void http_free(struct http_server *s)
{
    if (s == NULL)
        return;
    s->stop = STOP_NOTHING; /* nobody is told that all is closed */
    acceptor_forget(&s->acceptor);
    conn_pool_settle(&s->pool);
    if (s->evhttp != NULL)
        evhttp_free(s->evhttp);
    conn_pool_free(&s->pool);
    acceptor_free(&s->acceptor);
    if (s->stop_event != NULL)
        event_free(s->stop_event);
    free(s->by_fd);
    free(s);
}
