/* http-world.h: a server on a free port of loopback, and clients in the same event loop, for the
 * tests of connections and servers. */
#ifndef TESTS_UNIT_COMMON_HTTP_HTTP_WORLD_H
#define TESTS_UNIT_COMMON_HTTP_HTTP_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/http/answer.h"
#include "common/http/listening.h"
#include "common/http/server.h"
#include "common/timer.h"
#include "common/timestamp.h"

#define PATIENCE_MS 20000
#define MINUTE_MS   60000

struct world {
    struct event_base *base;
    struct event *tick; /* so that nothing waits for ever */
    struct http_config config;
    struct http_server *server;
    struct sockaddr_in address;
    /* The last request. */
    unsigned handled;
    enum http_method method;
    char path[64], body[64], own[2][32];
    const struct http_stats *stats;
    bool hold; /* requests are not answered at once; the last one: */
    struct http_exchange *held;
    unsigned gone;
    bool stopped;
};

struct client {
    int fd;
    struct event *readable;
    char got[65536];
    size_t n;
    bool closed; /* the server sends no more */
    bool reset;
    char answer[8192]; /* the last one that was taken off `got` */
};

/* ---- The server ---- */

static inline void on_gone(void *arg)
{
    struct world *w = arg;
    w->gone++;
    w->held = NULL;
}

static inline void answer_text(struct http_exchange *x, const char *text)
{
    struct buf body = {0};
    buf_add(&body, text, strlen(text));
    http_answer_buf(x, "text/plain", &body);
    buf_free(&body);
}

static inline void on_request(struct http_exchange *x, const struct http_request *r, void *arg)
{
    struct world *w = arg;
    w->handled++;
    w->method = r->method;
    w->stats = http_stats(x);
    snprintf(w->path, sizeof(w->path), "%s", r->path);
    snprintf(w->body, sizeof(w->body), "%.*s", (int)r->body.n, r->body.p);
    for (size_t i = 0; i < 2; i++)
        snprintf(w->own[i], sizeof(w->own[i]), "%s", r->head.own[i] != NULL ? r->head.own[i] : "-");
    if (!w->hold) {
        answer_text(x, w->path);
        return;
    }
    w->held = x;
    http_on_gone(x, on_gone, w);
}

static inline void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
}

/* Limits that no test meets, but for those that it sets before world_serve(). */
static inline void world_init(struct world *w)
{
    const struct timeval interval = timer_timeval(50);
    *w = (struct world){.base = event_base_new()};
    assert_non_null(w->base);
    w->tick = event_new(w->base, -1, EV_PERSIST, on_tick, NULL);
    assert_non_null(w->tick);
    assert_int_equal(event_add(w->tick, &interval), 0);
    w->config = (struct http_config){.max_body = 1000,
                                     .max_reading = 1000000,
                                     .max_connections = 100,
                                     .request_timeout_ms = MINUTE_MS,
                                     .idle_timeout_ms = MINUTE_MS,
                                     .handle = on_request,
                                     .arg = w};
}

static inline void world_serve(struct world *w)
{
    char shown[LISTEN_SHOWN_MAX], err[256];
    socklen_t len = sizeof(w->address);
    w->server = http_new(w->base, &w->config);
    assert_non_null(w->server);
    int fd = listen_open("127.0.0.1:0", shown, err, sizeof(err));
    assert_true(fd >= 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&w->address, &len), 0);
    assert_true(http_listen(w->server, fd));
}

static inline void world_start(struct world *w)
{
    world_init(w);
    world_serve(w);
}

static inline void world_end(struct world *w)
{
    http_free(w->server);
    event_free(w->tick);
    event_base_free(w->base);
}

/* Lets the loop run until the condition holds; fails when it does not in PATIENCE_MS. */
#define WAIT_UNTIL(w, condition)                                                                   \
    do {                                                                                           \
        int64_t wait_end_ms = monotonic_now_ms() + PATIENCE_MS;                                    \
        while (!(condition)) {                                                                     \
            if (monotonic_now_ms() > wait_end_ms)                                                  \
                fail_msg("waited in vain: %s", #condition);                                        \
            event_base_loop((w)->base, EVLOOP_ONCE);                                               \
        }                                                                                          \
    } while (0)

/* ---- Clients ---- */

static inline void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct client *c = arg;
    assert_true(c->n < sizeof(c->got) - 1);
    ssize_t n = recv(fd, c->got + c->n, sizeof(c->got) - 1 - c->n, MSG_DONTWAIT);
    if (n > 0) {
        c->n += (size_t)n;
        return;
    }
    if (n < 0 && errno == EAGAIN)
        return;
    c->closed = true;
    c->reset = n < 0;
    event_del(c->readable);
}

/* The kernel completes the connection; the server accepts it when the loop runs. */
static inline void client_open(struct client *c, struct world *w)
{
    memset(c, 0, sizeof(*c));
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(c->fd >= 0);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&w->address, sizeof(w->address)), 0);
    c->readable = event_new(w->base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
    assert_non_null(c->readable);
    assert_int_equal(event_add(c->readable, NULL), 0);
}

static inline void client_close(struct client *c)
{
    event_free(c->readable);
    close(c->fd);
}

static inline void client_send(struct client *c, const char *text)
{
    assert_int_equal(send(c->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Takes a whole answer off what has come. One to HEAD has no body. */
static inline bool take_answer(struct client *c, bool to_head)
{
    c->got[c->n] = '\0';
    const char *end = strstr(c->got, "\r\n\r\n");
    const char *length = strstr(c->got, "Content-Length: ");
    if (end == NULL)
        return false;
    assert_true(length != NULL && length < end);
    size_t body = to_head ? 0 : strtoul(length + strlen("Content-Length: "), NULL, 10);
    size_t n = (size_t)(end + 4 - c->got) + body;
    if (c->n < n)
        return false;
    assert_true(n < sizeof(c->answer));
    memcpy(c->answer, c->got, n);
    c->answer[n] = '\0';
    c->n -= n;
    memmove(c->got, c->got + n, c->n);
    return true;
}

static inline void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("there is no \"%s\" in: %s", part, text);
}

/* Waits for the next answer, which has this status. */
static inline void client_gets(struct client *c, struct world *w, int status)
{
    char line[32];
    WAIT_UNTIL(w, take_answer(c, false));
    snprintf(line, sizeof(line), "HTTP/1.1 %d ", status);
    if (strncmp(c->answer, line, strlen(line)) != 0)
        fail_msg("not %d: %s", status, c->answer);
}

/* The next answer has this status, is a JSON error with `part` in its text, and the last. */
static inline void client_is_refused(struct client *c, struct world *w, int status,
                                     const char *part)
{
    client_gets(c, w, status);
    assert_has(c->answer, "Content-Type: application/json\r\n");
    assert_has(c->answer, "Connection: close\r\n");
    assert_has(c->answer, "\r\n\r\n{\"error\":\"");
    assert_has(c->answer, part);
    WAIT_UNTIL(w, c->closed);
    assert_false(c->reset);
    assert_int_equal(c->n, 0);
}

/* Whether the server serves, and how many connections but this one it has open. */
static inline size_t others_open(struct world *w)
{
    struct client c;
    bool hold = w->hold;
    w->hold = false;
    client_open(&c, w);
    client_send(&c, "GET /others HTTP/1.1\r\nHost: x\r\n\r\n");
    client_gets(&c, w, 200);
    size_t open = w->stats->connections - 1;
    client_close(&c);
    WAIT_UNTIL(w, w->stats->connections == open);
    w->hold = hold;
    return open;
}

#endif
