/* test_connection.c: connections: deadlines, error answers, and how they end. */
#include "tests/unit/common/http/http-world.h"

#include "common/http/connection.h"

#define SHORT_MS 100

/* ---- Deadlines ---- */

static void test_a_silent_connection_is_closed(void **state)
{
    struct world w;
    struct client silent, used;
    (void)state;
    world_init(&w);
    w.config.idle_timeout_ms = SHORT_MS;
    world_serve(&w);
    client_open(&silent, &w);
    client_open(&used, &w);
    client_send(&used, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client_gets(&used, &w, 200);
    WAIT_UNTIL(&w, silent.closed && used.closed);
    assert_int_equal(silent.n, 0);
    assert_int_equal(used.n, 0);
    WAIT_UNTIL(&w, w.stats->connections == 0);
    client_close(&silent);
    client_close(&used);
    world_end(&w);
}

static void test_an_incomplete_request_gets_408(void **state)
{
    static const char *const begun[] = {"G", "GET / HTTP/1.1\r\nHost: x\r\n",
                                        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nx"};
    struct world w;
    (void)state;
    world_init(&w);
    w.config.request_timeout_ms = SHORT_MS;
    world_serve(&w);
    for (size_t i = 0; i < sizeof(begun) / sizeof(begun[0]); i++) {
        struct client c;
        client_open(&c, &w);
        client_send(&c, begun[i]);
        client_is_refused(&c, &w, 408, "not complete after 100 ms\"");
        client_close(&c);
    }
    assert_int_equal(w.handled, 0);
    world_end(&w);
}

/* The request's deadline begins at its first byte, not at the end of the one before. */
static void test_the_next_request_has_a_deadline_of_its_own(void **state)
{
    struct world w;
    struct client c;
    (void)state;
    world_init(&w);
    w.config.request_timeout_ms = SHORT_MS;
    world_serve(&w);
    client_open(&c, &w);
    client_send(&c, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n");
    client_gets(&c, &w, 200);
    client_send(&c, "GET /2");
    client_is_refused(&c, &w, 408, "not complete");
    client_close(&c);
    world_end(&w);
}

static void test_an_answer_may_take_longer_than_a_request(void **state)
{
    struct world w;
    struct client c;
    (void)state;
    world_init(&w);
    w.config.request_timeout_ms = w.config.idle_timeout_ms = 1;
    w.hold = true;
    world_serve(&w);
    client_open(&c, &w);
    client_send(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_UNTIL(&w, w.held != NULL);
    int64_t begin_ms = monotonic_now_ms();
    WAIT_UNTIL(&w, monotonic_now_ms() > begin_ms + SHORT_MS);
    assert_int_equal(w.gone, 0);
    answer_text(w.held, "late");
    client_gets(&c, &w, 200);
    client_close(&c);
    world_end(&w);
}

/* ---- Error answers ---- */

static void test_error_pages_of_evhttp_become_json(void **state)
{
    static const struct {
        const char *request;
        int status;
        const char *part;
    } cases[] = {
        {"nonsense\r\n\r\n", 400, "malformed"},
        {"GET / HTTP/9\r\n\r\n", 400, "malformed"},
        {"GET / HTTP/1.1\r\nHost\r\n\r\n", 400, "malformed"},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", 413,
         "larger than 1000 bytes: send less"},
        {"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n", 413,
         "larger than 1000 bytes"},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n", 413,
         "larger than 1000 bytes"},
        {"POST / HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\nContent-Length: 1\r\n\r\n", 417,
         "100-continue"},
    };
    struct world w;
    (void)state;
    world_start(&w);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct client c;
        client_open(&c, &w);
        client_send(&c, cases[i].request);
        client_is_refused(&c, &w, cases[i].status, cases[i].part);
        client_close(&c);
    }
    assert_int_equal(w.handled, 0);
    assert_int_equal(others_open(&w), 0);
    assert_int_equal(w.stats->answered[400], 3);
    assert_int_equal(w.stats->answered[413], 3);
    assert_int_equal(w.stats->answered[417], 1);
    world_end(&w);
}

static void test_a_head_that_is_too_large_is_refused(void **state)
{
    static char request[CONN_HEAD_MAX + 100] = "GET / HTTP/1.1\r\nX: ";
    struct world w;
    struct client c;
    (void)state;
    memset(request + strlen(request), 'x', sizeof(request) - strlen(request) - 1);
    world_start(&w);
    client_open(&c, &w);
    client_send(&c, request);
    client_is_refused(&c, &w, 400, "larger than 16384 bytes");
    client_close(&c);
    world_end(&w);
}

static void test_messages_name_the_options_that_the_program_has(void **state)
{
    struct world w;
    struct client large, slow;
    (void)state;
    world_init(&w);
    w.config.has_options = true;
    w.config.request_timeout_ms = SHORT_MS;
    world_serve(&w);
    client_open(&large, &w);
    client_send(&large, "POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n");
    client_is_refused(&large, &w, 413, "1000 bytes (--max-body): send");
    client_close(&large);
    client_open(&slow, &w);
    client_send(&slow, "G");
    client_is_refused(&slow, &w, 408, "100 ms (--request-timeout)\"");
    client_close(&slow);
    world_end(&w);
}

static void test_bad_framing_ends_the_connection(void **state)
{
    static const char *const cases[] = {
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
    };
    struct world w;
    (void)state;
    world_start(&w);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct client c;
        client_open(&c, &w);
        client_send(&c, cases[i]);
        client_send(&c, "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n");
        client_is_refused(&c, &w, 400, "\"error\"");
        client_close(&c);
    }
    assert_int_equal(w.handled, 0);
    world_end(&w);
}

