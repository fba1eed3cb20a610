/* The link against a private redis-server, and against servers that misbehave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>

#include "common/redis-link.h"
#include "common/resp.h"
#include "tests/unit/redis-server.h"

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

/* ---- the world ---- */

static void act(struct world *w, enum when when)
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

static void on_ready(void *arg)
{
    struct world *w = arg;

    assert_true(redis_link_ready(w->link));
    w->ready++;
    act(w, IN_READY);
}

static void on_down(const char *why, void *arg)
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

static void on_failed(const char *why, void *arg)
{
    struct world *w = arg;

    w->failed++;
    snprintf(w->why, sizeof(w->why), "%s", why);
    act(w, IN_FAILED);
    assert_true(strlen(why) > 0);
}

static void on_reply(const struct redis_reply *reply, void *arg)
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

static void give_up_waiting(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    *(bool *)arg = true;
}

/* Runs the loop until *counter is `target`; fails the test when that takes too long. */
static void run_until(struct world *w, const unsigned *counter, unsigned target)
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
static void run_briefly(struct world *w)
{
    for (int i = 0; i < 5; i++)
        event_base_loop(w->base, EVLOOP_NONBLOCK);
}

static void open_link(struct world *w, const char *url)
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

static void open_ready(struct world *w)
{
    open_link(w, w->server.url);
    run_until(w, &w->ready, 1);
}

/* "SET key value" → a command of three arguments; `command` is split at spaces. */
static bool send_words(struct world *w, const char *command, redis_reply_cb *cb, void *arg)
{
    char copy[256];
    const char *words[16];
    size_t count = 0;
    bool sent;

    snprintf(copy, sizeof(copy), "%s", command);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        words[count++] = word;
    buf_clear(&w->command);
    resp_begin(&w->command, count);
    for (size_t i = 0; i < count; i++)
        resp_arg_str(&w->command, words[i]);
    assert_false(w->command.failed);
    w->sending = true;
    sent = redis_link_send(w->link, w->command.data, w->command.len, cb, arg);
    w->sending = false;
    return sent;
}

static void must_send(struct world *w, const char *command)
{
    assert_true(send_words(w, command, on_reply, w));
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    w->base = event_base_new();
    assert_non_null(w->base);
    w->config = (struct redis_link_config){.connect_timeout_ms = 2000,
                                           .reply_timeout_ms = 5000,
                                           .backoff_min_ms = 5,
                                           .backoff_max_ms = 40};
    *state = w;
    return 0;
}

static int setup_server(void **state)
{
    setup(state);
    redis_server_start(&((struct world *)*state)->server);
    return 0;
}

static int setup_password(void **state)
{
    setup(state);
    ((struct world *)*state)->server.password = "sesame";
    redis_server_start(&((struct world *)*state)->server);
    return 0;
}

static int teardown(void **state)
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

/* ---- commands and replies ---- */

/* A copy of what a reply said, as text: "status OK", "array [integer 1, nil]". */
struct seen {
    char text[256];
    unsigned count;
};

static void describe(const struct redis_reply *r, char *out, size_t size)
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

static void on_seen(const struct redis_reply *reply, void *arg)
{
    struct seen *seen = arg;

    assert_non_null(reply);
    describe(reply, seen->text, sizeof(seen->text));
    seen->count++;
}

static void expect_reply(struct world *w, const char *command, const char *expected)
{
    struct seen seen = {0};

    assert_true(send_words(w, command, on_seen, &seen));
    assert_int_equal(redis_link_pending(w->link), 1);
    run_until(w, &seen.count, 1);
    assert_int_equal(redis_link_pending(w->link), 0);
    assert_string_equal(seen.text, expected);
}

static void test_reply_types(void **state)
{
    struct world *w = *state;

    open_ready(w);
    assert_int_equal(w->failed, 0);
    expect_reply(w, "SET key value", "status OK");
    expect_reply(w, "GET key", "string value");
    expect_reply(w, "GET none", "nil");
    expect_reply(w, "INCRBY n -7", "integer -7");
    expect_reply(w, "MGET key none", "array [string value, nil]");
    expect_reply(w, "MGET", "error ERR wrong number of arguments for 'mget' command");
    expect_reply(w, "EVAL return{1,{2,'x'},{}} 0",
                 "array [integer 1, array [integer 2, string x], array]");
}

