#include "logd/http.h"

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

#include "common/diag.h"
#include "logd/accept.h"
#include "logd/deadlines.h"
#include "logd/farewell.h"

#define HEADERS_MAX      16384 /* bytes, with the request line */
#define WRITE_TIMEOUT_MS 30000
#define LINGER_MS        2000
#define STOP_IDLE_MS     100
#define JSON_TYPE        "application/json"

enum conn_state {
    CONN_IDLE,      /* no byte of the next request is here */
    CONN_READING,   /* a request is arriving; what evhttp writes now is an error page of its own */
    CONN_WRITING,   /* the answer is being written */
    CONN_LINGERING, /* the last answer is written by us, evhttp is cut off; reads and throws away so
                       that the client sees the answer rather than a reset */
    /* The following may last: */
    CONN_NEW,      /* accepted, evhttp has not told us its connection yet */
    CONN_HANDLING, /* a request is complete and waits for its answer */
};

/* What is closed next; from STOP_LISTENERS on every answer closes its connection. */
enum stop_step {
    STOP_NOTHING,
    STOP_LISTENERS,
    STOP_IDLE, /* a little later, since a busy client may be sending its next request */
    STOP_ALL,  /* after the grace: all but requests that wait for their answer */
};

struct http_exchange {
    struct http_server *server;
    enum conn_state state;
    struct deadline deadline;
    struct bufferevent *bev;
    struct evhttp_connection *evcon; /* NULL in CONN_NEW */
    struct evhttp_request *req;      /* in CONN_HANDLING */
    bool is_head;                    /* the request is a HEAD */
    struct farewell farewell;        /* in CONN_LINGERING */
    size_t received;                 /* bytes of the request so far */
    int page_status; /* evhttp has written an error page with this status; 0: none */
    size_t page_at;  /* where in the output it begins */
    bool overload;   /* max_reading was passed while this request arrived */
    bool on_agenda;
    TAILQ_ENTRY(http_exchange) agenda; /* connections that need work outside evhttp's callbacks */
    TAILQ_ENTRY(http_exchange) all;
    void (*gone)(void *arg);
    void *gone_arg;
};

typedef struct http_exchange conn;

TAILQ_HEAD(conn_list, http_exchange);

struct http_server {
    struct event_base *base;
    struct evhttp *evhttp;
    struct http_config config;
    struct acceptor acceptor;
    struct evhttp_bound_socket *bound[ACCEPT_LISTENERS_MAX];
    size_t bound_count;
    struct deadlines deadlines;
    struct conn_list all;
    struct conn_list agenda;
    struct event *agenda_event;
    conn **by_fd; /* evhttp gives its callbacks no room for a pointer of ours */
    size_t by_fd_len;
    size_t reading_bytes; /* sum of `received` */

    struct event *stop_event; /* timer */
    enum stop_step stop;
    struct timeval grace;
    void (*stopped)(void *arg);
    void *stopped_arg;
};

/* ---- Connections: states and ends ---- */

static void set_state(conn *c, enum conn_state state)
{
    c->state = state;
    deadline_enter(&c->server->deadlines, &c->deadline,
                   state <= CONN_LINGERING ? (int)state : DEADLINE_NONE);
}

static void forget_received(conn *c)
{
    c->server->reading_bytes -= c->received;
    c->received = 0;
}

static void release(conn *c)
{
    struct http_server *s = c->server;
    evutil_socket_t fd = bufferevent_getfd(c->bev);
    if (fd >= 0 && (size_t)fd < s->by_fd_len && s->by_fd[fd] == c)
        s->by_fd[fd] = NULL;
    if (c->on_agenda)
        TAILQ_REMOVE(&s->agenda, c, agenda);
    TAILQ_REMOVE(&s->all, c, all);
    deadline_enter(&s->deadlines, &c->deadline, DEADLINE_NONE);
    forget_received(c);
    free(c);
    if (--s->config.stats->connections < s->config.max_connections)
        acceptor_set_full(&s->acceptor, false);
    if (s->stop > STOP_LISTENERS && TAILQ_EMPTY(&s->all))
        s->stopped(s->stopped_arg);
}

static void on_input(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);
static void on_output(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);

/* evhttp is about to free the connection. A request that it has already taken off the connection is
 * left to us; one that is still on it, it frees. */
static void on_close(struct evhttp_connection *evcon, void *arg)
{
    (void)evcon;
    conn *c = arg;
    evbuffer_remove_cb(bufferevent_get_input(c->bev), on_input, c);
    evbuffer_remove_cb(bufferevent_get_output(c->bev), on_output, c);
    if (c->req != NULL && evhttp_request_get_connection(c->req) == NULL)
        evhttp_request_free(c->req);
    if (c->state == CONN_HANDLING && c->gone != NULL)
        c->gone(c->gone_arg);
    release(c);
}

