/* redis-world.h: a link, its events and callbacks counted, for the tests of the link. */
#ifndef TESTS_UNIT_COMMON_REDIS_REDIS_WORLD_H
#define TESTS_UNIT_COMMON_REDIS_REDIS_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <event2/event.h>

#include "common/redis/link.h"
#include "common/redis/url.h"
#include "common/redis/resp.h"
#include "tests/unit/common/redis/redis-server.h"

#define PATIENCE_S  10
#define REPLIES_MAX 2048

enum when { NEVER, IN_READY, IN_DOWN, IN_FAILED, IN_REPLY, IN_NULL };

/* One link, and all that is known of it. */
struct world {
    struct redis_server server;
    struct event_base *base;
    struct redis_link_config config;
    struct redis_url url;
    struct redis_link *link; /* NULL after it was freed */
    unsigned ready, down, failed;
    char why[256];
    unsigned replies, nulls;       /* callbacks that have run */
    unsigned answered_before_down; /* callbacks that had run when `down` did */
    int64_t integer[REPLIES_MAX];  /* of the replies, in their order */
    bool sending;                  /* redis_link_send() or _reset() is on the stack */
    enum when free_at, reset_at;   /* what to do in which callback */
    bool nulls_inside_free;        /* NULL callbacks ran while redis_link_free() was on the stack */
    bool freeing;
    struct buf command;
};

/* ---- The world ---- */

static inline void act(struct world *w, enum when when)
{
    assert_false(w->sending);
    if (w->free_at == when && w->link != NULL) {
        struct redis_link *link = w->link;
        w->link = NULL;
        w->freeing = true;
        redis_link_free(link);
        w->freeing = false;
    } else if (w->reset_at == when) {
        w->reset_at = NEVER;
        w->sending = true;
        redis_link_reset(w->link, "the test wants it");
        w->sending = false;
        assert_false(redis_link_ready(w->link));
    }
}

static inline void on_ready(void *arg)
{
    struct world *w = arg;
    assert_true(redis_link_ready(w->link));
    w->ready++;
    act(w, IN_READY);
}

static inline void on_down(const char *why, void *arg)
{
    struct world *w = arg;
    assert_false(redis_link_ready(w->link));
    assert_int_equal(redis_link_pending(w->link), 0);
    w->down++;
    w->answered_before_down = w->replies + w->nulls;
    snprintf(w->why, sizeof(w->why), "%s", why);
    act(w, IN_DOWN);
    assert_true(strlen(why) > 0); /* still readable when the link was freed */
}

static inline void on_failed(const char *why, void *arg)
{
    struct world *w = arg;
    w->failed++;
    snprintf(w->why, sizeof(w->why), "%s", why);
    act(w, IN_FAILED);
    assert_true(strlen(why) > 0);
}

static inline void on_reply(const struct redis_reply *reply, void *arg)
{
    struct world *w = arg;
    assert_false(w->sending);
    if (reply == NULL) {
        w->nulls++;
        w->nulls_inside_free |= w->freeing;
        if (w->link != NULL)
            assert_false(redis_link_send(w->link, "*1\r\n$4\r\nPING\r\n", 14, on_reply, w));
        act(w, IN_NULL);
        return;
    }
    assert_true(w->replies < REPLIES_MAX);
    w->integer[w->replies++] = reply_integer(reply);
    act(w, IN_REPLY);
}

static inline void give_up_waiting(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    *(bool *)arg = true;
}

/* Runs the loop until *counter is `target`; fails the test when that takes too long. */
static inline void run_until(struct world *w, const unsigned *counter, unsigned target)
{
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    bool late = false;
    struct event *timer = evtimer_new(w->base, give_up_waiting, &late);
    assert_non_null(timer);
    assert_int_equal(evtimer_add(timer, &patience), 0);
    while (*counter < target && !late)
        assert_int_equal(event_base_loop(w->base, EVLOOP_ONCE), 0);
    event_free(timer);
    if (late)
        fail_msg("waited in vain: ready %u, down %u, failed %u, replies %u, nulls %u, last \"%s\"",
                 w->ready, w->down, w->failed, w->replies, w->nulls, w->why);
}