static void on_error(const struct redis_reply *reply, void *arg)
{
    assert_non_null(reply);
    assert_true(reply_is_error(reply, "NOSCRIPT"));
    assert_false(reply_is_error(reply, "NOSCRI"));
    assert_false(reply_is_error(reply, "NOSCRIPTS"));
    assert_false(reply_is_error(reply, "ERR"));
    assert_int_equal(reply_integer(reply), 0);
    assert_int_equal(reply_count(reply), 0);
    (*(unsigned *)arg)++;
}

static void test_error_codes(void **state)
{
    struct world *w = *state;
    unsigned count = 0;

    open_ready(w);
    assert_true(
        send_words(w, "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0", on_error, &count));
    run_until(w, &count, 1);
}

static void test_replies_come_in_order(void **state)
{
    struct world *w = *state;

    open_ready(w);
    for (unsigned i = 0; i < 1000; i++) {
        must_send(w, "INCR n");
        assert_int_equal(redis_link_pending(w->link), i + 1);
    }
    assert_int_equal(w->replies, 0);
    run_until(w, &w->replies, 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(w->integer[i], i + 1);
}

static void on_length(const struct redis_reply *reply, void *arg)
{
    assert_non_null(reply);
    assert_int_equal(reply_type(reply), REPLY_STRING);
    *(unsigned *)arg = (unsigned)reply_span(reply).n;
}

/* Larger than any socket buffer: partial writes and partial replies. */
static void test_large_command_and_reply(void **state)
{
    struct world *w = *state;
    const unsigned size = 8u << 20;
    char *data = malloc(size);
    unsigned length = 0;

    assert_non_null(data);
    memset(data, '$', size);
    open_ready(w);
    resp_begin(&w->command, 2);
    resp_arg_str(&w->command, "ECHO");
    resp_arg(&w->command, data, size);
    free(data);
    assert_true(redis_link_send(w->link, w->command.data, w->command.len, on_length, &length));
    run_until(w, &length, size);
    assert_int_equal(length, size);
    expect_reply(w, "PING", "status PONG");
}

/* ---- the end of connections ---- */

static void test_send_needs_a_connection(void **state)
{
    struct world *w = *state;

    open_link(w, w->server.url);
    assert_false(redis_link_ready(w->link));
    assert_false(send_words(w, "PING", on_reply, w));
    run_until(w, &w->ready, 1);
    assert_int_equal(w->replies + w->nulls, 0);
}

static void test_kill_and_restart(void **state)
{
    struct world *w = *state;

    open_ready(w);
    for (int i = 0; i < 100; i++)
        must_send(w, "BLPOP nothing 0");
    run_briefly(w);
    redis_server_kill(&w->server);
    run_until(w, &w->down, 1);
    assert_int_equal(w->nulls, 100);
    assert_int_equal(w->answered_before_down, 100);
    assert_int_equal(w->replies, 0);
    run_until(w, &w->failed, 3);
    redis_server_start(&w->server);
    run_until(w, &w->ready, 2);
    assert_int_equal(w->down, 1);
    expect_reply(w, "PING", "status PONG");
}

static void test_stopped_server(void **state)
{
    struct world *w = *state;

    w->config.reply_timeout_ms = 300;
    w->config.connect_timeout_ms = 300;
    open_ready(w);
    expect_reply(w, "PING", "status PONG");
    kill(w->server.pid, SIGSTOP);
    must_send(w, "PING");
    run_until(w, &w->down, 1);
    assert_int_equal(w->nulls, 1);
    assert_string_equal(w->why, "no reply within 300 ms");
    w->failed = 0;
    run_until(w, &w->failed, 1);
    assert_string_equal(w->why, "connected, but no answer to PING within 300 ms");
    kill(w->server.pid, SIGCONT);
    run_until(w, &w->ready, 2);
}

/* The timeout belongs to the oldest command: a steady stream of young ones, with replies, must not
 * trip it. */
static void test_timeout_is_of_the_oldest(void **state)
{
    struct world *w = *state;

    w->config.reply_timeout_ms = 500;
    open_ready(w);
    for (unsigned i = 1; i <= 4; i++) {
        must_send(w, "BLPOP nothing 0.2");
        run_until(w, &w->replies, i);
    }
    assert_int_equal(w->down, 0);
}

/* ---- connections that never come up ---- */

static void test_refused_is_retried(void **state)
{
    struct world *w = *state;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* bound, but it does not listen */
    char url[64];

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    snprintf(url, sizeof(url), "redis://127.0.0.1:%d", ntohs(sa.sin_port));
    open_link(w, url);
    run_until(w, &w->failed, 3);
    assert_string_equal(w->why, "Connection refused");
    assert_int_equal(w->ready + w->down, 0);
    close(fd);
}

static void test_missing_socket_is_retried(void **state)
{
    struct world *w = *state;

    open_link(w, "unix:///nonexistent/redis.sock");
    run_until(w, &w->failed, 3);
    assert_string_equal(w->why, "No such file or directory");
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void test_backoff_doubles(void **state)
{
    struct world *w = *state;
    int64_t start = now_ms();

    w->config.backoff_min_ms = 20;
    w->config.backoff_max_ms = 80;
    open_link(w, "unix:///nonexistent/redis.sock");
    run_until(w, &w->failed, 6);
    assert_true(now_ms() - start >=
                (20 + 40 + 80 + 80 + 80) / 2 - 5); /* jitter takes half at most */
}

static void test_wrong_password(void **state)
{
    struct world *w = *state;
    char url[160];

    snprintf(url, sizeof(url), "unix://:wrong@%s", w->server.socket);
    open_link(w, url);
    run_until(w, &w->failed, 2);
    assert_string_equal(w->why, "Redis answers AUTH with \"WRONGPASS invalid username-password "
                                "pair or user is disabled.\"");
    assert_int_equal(w->ready, 0);
}

static void test_missing_password(void **state)
{
    struct world *w = *state;

    open_link(w, w->server.url);
    run_until(w, &w->failed, 1);
    assert_string_equal(w->why, "Redis answers PING with \"NOAUTH Authentication required.\"");
}

static void test_password_alone(void **state)
{
    struct world *w = *state;
    char url[160];

    snprintf(url, sizeof(url), "unix://:sesame@%s", w->server.socket);
    open_link(w, url);
    run_until(w, &w->ready, 1);
    expect_reply(w, "ACL WHOAMI", "string default");
}

/* A user of its own, who may not even PING. */
static void test_user_and_password(void **state)
{
    struct world *w = *state;
    char url[160];

    open_ready(w);
    expect_reply(w, "ACL SETUSER logd on >p@ss/word ~* +select +acl", "status OK");
    redis_link_free(w->link);
    redis_url_free(&w->url);
    w->ready = 0;
    snprintf(url, sizeof(url), "unix://logd:p%%40ss%%2Fword@%s?db=1", w->server.socket);
    open_link(w, url);
    run_until(w, &w->ready, 1);
    expect_reply(w, "ACL WHOAMI", "string logd");
}

static void test_select(void **state)
{
    struct world *w = *state;
    char url[160];

    snprintf(url, sizeof(url), "%s?db=7", w->server.url);
    open_link(w, url);
    run_until(w, &w->ready, 1);
    expect_reply(w, "SET key value", "status OK");
    expect_reply(w, "SELECT 0", "status OK");
    expect_reply(w, "GET key", "nil");
    expect_reply(w, "SELECT 7", "status OK");
    expect_reply(w, "GET key", "string value");
}

static void test_select_out_of_range(void **state)
{
    struct world *w = *state;
    char url[160];

    snprintf(url, sizeof(url), "%s?db=99", w->server.url);
    open_link(w, url);
    run_until(w, &w->failed, 2);
    assert_string_equal(w->why, "Redis answers SELECT with \"ERR DB index is out of range\"");
}

/* ---- servers that misbehave ---- */

struct fake {
    struct evconnlistener *listener;
    const char *greeting,
        *answer; /* sent when accepting, and to whatever comes first; NULL: nothing */
    bool answered;
    struct bufferevent *peer;
    char dir[64], socket[96], url[128];
};

static void fake_read(struct bufferevent *peer, void *arg)
{
    struct fake *f = arg;

    evbuffer_drain(bufferevent_get_input(peer), SIZE_MAX);
    if (f->answer != NULL && !f->answered)
        bufferevent_write(peer, f->answer, strlen(f->answer));
    f->answered = true;
}

static void fake_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *sa,
                        int len, void *arg)
{
    struct fake *f = arg;

    (void)sa;
    (void)len;
    if (f->peer != NULL)
        bufferevent_free(f->peer);
    f->answered = false;
    f->peer = bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(f->peer, fake_read, NULL, NULL, f);
    bufferevent_enable(f->peer, EV_READ | EV_WRITE);
    if (f->greeting != NULL)
        bufferevent_write(f->peer, f->greeting, strlen(f->greeting));
}

static void fake_start(struct fake *f, struct event_base *base)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};

    strcpy(f->dir, "/tmp/redis-fake-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->socket, sizeof(f->socket), "%s/s", f->dir);
    snprintf(f->url, sizeof(f->url), "unix://%s", f->socket);
    strcpy(sa.sun_path, f->socket);
    f->listener = evconnlistener_new_bind(base, fake_accept, f, LEV_OPT_CLOSE_ON_FREE, 5,
                                          (struct sockaddr *)&sa, sizeof(sa));
    assert_non_null(f->listener);
}

