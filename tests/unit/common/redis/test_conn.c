/* test_conn.c: setting a connection up: refusals, passwords, and servers that misbehave. */
#include "tests/unit/common/redis/redis-world.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <netinet/in.h>

/* ---- Connections that never come up ---- */

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

/* ---- Servers that misbehave ---- */

struct fake {
    struct evconnlistener *listener;
    const char *greeting; /* sent when accepting; NULL: nothing */
    const char *answer;   /* sent to whatever comes first; NULL: nothing */
    bool answered;
    struct bufferevent *peer;
    char dir[64], socket[96], url[128];
};

static struct fake fake; /* of the running test; its teardown stops it */

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
    (void)sa, (void)len;
    if (f->peer != NULL)
        bufferevent_free(f->peer);
    f->answered = false;
    f->peer = bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(f->peer, fake_read, NULL, NULL, f);
    bufferevent_enable(f->peer, EV_READ | EV_WRITE);
    if (f->greeting != NULL)
        bufferevent_write(f->peer, f->greeting, strlen(f->greeting));
}

static void fake_start(const char *answer, struct event_base *base)
{
    struct fake *f = &fake;
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    f->answer = answer;
    strcpy(f->dir, "/tmp/redis-fake-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->socket, sizeof(f->socket), "%.64s/s", f->dir);
    snprintf(f->url, sizeof(f->url), "unix://%.90s", f->socket);
    strcpy(sa.sun_path, f->socket);
    f->listener = evconnlistener_new_bind(base, fake_accept, f, LEV_OPT_CLOSE_ON_FREE, 5,
                                          (struct sockaddr *)&sa, sizeof(sa));
    assert_non_null(f->listener);
}

/* The same on a TCP port of the kernel's choice. */
static void fake_start_tcp(const char *answer, struct event_base *base)
{
    struct fake *f = &fake;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    f->answer = answer;
    f->listener = evconnlistener_new_bind(base, fake_accept, f, LEV_OPT_CLOSE_ON_FREE, 5,
                                          (struct sockaddr *)&sa, sizeof(sa));
    assert_non_null(f->listener);
    assert_int_equal(getsockname(evconnlistener_get_fd(f->listener), (struct sockaddr *)&sa, &len),
                     0);
    snprintf(f->url, sizeof(f->url), "redis://127.0.0.1:%d", ntohs(sa.sin_port));
}

static int teardown_fake(void **state)
{
    if (fake.peer != NULL)
        bufferevent_free(fake.peer);
    if (fake.listener != NULL)
        evconnlistener_free(fake.listener);
    if (fake.dir[0] != '\0') {
        unlink(fake.socket);
        rmdir(fake.dir);
    }
    memset(&fake, 0, sizeof(fake));
    return teardown(state);
}

static void expect_failure(struct world *w, const char *answer, const char *why)
{
    fake_start(answer, w->base);
    open_link(w, fake.url);
    run_until(w, &w->failed, 2);
    assert_string_equal(w->why, why);
    assert_int_equal(w->ready, 0);
}

static void test_tcp(void **state)
{
    struct world *w = *state;
    fake_start_tcp("+PONG\r\n", w->base);
    open_link(w, fake.url);
    run_until(w, &w->ready, 1);
    bufferevent_free(fake.peer);
    fake.peer = NULL;
    run_until(w, &w->down, 1);
    assert_string_equal(w->why, "Server closed the connection");
    run_until(w, &w->ready, 2);
}

static void test_silent_server(void **state)
{
    struct world *w = *state;
    w->config.connect_timeout_ms = 50;
    expect_failure(w, NULL, "connected, but no answer to PING within 50 ms");
}

static void test_loading_server(void **state)
{
    expect_failure(*state, "-LOADING Redis is loading the dataset\r\n",
                   "Redis answers PING with \"LOADING Redis is loading the dataset\"");
}

static void test_other_protocols(void **state)
{
    expect_failure(*state, "+OK POP3 ready\r\n",
                   "what listens there does not answer like Redis; is the address right?");
}

static void test_garbage(void **state)
{
    fake.greeting = "SSH-2.0-OpenSSH_9.2\r\n";
    expect_failure(*state, NULL, "Protocol error, got \"S\" as reply type byte");
}

static void expect_unasked(struct world *w, const char *answer)
{
    fake_start(answer, w->base);
    open_link(w, fake.url);
    run_until(w, &w->down, 1);
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
    fake_start("+PONG\r\n-ERR max number of clients reached\r\n", w->base);
    open_link(w, fake.url);
    run_until(w, &w->down, 1);
    assert_string_equal(w->why, "ERR max number of clients reached");
}

#define WITH_FAKE(test) cmocka_unit_test_setup_teardown(test, setup, teardown_fake)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITHOUT(test_refused_is_retried),      WITHOUT(test_missing_socket_is_retried),
        WITHOUT(test_backoff_doubles),         WITH_PASSWORD(test_wrong_password),
        WITH_PASSWORD(test_missing_password),  WITH_PASSWORD(test_password_alone),
        WITH_SERVER(test_user_and_password),   WITH_SERVER(test_select),
        WITH_SERVER(test_select_out_of_range), WITH_FAKE(test_tcp),
        WITH_FAKE(test_silent_server),         WITH_FAKE(test_loading_server),
        WITH_FAKE(test_other_protocols),       WITH_FAKE(test_garbage),
        WITH_FAKE(test_unasked_integer),       WITH_FAKE(test_unasked_string),
        WITH_FAKE(test_unasked_nil),           WITH_FAKE(test_unasked_array),
        WITH_FAKE(test_unasked_error),
    };
    signal(SIGPIPE, SIG_IGN); /* as the programs do: hiredis writes with write(2) */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