/* Turns of the loop that find nothing to wait for. */
static inline void run_briefly(struct world *w)
{
    for (int i = 0; i < 5; i++)
        event_base_loop(w->base, EVLOOP_NONBLOCK);
}

static inline void open_link(struct world *w, const char *url)
{
    static const struct redis_link_events events = {
        .ready = on_ready, .down = on_down, .failed = on_failed};
    char err[256] = "";
    if (!redis_url_parse(&w->url, url, err, sizeof(err)))
        fail_msg("%s", err);
    w->config.url = &w->url;
    w->link = redis_link_new(w->base, &w->config, &events, w);
    assert_non_null(w->link);
    assert_int_equal(w->ready + w->failed, 0);
}

static inline void open_ready(struct world *w)
{
    open_link(w, w->server.url);
    run_until(w, &w->ready, 1);
}

/* "SET key value" → a command of three arguments; `command` is split at spaces. */
static inline bool send_words(struct world *w, const char *command, redis_reply_cb *cb, void *arg)
{
    char copy[256];
    const char *words[16];
    size_t count = 0;
    bool sent;
    snprintf(copy, sizeof(copy), "%s", command);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        words[count++] = word;
    w->sending = true;
    sent = redis_link_send_words(w->link, words, count, cb, arg);
    w->sending = false;
    return sent;
}

static inline void must_send(struct world *w, const char *command)
{
    assert_true(send_words(w, command, on_reply, w));
}

static inline int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    w->base = event_base_new();
    assert_non_null(w->base);
    w->config = (struct redis_link_config){.name = "test",
                                           .connect_timeout_ms = 2000,
                                           .reply_timeout_ms = 5000,
                                           .backoff_min_ms = 5,
                                           .backoff_max_ms = 40};
    *state = w;
    return 0;
}

static inline int setup_server(void **state)
{
    setup(state);
    redis_server_start(&((struct world *)*state)->server);
    return 0;
}

static inline int setup_password(void **state)
{
    setup(state);
    ((struct world *)*state)->server.password = "sesame";
    redis_server_start(&((struct world *)*state)->server);
    return 0;
}

static inline int teardown(void **state)
{
    struct world *w = *state;
    if (w->link != NULL)
        redis_link_free(w->link);
    redis_url_free(&w->url);
    event_base_free(w->base);
    redis_server_stop(&w->server);
    buf_free(&w->command);
    free(w);
    return 0;
}

/* A copy of what a reply said, as text: "status OK", "array [integer 1, nil]". */
struct seen {
    char text[256];
    unsigned count;
};

static inline void describe(const struct redis_reply *r, char *out, size_t size)
{
    static const char *const names[] = {"string", "status", "error", "integer", "nil", "array"};
    struct span s = reply_span(r);
    size_t used = (size_t)snprintf(out, size, "%s", names[reply_type(r)]);
    if (reply_type(r) == REPLY_INTEGER)
        snprintf(out + used, size - used, " %lld", (long long)reply_integer(r));
    else if (s.n > 0)
        snprintf(out + used, size - used, " %.*s", (int)s.n, s.p);
    for (size_t i = 0; i < reply_count(r); i++) {
        strcat(out, i == 0 ? " [" : ", ");
        describe(reply_at(r, i), out + strlen(out), size - strlen(out));
    }
    if (reply_count(r) > 0)
        strcat(out, "]");
}

static inline void on_seen(const struct redis_reply *reply, void *arg)
{
    struct seen *seen = arg;
    assert_non_null(reply);
    describe(reply, seen->text, sizeof(seen->text));
    seen->count++;
}

static inline void expect_reply(struct world *w, const char *command, const char *expected)
{
    struct seen seen = {0};
    assert_true(send_words(w, command, on_seen, &seen));
    assert_int_equal(redis_link_pending(w->link), 1);
    run_until(w, &seen.count, 1);
    assert_int_equal(redis_link_pending(w->link), 0);
    assert_string_equal(seen.text, expected);
}

#define WITH_SERVER(test)   cmocka_unit_test_setup_teardown(test, setup_server, teardown)
#define WITH_PASSWORD(test) cmocka_unit_test_setup_teardown(test, setup_password, teardown)
#define WITHOUT(test)       cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