/* The same on a TCP port of the kernel's choice. */
static void fake_start_tcp(struct fake *f, struct event_base *base)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);

    f->listener = evconnlistener_new_bind(base, fake_accept, f, LEV_OPT_CLOSE_ON_FREE, 5,
                                          (struct sockaddr *)&sa, sizeof(sa));
    assert_non_null(f->listener);
    assert_int_equal(getsockname(evconnlistener_get_fd(f->listener), (struct sockaddr *)&sa, &len),
                     0);
    snprintf(f->url, sizeof(f->url), "redis://127.0.0.1:%d", ntohs(sa.sin_port));
}

static void fake_stop(struct fake *f)
{
    if (f->peer != NULL)
        bufferevent_free(f->peer);
    evconnlistener_free(f->listener);
    if (f->dir[0] != '\0') {
        unlink(f->socket);
        rmdir(f->dir);
    }
}

static void expect_failure(struct world *w, struct fake *f, const char *why)
{
    fake_start(f, w->base);
    open_link(w, f->url);
    run_until(w, &w->failed, 2);
    fake_stop(f);
    assert_string_equal(w->why, why);
    assert_int_equal(w->ready, 0);
}

static void test_tcp(void **state)
{
    struct world *w = *state;
    struct fake f = {.answer = "+PONG\r\n"};

    fake_start_tcp(&f, w->base);
    open_link(w, f.url);
    run_until(w, &w->ready, 1);
    bufferevent_free(f.peer);
    f.peer = NULL;
    run_until(w, &w->down, 1);
    assert_string_equal(w->why, "Server closed the connection");
    run_until(w, &w->ready, 2);
    fake_stop(&f);
}

