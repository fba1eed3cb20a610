/* connection.c: the states of a connection, and the work that evhttp must not see. */
#include "common/http/connection.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/diag.h"

#define WRITE_TIMEOUT_MS 30000
#define LINGER_MS        2000

#define LIBEVENT_READ_MAX 4096 /* bytes of one read */

/* ---- States and ends ---- */

static const char *const state_names[] = {
    [CONN_IDLE] = "idle",           [CONN_READING] = "reading", [CONN_WRITING] = "writing",
    [CONN_LINGERING] = "lingering", [CONN_NEW] = "new",         [CONN_HANDLING] = "handling",
    [CONN_CLOSED] = "closed",
};

void conn_set_state(conn *c, enum conn_state state)
{
    diag_debug("http %d: %s -> %s", c->fd, state_names[c->state], state_names[state]);
    c->state = state;
    deadline_enter(&c->pool->deadlines, &c->deadline,
                   state <= CONN_LINGERING ? (int)state : DEADLINE_NONE);
}

static void forget_received(conn *c)
{
    c->pool->reading_bytes -= c->received;
    c->received = 0;
}

void conn_end(conn *c)
{
    evhttp_connection_free(c->evcon); /* on_close() follows */
}

void conn_count_answer(conn *c, int status)
{
    if (status >= 0 && status < HTTP_STATUS_MAX)
        c->pool->stats.answered[status]++;
}

static void on_lingered(void *arg)
{
    conn_end(arg);
}

void conn_fail(conn *c, const struct failure *f)
{
    forget_received(c);
    conn_count_answer(c, f->status);
    conn_set_state(c, CONN_LINGERING);
    if (!farewell_begin(&c->farewell, c->bev, f, c->is_head, on_lingered, c))
        conn_end(c);
}

/* " (--max-body)", or nothing when the program has no such option. */
#define OPTION(c, name) ((c)->pool->config->has_options ? " (" name ")" : "")

/* ---- Error pages of evhttp ---- */

bool conn_chunks_ok(const conn *c, struct failure *f)
{
    if (c->bad_chunks)
        failure_set(f, 400,
                    "the chunks of the body are malformed: each is its size in hexadecimal digits, "
                    "CR LF, so many bytes, CR LF");
    return !c->bad_chunks;
}

