/* test_link.c: the link against a private redis-server: commands, the end of connections, reset and
 * free. */
#include "tests/unit/common/redis/redis-world.h"

#include "common/diag.h"

/* ---- Commands and replies ---- */

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

/* ---- The end of connections ---- */

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
    w->config.reply_timeout_ms = 1000;
    w->config.connect_timeout_ms = 1000;
    open_ready(w);
    expect_reply(w, "PING", "status PONG");
    kill(w->server.pid, SIGSTOP);
    must_send(w, "PING");
    run_until(w, &w->down, 1);
    assert_int_equal(w->nulls, 1);
    assert_string_equal(w->why, "no reply within 1000 ms");
    w->failed = 0;
    run_until(w, &w->failed, 1);
    assert_string_equal(w->why, "connected, but no answer to PING within 1000 ms");
    kill(w->server.pid, SIGCONT);
    run_until(w, &w->ready, 2);
}

/* The timeout belongs to the oldest command: a steady stream of young ones, with replies, must not
 * trip it. */
static void test_timeout_is_of_the_oldest(void **state)
{
    struct world *w = *state;
    w->config.reply_timeout_ms = 2000;
    open_ready(w);
    for (unsigned i = 1; i <= 4; i++) {
        must_send(w, "BLPOP nothing 0.8");
        run_until(w, &w->replies, i);
    }
    assert_int_equal(w->down, 0);
}

static void test_changes_of_state_are_printed(void **state)
{
    static const char *const expected[] = {"waiting -> connecting", "connecting -> setup",
                                           "setup -> ready", "ready -> broken",
                                           "broken -> waiting"};
    struct world *w = *state;
    FILE *out = tmpfile();
    int saved = dup(STDERR_FILENO);
    char line[128], want[128];
    assert_non_null(out);
    diag_set_level(DIAG_DEBUG);
    dup2(fileno(out), STDERR_FILENO);
    open_ready(w);
    redis_link_reset(w->link, "the test wants it");
    run_until(w, &w->down, 1);
    dup2(saved, STDERR_FILENO);
    close(saved);
    diag_set_level(DIAG_INFO);
    rewind(out);
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        snprintf(want, sizeof(want), "log: debug: redis test: %s\n", expected[i]);
        assert_non_null(fgets(line, sizeof(line), out));
        assert_string_equal(line, want);
    }
    assert_null(fgets(line, sizeof(line), out));
    fclose(out);
}

/* ---- Reset and free, from everywhere ---- */

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

/* ---- Limits ---- */

/* A string of so many bytes under the key "key". */
static void set_value(struct world *w, unsigned bytes)
{
    char command[64], expected[32];
    expect_reply(w, "DEL key", "integer 0");
    snprintf(command, sizeof(command), "SETRANGE key %u x", bytes - 1);
    snprintf(expected, sizeof(expected), "integer %u", bytes);
    expect_reply(w, command, expected);
}

static void test_a_reply_over_the_limit_breaks_the_connection(void **state)
{
    struct world *w = *state;
    open_ready(w);
    set_value(w, 1000000);
    redis_link_limit_reply(w->link, 100000);
    must_send(w, "GET key");
    run_until(w, &w->down, 1);
    assert_int_equal(w->nulls, 1);
    assert_string_equal(w->why, "a reply is larger than its limit");
    run_until(w, &w->ready, 2); /* the next connection has no limit */
    must_send(w, "GET key");
    run_until(w, &w->replies, 1);
    assert_int_equal(w->down, 1);
}

static void test_replies_up_to_the_limit_pass(void **state)
{
    struct world *w = *state;
    open_ready(w);
    set_value(w, 90000);
    redis_link_limit_reply(w->link, 100000);
    for (unsigned i = 1; i <= 20; i++) {
        must_send(w, "GET key");
        run_until(w, &w->replies, i);
    }
    assert_int_equal(w->down, 0);
    redis_link_limit_reply(w->link, 50000);
    redis_link_limit_reply(w->link, 0);
    must_send(w, "GET key");
    run_until(w, &w->replies, 21);
    assert_int_equal(w->down, 0);
}

/* No part of it is large. */
static void test_a_reply_of_many_parts_has_the_limit_too(void **state)
{
    struct world *w = *state;
    open_ready(w);
    for (int i = 0; i < 1000; i++)
        must_send(w, "RPUSH list xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
    run_until(w, &w->replies, 1000);
    redis_link_limit_reply(w->link, 40000);
    must_send(w, "LRANGE list 0 -1");
    run_until(w, &w->down, 1);
    assert_string_equal(w->why, "a reply is larger than its limit");
}

static void test_renewing_does_not_wait(void **state)
{
    struct world *w = *state;
    w->config.backoff_min_ms = w->config.backoff_max_ms = 3600 * 1000;
    open_ready(w);
    must_send(w, "BLPOP none 0");
    redis_link_renew(w->link);
    assert_false(redis_link_ready(w->link));
    assert_int_equal(w->nulls, 0);
    run_until(w, &w->down, 1);
    assert_int_equal(w->nulls, 1);
    run_until(w, &w->ready, 2);
    expect_reply(w, "PING", "status PONG");
}

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
        WITH_SERVER(test_changes_of_state_are_printed),
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
        WITH_SERVER(test_a_reply_over_the_limit_breaks_the_connection),
        WITH_SERVER(test_replies_up_to_the_limit_pass),
        WITH_SERVER(test_a_reply_of_many_parts_has_the_limit_too),
        WITH_SERVER(test_renewing_does_not_wait),
    };
    signal(SIGPIPE, SIG_IGN); /* as the programs do: hiredis writes with write(2) */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