static void test_silent_server(void **state)
{
    struct world *w = *state;

    w->config.connect_timeout_ms = 50;
    expect_failure(w, &(struct fake){0}, "connected, but no answer to PING within 50 ms");
}

static void test_loading_server(void **state)
{
    expect_failure(*state, &(struct fake){.answer = "-LOADING Redis is loading the dataset\r\n"},
                   "Redis answers PING with \"LOADING Redis is loading the dataset\"");
}

static void test_other_protocols(void **state)
{
    expect_failure(*state, &(struct fake){.answer = "+OK POP3 ready\r\n"},
                   "what listens there does not answer like Redis; is the address right?");
}

static void test_garbage(void **state)
{
    expect_failure(*state, &(struct fake){.greeting = "SSH-2.0-OpenSSH_9.2\r\n"},
                   "Protocol error, got \"S\" as reply type byte");
}

static void expect_unasked(struct world *w, const char *answer)
{
    struct fake f = {.answer = answer};

    fake_start(&f, w->base);
    open_link(w, f.url);
    run_until(w, &w->down, 1);
    fake_stop(&f);
    assert_string_equal(w->why, "Redis sent a reply that nobody asked for");
}

static void test_unasked_integer(void **state)
{
    expect_unasked(*state, "+PONG\r\n:1\r\n");
}