/* ---- The last answer, written without evhttp ---- */

static void on_lingered(void *arg)
{
    conn *c = arg;
    evhttp_connection_free(c->evcon);
}

/* Answers and ends the connection, in any state but CONN_NEW, also in the middle of a request. */
static void fail(conn *c, const struct failure *f)
{
    forget_received(c);
    stats_answered(c->server->config.stats, f->status);
    set_state(c, CONN_LINGERING);
    if (!farewell_begin(&c->farewell, c->bev, f, c->is_head, on_lingered, c))
        evhttp_connection_free(c->evcon);
}

/* ---- Error pages of evhttp ---- */

static void set_page_failure(const conn *c, struct failure *f)
{
    switch (c->page_status) {
    case 413:
        failure_set(f, 413,
                    "the body is larger than %zu bytes (--max-body), or its chunks are malformed: "
                    "send less at a time",
                    c->server->config.max_body);
        break;
    case 417:
        failure_set(f, 417, "the only Expect that is understood is 100-continue");
        break;
    default:
        failure_set(f, c->page_status,
                    "the request line, a header or the framing is malformed, or the head is larger "
                    "than %d bytes",
                    HEADERS_MAX);
    }
}

/* Takes evhttp's page out of the output, and keeps what stands before it: a "100 Continue" that is
 * not written yet. */
static void replace_page(conn *c)
{
    char before[64];
    struct failure f;
    struct evbuffer *out = bufferevent_get_output(c->bev);
    size_t keep = c->page_at < sizeof(before) ? c->page_at : 0;
    set_page_failure(c, &f);
    evbuffer_unfreeze(out, 1);
    evbuffer_remove(out, before, keep);
    evbuffer_drain(out, evbuffer_get_length(out));
    evbuffer_add(out, before, keep);
    evbuffer_freeze(out, 1);
    fail(c, &f);
}

static void put_on_agenda(conn *c)
{
    struct http_server *s = c->server;
    if (c->on_agenda)
        return;
    c->on_agenda = true;
    TAILQ_INSERT_TAIL(&s->agenda, c, agenda);
    event_active(s->agenda_event, EV_TIMEOUT, 0);
}

static void on_output(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
    conn *c = arg;
    char line[13] = "";
    struct evbuffer_ptr at;
    if (c->state != CONN_READING || c->page_status != 0 || info->n_added < sizeof(line) - 1 ||
        evbuffer_ptr_set(buf, &at, info->orig_size, EVBUFFER_PTR_SET) < 0)
        return;
    evbuffer_copyout_from(buf, &at, line, sizeof(line) - 1); /* "HTTP/1.1 413" */
    int status = atoi(line + 9);
    if (status < 400)
        return;
    c->page_status = status;
    c->page_at = info->orig_size;
    put_on_agenda(c);
}

/* ---- Requests arrive ---- */

static void begin_reading(conn *c)
{
    c->is_head = false;
    set_state(c, CONN_READING);
}

static void on_input(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
    conn *c = arg;
    struct http_server *s = c->server;
    (void)buf;
    if (c->state == CONN_IDLE)
        begin_reading(c);
    if (c->state != CONN_READING)
        return;
    c->received += info->n_added;
    s->reading_bytes += info->n_added;
    if (s->reading_bytes > s->config.max_reading && info->n_added > 0) {
        c->overload = true;
        put_on_agenda(c);
    }
}

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

    forget_received(c);
    c->overload = false;
    c->is_head = r.method == HTTP_HEAD;
    TAILQ_FOREACH(header, evhttp_request_get_input_headers(req), next)
    head_take(&r.head, header->key, header->value);
    if (!head_framing_ok(&r.head, reads_body(req), &f)) {
        fail(c, &f);
        return;
    }
    c->req = req;
    c->gone = NULL;
    set_state(c, CONN_HANDLING);
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
    set_state(c, CONN_IDLE);
    if (evbuffer_get_length(bufferevent_get_input(c->bev)) > 0)
        begin_reading(c);
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
        evhttp_connection_free(c->evcon);
        return;
    }
    stats_answered(c->server->config.stats, r->status);
    c->req = NULL;
    c->gone = NULL;
    set_state(c, CONN_WRITING);
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
    struct http_server *s = arg;
    conn *c = calloc(1, sizeof(*c));
    struct bufferevent *bev = bufferevent_socket_new(base, -1, 0);
    if (c == NULL || bev == NULL ||
        evbuffer_add_cb(bufferevent_get_input(bev), on_input, c) == NULL ||
        evbuffer_add_cb(bufferevent_get_output(bev), on_output, c) == NULL)
        diag_die(EXIT_ENVIRONMENT, "out of memory for a connection");
    *c = (conn){.server = s, .state = CONN_NEW, .bev = bev};
    deadline_init(&c->deadline);
    /* One request at a time is read: its body, or a chunk with what is around it. */
    bufferevent_setwatermark(bev, EV_READ, 0, s->config.max_body + HEADERS_MAX);
    bufferevent_incref(bev); /* until attach() */
    TAILQ_INSERT_TAIL(&s->all, c, all);
    put_on_agenda(c);
    if (++s->config.stats->connections >= s->config.max_connections)
        acceptor_set_full(&s->acceptor, true);
    return bev;
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