static void set_page_failure(const conn *c, struct failure *f)
{
    if (!conn_chunks_ok(c, f))
        return;
    switch (c->page_status) {
    case 413:
        failure_set(f, 413, "the body is larger than %zu bytes%s: send less at a time",
                    c->pool->config->max_body, OPTION(c, "--max-body"));
        break;
    case 417:
        failure_set(f, 417, "the only Expect that is understood is 100-continue");
        break;
    default:
        failure_set(f, c->page_status,
                    "the request line, a header or the framing is malformed, or the head is larger "
                    "than %d bytes",
                    CONN_HEAD_MAX);
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
    conn_fail(c, &f);
}

static void put_on_agenda(conn *c)
{
    struct conn_pool *p = c->pool;
    if (c->on_agenda)
        return;
    c->on_agenda = true;
    TAILQ_INSERT_TAIL(&p->agenda, c, agenda);
    event_active(p->agenda_event, EV_TIMEOUT, 0);
}

static void on_output(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
    conn *c = arg;
    char line[13] = "";
    struct evbuffer_ptr at;
    if (c->state != CONN_READING || c->page_status != 0 || info->n_added < sizeof(line) - 1 ||
        evbuffer_ptr_set(buf, &at, info->orig_size, EVBUFFER_PTR_SET) < 0)
        return;
    /* "HTTP/1.1 413"; the bufferevent lets nobody but itself look, once it has written. */
    evbuffer_unfreeze(buf, 1);
    evbuffer_copyout_from(buf, &at, line, sizeof(line) - 1);
    evbuffer_freeze(buf, 1);
    int status = atoi(line + 9);
    if (status < 400)
        return;
    c->page_status = status;
    c->page_at = info->orig_size;
    put_on_agenda(c);
}

/* ---- Requests arrive ---- */

/* Bytes that wait to be understood, at most. */
static size_t input_max(const struct conn_pool *p)
{
    return p->config->max_body + CONN_HEAD_MAX;
}

static void begin_reading(conn *c)
{
    c->is_head = false;
    c->chunks = (struct chunks){0};
    conn_set_state(c, CONN_READING);
}

/* Shows the input from `offset` on to the check of the chunks. */
static void check_chunks(conn *c, struct evbuffer *buf, size_t offset)
{
    struct evbuffer_ptr at;
    struct evbuffer_iovec piece[1];
    size_t len = evbuffer_get_length(buf);
    while (offset < len && c->chunks.state != CHUNKS_DONE && !c->bad_chunks) {
        if (evbuffer_ptr_set(buf, &at, offset, EVBUFFER_PTR_SET) < 0 ||
            evbuffer_peek(buf, -1, &at, piece, 1) < 1)
            return;
        c->bad_chunks = !chunks_feed(&c->chunks, piece[0].iov_base, piece[0].iov_len);
        offset += piece[0].iov_len;
    }
    if (c->bad_chunks)
        put_on_agenda(c);
}

/* How many bytes the kernel has, of those that may be read now. */
static size_t ready_bytes(const conn *c, const struct evbuffer *buf)
{
    int ready = 0;
    size_t limit = input_max(c->pool), len = evbuffer_get_length(buf);
    if (len >= limit || ioctl(c->fd, FIONREAD, &ready) != 0 || ready <= 0)
        return 0;
    return (size_t)ready < limit - len ? (size_t)ready : limit - len;
}

/* libevent reads 4 KiB at a time, with three system calls. A large body costs more by that than by
 * all else. So what has come, too, is read here, with two. An error, or the end, comes again at
 * libevent's next read. */
static void read_rest(conn *c, struct evbuffer *buf)
{
    struct evbuffer_iovec room;
    size_t n = ready_bytes(c, buf);
    if (n == 0 || evbuffer_reserve_space(buf, (ev_ssize_t)n, &room, 1) != 1)
        return;
    ssize_t got = read(c->fd, room.iov_base, n < room.iov_len ? n : room.iov_len);
    if (got <= 0)
        return;
    room.iov_len = (size_t)got;
    evbuffer_commit_space(buf, &room, 1); /* on_input() again */
}

static void on_input(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
    conn *c = arg;
    struct conn_pool *p = c->pool;
    if (c->state == CONN_IDLE)
        begin_reading(c);
    if (c->state != CONN_READING)
        return;
    c->received += info->n_added;
    p->reading_bytes += info->n_added;
    if (info->n_added > 0)
        check_chunks(c, buf, evbuffer_get_length(buf) - info->n_added);
    if (p->reading_bytes > p->config->max_reading && info->n_added > 0) {
        c->overload = true;
        put_on_agenda(c);
    } else if (info->n_added == LIBEVENT_READ_MAX) {
        read_rest(c, buf);
    }
}

void conn_request_complete(conn *c, struct evhttp_request *req)
{
    forget_received(c);
    c->overload = false;
    c->req = req;
    c->gone = NULL;
    conn_set_state(c, CONN_HANDLING);
}

void conn_answered(conn *c)
{
    struct evbuffer *input = bufferevent_get_input(c->bev);
    conn_set_state(c, CONN_IDLE);
    if (evbuffer_get_length(input) == 0)
        return;
    begin_reading(c);
    check_chunks(c, input, 0);
}

static void expire(struct deadline *d)
{
    conn *c = (conn *)((char *)d - offsetof(conn, deadline));
    if (c->state != CONN_READING) {
        conn_end(c);
        return;
    }
    struct failure f;
    failure_set(&f, 408, "the request was not complete after %lld ms%s",
                (long long)c->pool->config->request_timeout_ms, OPTION(c, "--request-timeout"));
    conn_fail(c, &f);
}

/* ---- Begin and end ---- */

struct bufferevent *conn_new(struct conn_pool *p)
{
    conn *c = calloc(1, sizeof(*c));
    struct bufferevent *bev = bufferevent_socket_new(p->base, -1, 0);
    if (c == NULL || bev == NULL ||
        evbuffer_add_cb(bufferevent_get_input(bev), on_input, c) == NULL ||
        evbuffer_add_cb(bufferevent_get_output(bev), on_output, c) == NULL)
        diag_die(EXIT_ENVIRONMENT, "out of memory for a connection");
    *c = (conn){.pool = p, .state = CONN_NEW, .fd = -1, .bev = bev};
    deadline_init(&c->deadline);
    /* One request at a time is read: its body, or a chunk with what is around it. */
    bufferevent_setwatermark(bev, EV_READ, 0, input_max(p));
    bufferevent_incref(bev); /* until attach() */
    TAILQ_INSERT_TAIL(&p->all, c, all);
    p->stats.connections++;
    put_on_agenda(c);
    return bev;
}

/* Frees what is ours; the bufferevent is evhttp's. */
static void free_conn(conn *c)
{
    struct conn_pool *p = c->pool;
    conn_set_state(c, CONN_CLOSED);
    evbuffer_remove_cb(bufferevent_get_input(c->bev), on_input, c);
    evbuffer_remove_cb(bufferevent_get_output(c->bev), on_output, c);
    if (c->on_agenda)
        TAILQ_REMOVE(&p->agenda, c, agenda);
    TAILQ_REMOVE(&p->all, c, all);
    if (c->fd >= 0)
        p->by_fd[c->fd] = NULL;
    forget_received(c);
    p->stats.connections--;
    free(c);
    p->closed(p->arg);
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
    free_conn(c);
}

static bool reserve_fd(struct conn_pool *p, size_t fd)
{
    if (fd < p->by_fd_len)
        return true;
    size_t len = fd + 64;
    conn **by_fd = realloc(p->by_fd, len * sizeof(conn *));
    if (by_fd == NULL)
        return false;
    memset(by_fd + p->by_fd_len, 0, (len - p->by_fd_len) * sizeof(conn *));
    p->by_fd = by_fd;
    p->by_fd_len = len;
    return true;
}

conn *conn_find(const struct conn_pool *p, struct evhttp_connection *evcon)
{
    return p->by_fd[bufferevent_getfd(evhttp_connection_get_bufferevent(evcon))];
}

/* Only now evhttp has made its connection, which it gives to the bufferevent's callbacks; without
 * it the connection has failed already. Runs before the loop looks at the socket. */
static void attach(conn *c)
{
    struct bufferevent *bev = c->bev;
    void *evcon = NULL;
    bufferevent_getcb(bev, NULL, NULL, NULL, &evcon);
    if (evcon == NULL) {
        free_conn(c);
    } else {
        c->evcon = evcon;
        c->fd = bufferevent_getfd(bev);
        if (!reserve_fd(c->pool, (size_t)c->fd))
            diag_die(EXIT_ENVIRONMENT, "out of memory for a connection");
        c->pool->by_fd[c->fd] = c;
        evhttp_connection_set_closecb(evcon, on_close, c);
        conn_set_state(c, CONN_IDLE);
    }
    bufferevent_decref(bev);
}

/* ---- All connections ---- */

static void on_agenda(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct conn_pool *p = arg;
    conn *c;
    while ((c = TAILQ_FIRST(&p->agenda)) != NULL) {
        struct failure f;
        TAILQ_REMOVE(&p->agenda, c, agenda);
        c->on_agenda = false;
        if (c->state == CONN_NEW) {
            attach(c);
        } else if (c->state == CONN_READING && c->page_status != 0) {
            replace_page(c);
        } else if (c->state == CONN_READING && !conn_chunks_ok(c, &f)) {
            conn_fail(c, &f);
        } else if (c->state == CONN_READING && c->overload) {
            failure_set_unavailable(&f, STORED_NOTHING,
                                    "too much is being received at once; try again later");
            conn_fail(c, &f);
        }
    }
}

bool conn_pool_init(struct conn_pool *p, struct event_base *base, const struct http_config *config,
                    void (*closed)(void *arg), void *arg)
{
    const int64_t timeouts[DEADLINE_STATES_MAX] = {
        [CONN_IDLE] = config->idle_timeout_ms,
        [CONN_READING] = config->request_timeout_ms,
        [CONN_WRITING] = WRITE_TIMEOUT_MS,
        [CONN_LINGERING] = LINGER_MS,
    };
    *p = (struct conn_pool){.config = config, .base = base, .closed = closed, .arg = arg};
    TAILQ_INIT(&p->all);
    TAILQ_INIT(&p->agenda);
    p->agenda_event = event_new(base, -1, 0, on_agenda, p);
    return deadlines_init(&p->deadlines, base, timeouts, expire) && p->agenda_event != NULL;
}

void conn_pool_settle(struct conn_pool *p)
{
    on_agenda(-1, 0, p);
}

void conn_pool_free(struct conn_pool *p)
{
    deadlines_free(&p->deadlines);
    if (p->agenda_event != NULL)
        event_free(p->agenda_event);
    free(p->by_fd);
}