static void test_unasked_string(void **state)
{
    expect_unasked(*state, "+PONG\r\n$2\r\nhi\r\n");
}

static void test_unasked_nil(void **state)
{
    expect_unasked(*state, "+PONG\r\n*-1\r\n");
}

static void test_unasked_array(void **state)
{
    expect_unasked(*state, "+PONG\r\n*2\r\n:1\r\n:2\r\n");
}

static void test_unasked_error(void **state)
{
    struct world *w = *state;
    struct fake f = {.answer = "+PONG\r\n-ERR max number of clients reached\r\n"};

    fake_start(&f, w->base);
    open_link(w, f.url);
    run_until(w, &w->down, 1);
    fake_stop(&f);
    assert_string_equal(w->why, "ERR max number of clients reached");
}

/* ---- reset and free, from everywhere ---- */

static void test_reset(void **state)
{
    struct world *w = *state;

    open_ready(w);
    must_send(w, "PING");
    w->sending = true;
    redis_link_reset(w->link, "reply makes no sense");
    redis_link_reset(w->link, "said twice");
    w->sending = false;
    assert_false(redis_link_ready(w->link));
    assert_false(send_words(w, "PING", on_reply, w));
    assert_int_equal(w->nulls + w->down, 0);
    run_until(w, &w->down, 1);
    assert_int_equal(w->nulls, 1);
    assert_string_equal(w->why, "reply makes no sense");
    run_until(w, &w->ready, 2);
}

/* After a reset in a reply callback the replies that had come with it are not passed on. */
static void test_reset_in_reply(void **state)
{
    struct world *w = *state;

    w->reset_at = IN_REPLY;
    open_ready(w);
    for (int i = 0; i < 10; i++)
        must_send(w, "INCR n");
    run_until(w, &w->ready, 2);
    assert_int_equal(w->replies, 1);
    assert_int_equal(w->nulls, 9);
    assert_int_equal(w->down, 1);
    expect_reply(w, "PING", "status PONG");
}

static void test_reset_elsewhere(void **state)
{
    static const enum when places[] = {IN_READY, IN_DOWN, IN_NULL};
    struct world *w = *state;

    open_ready(w);
    for (unsigned i = 0; i < 3; i++) {
        unsigned ready = w->ready;

        w->reset_at = places[i];
        must_send(w, "PING");
        redis_link_reset(w->link, "start");
        run_until(w, &w->ready, ready + (places[i] == IN_READY ? 2 : 1));
        assert_true(redis_link_ready(w->link));
    }
}

static void test_reset_while_connecting(void **state)
{
    struct world *w = *state;

    w->reset_at = IN_FAILED;
    open_link(w, w->server.url);
    redis_link_reset(w->link, "not yet begun");
    event_base_loop(w->base, EVLOOP_ONCE); /* connect(2) is called, no more */
    redis_link_reset(w->link, "on its way");
    run_until(w, &w->ready, 1);
    assert_int_equal(w->failed, 1);
    assert_string_equal(w->why, "on its way");
}

static void test_free_with_pending(void **state)
{
    struct world *w = *state;

    open_ready(w);
    for (int i = 0; i < 10; i++)
        must_send(w, "PING");
    w->free_at = IN_NULL; /* a second free, from inside the first, is ignored */
    act(w, IN_NULL);
    assert_int_equal(w->nulls, 10);
    assert_true(w->nulls_inside_free);
    run_briefly(w);
    assert_int_equal(w->down + w->replies, 0);
}