static void test_an_error_to_head_has_no_body(void **state)
{
    struct world w;
    struct client c;
    (void)state;
    world_start(&w);
    client_open(&c, &w);
    client_send(&c, "HEAD / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n");
    WAIT_UNTIL(&w, take_answer(&c, true));
    assert_has(c.answer, "HTTP/1.1 400 ");
    WAIT_UNTIL(&w, c.closed);
    assert_int_equal(c.n, 0);
    client_close(&c);
    world_end(&w);
}

/* The one that passes the limit is refused; the others go on. */
static void test_too_much_at_once_is_refused(void **state)
{
    static const char half[] = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 600\r\n\r\n";
    char body[601];
    struct world w;
    struct client first, second;
    (void)state;
    memset(body, 'x', 600);
    body[600] = '\0';
    world_init(&w);
    w.config.max_reading = 1000;
    world_serve(&w);
    assert_int_equal(others_open(&w), 0);
    client_open(&first, &w);
    client_send(&first, half);
    client_send(&first, body + 1);
    WAIT_UNTIL(&w, w.stats->connections == 1);
    client_open(&second, &w);
    client_send(&second, half);
    client_send(&second, body + 1);
    WAIT_UNTIL(&w, first.n > 0 || second.n > 0);
    struct client *refused = first.n > 0 ? &first : &second;
    struct client *other = first.n > 0 ? &second : &first;
    client_is_refused(refused, &w, 503, "\"stored\":false}");
    assert_has(refused->answer, "Retry-After: 1\r\n");
    client_send(other, "x");
    client_gets(other, &w, 200);
    client_close(&first);
    client_close(&second);
    world_end(&w);
}

/* A client that is still sending sees the answer, and no reset. */
static void test_the_last_answer_is_not_overtaken_by_a_reset(void **state)
{
    struct world w;
    struct client c;
    (void)state;
    world_start(&w);
    client_open(&c, &w);
    client_send(&c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n");
    client_gets(&c, &w, 413);
    for (int i = 0; i < 20; i++) {
        client_send(&c, "more of the body");
        event_base_loop(w.base, EVLOOP_NONBLOCK);
    }
    WAIT_UNTIL(&w, c.closed);
    assert_false(c.reset);
    client_close(&c);
    assert_int_equal(others_open(&w), 0);
    world_end(&w);
}

/* ---- Ends ---- */

/* Nobody reads from it before. */
static void test_a_client_that_goes_is_noticed_at_its_answer(void **state)
{
    struct world w;
    struct client c;
    (void)state;
    world_start(&w);
    w.hold = true;
    client_open(&c, &w);
    client_send(&c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab");
    WAIT_UNTIL(&w, w.held != NULL);
    assert_string_equal(w.body, "ab");
    client_close(&c);
    struct http_exchange *held = w.held;
    assert_int_equal(others_open(&w), 1);
    assert_int_equal(w.gone, 0);
    answer_text(held, "to nobody");
    WAIT_UNTIL(&w, w.stats->connections == 0);
    assert_int_equal(w.gone, 0);
    world_end(&w);
}

static void test_nobody_hears_of_a_client_that_goes_after_its_answer(void **state)
{
    struct world w;
    struct client c;
    (void)state;
    world_start(&w);
    w.hold = true;
    client_open(&c, &w);
    client_send(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_UNTIL(&w, w.held != NULL);
    answer_text(w.held, "done");
    client_gets(&c, &w, 200);
    client_close(&c);
    WAIT_UNTIL(&w, w.stats->connections == 0);
    assert_int_equal(w.gone, 0);
    world_end(&w);
}

/* Connections in all states; nothing leaks, and who waits for an answer hears of the end. */
static void test_a_server_is_freed_with_open_connections(void **state)
{
    static const char *const begun[] = {"", "G", "GET /held HTTP/1.1\r\nHost: x\r\n\r\n",
                                        "nonsense\r\n\r\n"};
    enum { COUNT = sizeof(begun) / sizeof(begun[0]) };
    struct world w;
    struct client c[COUNT], new;
    (void)state;
    world_start(&w);
    assert_int_equal(others_open(&w), 0);
    w.hold = true;
    for (size_t i = 0; i < COUNT; i++) {
        client_open(&c[i], &w);
        client_send(&c[i], begun[i]);
    }
    WAIT_UNTIL(&w, w.held != NULL && c[COUNT - 1].n > 0 && w.stats->connections == COUNT);
    client_open(&new, &w);
    world_end(&w);
    assert_int_equal(w.gone, 1);
    client_close(&new);
    for (size_t i = 0; i < COUNT; i++)
        client_close(&c[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_silent_connection_is_closed),
        cmocka_unit_test(test_an_incomplete_request_gets_408),
        cmocka_unit_test(test_the_next_request_has_a_deadline_of_its_own),
        cmocka_unit_test(test_an_answer_may_take_longer_than_a_request),
        cmocka_unit_test(test_error_pages_of_evhttp_become_json),
        cmocka_unit_test(test_a_head_that_is_too_large_is_refused),
        cmocka_unit_test(test_messages_name_the_options_that_the_program_has),
        cmocka_unit_test(test_bad_framing_ends_the_connection),
        cmocka_unit_test(test_an_error_to_head_has_no_body),
        cmocka_unit_test(test_too_much_at_once_is_refused),
        cmocka_unit_test(test_the_last_answer_is_not_overtaken_by_a_reset),
        cmocka_unit_test(test_a_client_that_goes_is_noticed_at_its_answer),
        cmocka_unit_test(test_nobody_hears_of_a_client_that_goes_after_its_answer),
        cmocka_unit_test(test_a_server_is_freed_with_open_connections),
    };
    return cmocka_run_group_tests_name("common/http/connection", tests, NULL, NULL);
}
