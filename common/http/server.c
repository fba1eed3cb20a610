/* server.c: accepts connections, hands requests to the handler, and stops in steps. */
#include "common/http/server.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/diag.h"
#include "common/http/accepting.h"
#include "common/http/answer.h"
#include "common/http/connection.h"
#include "common/timer.h"

#define STOP_IDLE_MS 100

/* What is closed next. */
enum stop_step {
    STOP_NOTHING,   /* the server serves */
    STOP_LISTENERS, /* from here on every answer closes its connection */
    STOP_IDLE,      /* a little later, since a busy client may be sending its next request */
    STOP_ALL,       /* after the grace: all but requests that wait for their answer */
};

struct http_server {
    struct event_base *base;
    struct evhttp *evhttp;
    struct http_config config;
    struct acceptor acceptor;
    struct evhttp_bound_socket *bound[ACCEPT_LISTENERS_MAX];
    size_t bound_count;
    struct conn_pool pool;

    struct event *stop_event; /* timer */
    enum stop_step stop;
    int64_t grace_ms;
    void (*stopped)(void *arg);
    void *stopped_arg;
};

/* ---- Connections come and go ---- */

/* evhttp asks for the bufferevent of a connection that it has accepted. */
static struct bufferevent *on_accept(struct event_base *base, void *arg)
{
    static struct diag_limit limit;
    (void)base;
    struct http_server *s = arg;
    struct bufferevent *bev = conn_new(&s->pool);
    if (s->pool.stats.connections >= s->config.max_connections) {
        diag_warn_limited(
            &limit, "%zu connections are open, as many as %s: others wait until one ends",
            s->pool.stats.connections, s->config.has_options ? "--max-connections" : "may be");
        acceptor_set_full(&s->acceptor, true);
    }
    return bev;
}

static void on_closed(void *arg)
{
    struct http_server *s = arg;
    if (s->pool.stats.connections < s->config.max_connections)
        acceptor_set_full(&s->acceptor, false);
    if (s->stop > STOP_LISTENERS && TAILQ_EMPTY(&s->pool.all))
        s->stopped(s->stopped_arg);
}

/* ---- Requests ---- */

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

/* Whether evhttp reads a body with this method. With others it takes the body for the next
 * request. */
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
    conn *c = conn_find(&s->pool, evhttp_request_get_connection(req));
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(req));
    struct evbuffer *input = evhttp_request_get_input_buffer(req);
    struct http_request r = {.method = method_of(req), .path = path != NULL ? path : ""};
    struct failure f;
    struct evkeyval *header;
    c->is_head = r.method == HTTP_HEAD;
    for (header = TAILQ_FIRST(evhttp_request_get_input_headers(req)); header != NULL;
         header = TAILQ_NEXT(header, next))
        head_take(&r.head, s->config.headers, header->key, header->value);
    if (!head_framing_ok(&r.head, reads_body(req), &f) || !conn_chunks_ok(c, &f)) {
        conn_fail(c, &f);
        return;
    }
    conn_request_complete(c, req);
    r.body.n = evbuffer_get_length(input);
    r.body.p = r.body.n > 0 ? (const char *)evbuffer_pullup(input, -1) : "";
    if (r.body.p == NULL) {
        failure_set_unavailable(&f, STORED_NOTHING, "out of memory; try again later");
        http_answer_failure(c, &f);
        return;
    }
    s->config.handle(c, &r, s->config.arg);
}

/* ---- Stopping ---- */

/* Lets the step begin in so many milliseconds. */
static void set_stop(struct http_server *s, enum stop_step step, int64_t ms)
{
    static const char *const names[] = {
        [STOP_NOTHING] = "nothing",
        [STOP_LISTENERS] = "listeners",
        [STOP_IDLE] = "idle",
        [STOP_ALL] = "all",
    };
    diag_debug("http stop: %s -> %s", names[s->stop], names[step]);
    s->stop = step;
    timer_set(s->stop_event, ms);
}

/* Whether something has come that the loop has not read yet. */
static bool has_unread(const conn *c)
{
    char byte;
    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
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
            conn_end(c);
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
        conn_end(c);
    }
    if (given_up > 0)
        diag_warn("%zu incomplete requests given up%s", given_up,
                  s->config.has_options ? " (--shutdown-timeout)" : "");
}

static void on_stop(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct http_server *s = arg;
    switch (s->stop) {
    case STOP_LISTENERS:
        set_stop(s, STOP_IDLE, STOP_IDLE_MS);
        close_listeners(s);
        break;
    case STOP_IDLE:
        set_stop(s, STOP_ALL, s->grace_ms);
        close_idle(s);
        break;
    case STOP_ALL:
        end_grace(s);
        break;
    case STOP_NOTHING:
        break;
    }
}

void http_stop(struct http_server *s, int64_t grace_ms, void (*stopped)(void *arg), void *arg)
{
    s->pool.closing = true;
    s->stopped = stopped;
    s->stopped_arg = arg;
    s->grace_ms = grace_ms;
    /* The loop first accepts and reads once more what has come before the stop. */
    set_stop(s, STOP_LISTENERS, 0);
}

/* ---- Life ---- */

static bool set_up(struct http_server *s)
{
    bool ok = acceptor_init(&s->acceptor, s->base);
    ok = conn_pool_init(&s->pool, s->base, &s->config, on_closed, s) && ok;
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
    free(s);
}