static void test_free_in_reply(void **state)
{
    struct world *w = *state;

    w->free_at = IN_REPLY;
    open_ready(w);
    for (int i = 0; i < 10; i++)
        must_send(w, "PING");
    run_until(w, &w->nulls, 9);
    run_briefly(w);
    assert_int_equal(w->replies, 1);
    assert_true(w->nulls_inside_free);
    assert_int_equal(w->down, 0);
}

static void test_free_in_ready(void **state)
{
    struct world *w = *state;

    w->free_at = IN_READY;
    open_ready(w);
    assert_null(w->link);
    run_briefly(w);
}

static void test_free_in_null(void **state)
{
    struct world *w = *state;

    w->free_at = IN_NULL;
    open_ready(w);
    for (int i = 0; i < 10; i++)
        must_send(w, "BLPOP nothing 0");
    run_briefly(w);
    redis_server_kill(&w->server);
    run_until(w, &w->nulls, 10);
    assert_null(w->link);
    run_briefly(w);
    assert_int_equal(w->down, 0);
}

static void test_free_in_down(void **state)
{
    struct world *w = *state;

    w->free_at = IN_DOWN;
    open_ready(w);
    redis_server_kill(&w->server);
    run_until(w, &w->down, 1);
    assert_null(w->link);
    run_briefly(w);
}

static void test_free_in_failed(void **state)
{
    struct world *w = *state;

    w->free_at = IN_FAILED;
    open_link(w, "unix:///nonexistent/redis.sock");
    run_until(w, &w->failed, 1);
    assert_null(w->link);
    run_briefly(w);
    assert_int_equal(w->failed, 1);
}

static void test_free_while_connecting(void **state)
{
    struct world *w = *state;

    open_link(w, w->server.url);
    redis_link_free(w->link);
    redis_url_free(&w->url);
    open_link(w, w->server.url);
    event_base_loop(w->base, EVLOOP_ONCE); /* connect(2) is called, no more */
    redis_link_free(w->link);
    w->link = NULL;
    run_briefly(w);
    assert_int_equal(w->ready + w->failed + w->down, 0);
}

#define WITH_SERVER(test)   cmocka_unit_test_setup_teardown(test, setup_server, teardown)
#define WITH_PASSWORD(test) cmocka_unit_test_setup_teardown(test, setup_password, teardown)
#define WITHOUT(test)       cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_reply_types),
        WITH_SERVER(test_error_codes),
        WITH_SERVER(test_replies_come_in_order),
        WITH_SERVER(test_large_command_and_reply),
        WITH_SERVER(test_send_needs_a_connection),
        WITH_SERVER(test_kill_and_restart),
        WITH_SERVER(test_stopped_server),
        WITH_SERVER(test_timeout_is_of_the_oldest),
        WITHOUT(test_refused_is_retried),
        WITHOUT(test_missing_socket_is_retried),
        WITHOUT(test_backoff_doubles),
        WITH_PASSWORD(test_wrong_password),
        WITH_PASSWORD(test_missing_password),
        WITH_PASSWORD(test_password_alone),
        WITH_SERVER(test_user_and_password),
        WITH_SERVER(test_select),
        WITH_SERVER(test_select_out_of_range),
        WITHOUT(test_tcp),
        WITHOUT(test_silent_server),
        WITHOUT(test_loading_server),
        WITHOUT(test_other_protocols),
        WITHOUT(test_garbage),
        WITHOUT(test_unasked_integer),
        WITHOUT(test_unasked_string),
        WITHOUT(test_unasked_nil),
        WITHOUT(test_unasked_array),
        WITHOUT(test_unasked_error),
        WITH_SERVER(test_reset),
        WITH_SERVER(test_reset_in_reply),
        WITH_SERVER(test_reset_elsewhere),
        WITH_SERVER(test_reset_while_connecting),
        WITH_SERVER(test_free_with_pending),
        WITH_SERVER(test_free_in_reply),
        WITH_SERVER(test_free_in_ready),
        WITH_SERVER(test_free_in_null),
        WITH_SERVER(test_free_in_down),
        WITHOUT(test_free_in_failed),
        WITH_SERVER(test_free_while_connecting),
    };

    signal(SIGPIPE, SIG_IGN); /* as the programs do: hiredis writes with write(2) */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