/* Runs before the loop looks at the new socket. Only now evhttp has made its connection, which it
 * gives to the bufferevent's callbacks; without it the connection has failed already. */
static void attach(conn *c)
{
    struct bufferevent *bev = c->bev;
    void *evcon = NULL;
    bufferevent_getcb(bev, NULL, NULL, NULL, &evcon);
    evutil_socket_t fd = bufferevent_getfd(bev);
    if (evcon == NULL) {
        evbuffer_remove_cb(bufferevent_get_input(bev), on_input, c);
        evbuffer_remove_cb(bufferevent_get_output(bev), on_output, c);
        release(c);
    } else if (!reserve_fd(c->server, (size_t)fd)) {
        diag_die(EXIT_ENVIRONMENT, "out of memory for a connection");
    } else {
        c->evcon = evcon;
        c->server->by_fd[fd] = c;
        evhttp_connection_set_closecb(evcon, on_close, c);
        set_state(c, CONN_IDLE);
    }
    bufferevent_decref(bev);
}

static void on_agenda(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct http_server *s = arg;
    conn *c;
    while ((c = TAILQ_FIRST(&s->agenda)) != NULL) {
        TAILQ_REMOVE(&s->agenda, c, agenda);
        c->on_agenda = false;
        if (c->state == CONN_NEW) {
            attach(c);
        } else if (c->state == CONN_READING && c->page_status != 0) {
            replace_page(c);
        } else if (c->state == CONN_READING && c->overload) {
            struct failure f;
            failure_set_unavailable(&f, STORED_NOTHING,
                                    "too much is being received at once; try again later");
            fail(c, &f);
        }
    }
}

static void expire(struct deadline *d)
{
    conn *c = (conn *)((char *)d - offsetof(conn, deadline));
    if (c->state != CONN_READING) {
        evhttp_connection_free(c->evcon);
        return;
    }
    struct failure f;
    failure_set(&f, 408, "the request was not complete after %lld ms (--request-timeout)",
                (long long)c->server->config.request_timeout_ms);
    fail(c, &f);
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
    if (TAILQ_EMPTY(&s->all))
        s->stopped(s->stopped_arg);
}

static void close_idle(struct http_server *s)
{
    conn *c, *next;
    for (c = TAILQ_FIRST(&s->all); c != NULL; c = next) {
        next = TAILQ_NEXT(c, all);
        if (c->state == CONN_IDLE && !has_unread(c))
            evhttp_connection_free(c->evcon);
    }
}

static void end_grace(struct http_server *s)
{
    conn *c, *next;
    size_t given_up = 0;
    for (c = TAILQ_FIRST(&s->all); c != NULL; c = next) {
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
    const int64_t timeouts[DEADLINE_STATES_MAX] = {
        [CONN_IDLE] = s->config.idle_timeout_ms,
        [CONN_READING] = s->config.request_timeout_ms,
        [CONN_WRITING] = WRITE_TIMEOUT_MS,
        [CONN_LINGERING] = LINGER_MS,
    };
    s->evhttp = evhttp_new(s->base);
    s->agenda_event = event_new(s->base, -1, 0, on_agenda, s);
    s->stop_event = evtimer_new(s->base, on_stop, s);
    return acceptor_init(&s->acceptor, s->base) &&
           deadlines_init(&s->deadlines, s->base, timeouts, expire) && s->evhttp != NULL &&
           s->agenda_event != NULL && s->stop_event != NULL;
}

struct http_server *http_new(struct event_base *base, const struct http_config *config)
{
    struct http_server *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return NULL;
    s->base = base;
    s->config = *config;
    TAILQ_INIT(&s->all);
    TAILQ_INIT(&s->agenda);
    if (!set_up(s)) {
        http_free(s);
        return NULL;
    }
    evhttp_set_max_headers_size(s->evhttp, HEADERS_MAX);
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

static void free_event(struct event *e)
{
    if (e != NULL)
        event_free(e);
}

void http_free(struct http_server *s)
{
    if (s == NULL)
        return;
    s->stop = STOP_NOTHING; /* nobody is told that all is closed */
    acceptor_forget(&s->acceptor);
    on_agenda(-1, 0, s);
    if (s->evhttp != NULL)
        evhttp_free(s->evhttp);
    deadlines_free(&s->deadlines);
    free_event(s->agenda_event);
    acceptor_free(&s->acceptor);
    free_event(s->stop_event);
    free(s->by_fd);
    free(s);
}
