/* test_server.c: the server: requests in, answers out, its limit of connections, and its end. */
#include "tests/unit/common/http/http-world.h"

#include <sys/mman.h>

#include "common/diag.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

/* ---- Requests ---- */

static void test_a_connection_takes_one_request_after_the_other(void **state)
{
    struct world w;
    struct client c;
    (void)state;
    world_start(&w);
    client_open(&c, &w);
    for (unsigned i = 1; i <= 3; i++) {
        client_send(&c, GET("/again?x=1"));
        client_gets(&c, &w, 200);
        assert_has(c.answer, "Content-Type: text/plain\r\n");
        assert_has(c.answer, "\r\n\r\n/again");
        assert_string_equal(w.path, "/again");
        assert_int_equal(w.stats->answered[200], i);
        assert_int_equal(w.stats->connections, 1);
    }
    assert_false(c.closed);
    client_close(&c);
    world_end(&w);
}

static void test_requests_that_come_at_once_are_answered_in_order(void **state)
{
    struct world w;
    struct client c;
    (void)state;
    world_start(&w);
    client_open(&c, &w);
    client_send(&c, GET("/1") "POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
                              "POST /3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n" GET("/4"));
    for (int i = 1; i <= 4; i++) {
        char end[32];
        client_gets(&c, &w, 200);
        snprintf(end, sizeof(end), "\r\n\r\n/%d", i);
        assert_has(c.answer, end);
    }
    assert_int_equal(w.handled, 4);
    client_close(&c);
    world_end(&w);
}

/* The second request waits for the answer to the first. */
static void test_a_late_answer_holds_the_next_request_up(void **state)
{
    struct world w;
    struct client c;
    (void)state;
    world_start(&w);
    w.hold = true;
    client_open(&c, &w);
    client_send(&c, "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" GET("/2"));
    WAIT_UNTIL(&w, w.held != NULL);
    assert_int_equal(others_open(&w), 1);
    assert_int_equal(w.handled, 2); /* with that of others_open() */
    struct http_exchange *first = w.held;
    w.held = NULL;
    answer_text(first, "first");
    client_gets(&c, &w, 200);
    assert_has(c.answer, "first");
    WAIT_UNTIL(&w, w.held != NULL);
    assert_string_equal(w.path, "/2");
    answer_text(w.held, "second");
    client_gets(&c, &w, 200);
    assert_has(c.answer, "second");
    client_close(&c);
    world_end(&w);
}

static void test_bodies_arrive_whole(void **state)
{
    struct world w;
    struct client c;
    (void)state;
    world_start(&w);
    client_open(&c, &w);
    client_send(&c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                    "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n");
    client_gets(&c, &w, 200);
    assert_string_equal(w.body, "abcdefg");
    client_send(&c, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                    "Content-Length: 3\r\n\r\n");
    WAIT_UNTIL(&w, c.n > 0);
    assert_memory_equal(c.got, "HTTP/1.1 100 ", 13);
    WAIT_UNTIL(&w, strstr(c.got, "\r\n\r\n") != NULL);
    c.n = 0;
    client_send(&c, "xyz");
    client_gets(&c, &w, 200);
    assert_string_equal(w.body, "xyz");
    client_close(&c);
    world_end(&w);
}

static void test_head_gets_a_length_and_no_body(void **state)
{
    struct world w;
    struct client c;
    (void)state;
    world_start(&w);
    client_open(&c, &w);
    client_send(&c, "HEAD /abc HTTP/1.1\r\nHost: x\r\n\r\n" GET("/de"));
    WAIT_UNTIL(&w, take_answer(&c, true));
    assert_has(c.answer, "HTTP/1.1 200 OK\r\n");
    assert_has(c.answer, "Content-Length: 4\r\n");
    client_gets(&c, &w, 200);
    assert_has(c.answer, "\r\n\r\n/de");
    client_close(&c);
    world_end(&w);
}

static void test_the_handler_is_told_the_method(void **state)
{
    static const struct {
        const char *request;
        enum http_method method;
    } cases[] = {
        {GET("/"), HTTP_GET},
        {"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", HTTP_POST},
        {"PUT / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", HTTP_OTHER},
        {"DELETE / HTTP/1.1\r\n\r\n", HTTP_OTHER},
        {"OPTIONS / HTTP/1.1\r\n\r\n", HTTP_OTHER},
    };
    struct world w;
    struct client c;
    (void)state;
    world_start(&w);
    client_open(&c, &w);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        client_send(&c, cases[i].request);
        client_gets(&c, &w, 200);
        assert_int_equal(w.method, cases[i].method);
    }
    client_close(&c);
    world_end(&w);
}

static void test_the_program_s_headers_come_by_index_and_once(void **state)
{
    static const char *const names[] = {"Log-One", "Log-Two", NULL};
    struct world w;
    struct client c;
    (void)state;
    world_init(&w);
    w.config.headers = names;
    world_serve(&w);
    client_open(&c, &w);
    client_send(&c, "GET / HTTP/1.1\r\nlog-two: 2\r\nLog-Three: 3\r\nLog-Three: 3\r\n\r\n");
    client_gets(&c, &w, 200);
    assert_string_equal(w.own[0], "-");
    assert_string_equal(w.own[1], "2");
    client_send(&c, "GET / HTTP/1.1\r\nLog-One: 1\r\nlog-one: 1\r\n\r\n");
    client_is_refused(&c, &w, 400, "Log-One was sent more than once");
    client_close(&c);
    world_end(&w);
}

/* ---- Answers ---- */

static void answer_by_path(struct http_exchange *x, const struct http_request *r, void *arg)
{
    struct failure f;
    struct buf failed = {.failed = true};
    (void)arg;
    if (strcmp(r->path, "/good") == 0) {
        http_answer_status(x, NULL, "well");
    } else if (strcmp(r->path, "/bad") == 0) {
        http_answer_status(x, "a \"b\" \x80", "well");
    } else if (strcmp(r->path, "/405") == 0) {
        failure_set(&f, 405, "no");
        f.allow = "GET, HEAD";
        http_answer_failure(x, &f);
    } else if (strcmp(r->path, "/503") == 0) {
        failure_set_unavailable(&f, STORED_UNKNOWN, "later");
        http_answer_failure(x, &f);
    } else {
        http_answer_buf(x, "text/plain", &failed);
    }
}

static void test_answers_carry_what_belongs_to_them(void **state)
{
    static const struct {
        const char *request;
        int status;
        const char *header, *body;
    } cases[] = {
        {GET("/good"), 200, "Content-Type: application/json\r\n", "{\"status\":\"well\"}"},
        {GET("/bad"), 503, "Content-Type: application/json\r\n",
         "{\"status\":\"a \\\"b\\\" \xef\xbf\xbd\"}"},
        {GET("/405"), 405, "Allow: GET, HEAD\r\n", "{\"error\":\"no\"}"},
        {GET("/503"), 503, "Retry-After: 1\r\n", "{\"error\":\"later\",\"stored\":null}"},
        {GET("/memory"), 503, "Retry-After: 1\r\n",
         "{\"error\":\"out of memory; try again later\"}"},
    };
    struct world w;
    struct client c;
    (void)state;
    world_init(&w);
    w.config.handle = answer_by_path;
    world_serve(&w);
    client_open(&c, &w);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        client_send(&c, cases[i].request);
        client_gets(&c, &w, cases[i].status);
        assert_has(c.answer, cases[i].header);
        assert_string_equal(strstr(c.answer, "\r\n\r\n") + 4, cases[i].body);
    }
    assert_false(c.closed);
    client_close(&c);
    world_end(&w);
}

/* ---- Connections ---- */

static void test_connections_beyond_the_limit_wait(void **state)
{
    struct world w;
    struct client c[3];
    (void)state;
    world_init(&w);
    w.config.max_connections = 2;
    world_serve(&w);
    for (size_t i = 0; i < 3; i++) {
        client_open(&c[i], &w);
        client_send(&c[i], GET("/"));
    }
    client_gets(&c[0], &w, 200);
    client_gets(&c[1], &w, 200);
    for (int i = 0; i < 3; i++) {
        client_send(&c[0], GET("/more"));
        client_gets(&c[0], &w, 200);
    }
    assert_int_equal(c[2].n, 0);
    assert_int_equal(w.stats->connections, 2);
    client_close(&c[1]);
    client_gets(&c[2], &w, 200);
    client_close(&c[0]);
    client_close(&c[2]);
    world_end(&w);
}

static void test_more_listeners_than_there_is_room_for_are_refused(void **state)
{
    struct world w;
    char shown[LISTEN_SHOWN_MAX], err[256];
    int taken = 1;
    (void)state;
    world_start(&w);
    for (;;) {
        int fd = listen_open("127.0.0.1:0", shown, err, sizeof(err));
        assert_true(fd >= 0);
        if (!http_listen(w.server, fd))
            break;
        taken++;
    }
    assert_int_equal(taken, 16);
    assert_int_equal(others_open(&w), 0);
    world_end(&w);
}

/* ---- Stopping ---- */

static void on_stopped(void *arg)
{
    struct world *w = arg;
    assert_false(w->stopped);
    w->stopped = true;
}

static void test_a_server_without_connections_stops_at_once(void **state)
{
    struct world w;
    struct client c;
    (void)state;
    world_start(&w);
    http_stop(w.server, MINUTE_MS, on_stopped, &w);
    WAIT_UNTIL(&w, w.stopped);
    c.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(c.fd, (struct sockaddr *)&w.address, sizeof(w.address)), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(c.fd);
    world_end(&w);
}

/* Idle ones are closed; what has begun is finished, and answered with "Connection: close". */
static void test_a_stop_finishes_what_has_begun(void **state)
{
    struct world w;
    struct client idle, half, handled;
    (void)state;
    world_start(&w);
    client_open(&idle, &w);
    client_send(&idle, GET("/"));
    client_gets(&idle, &w, 200);
    client_open(&half, &w);
    client_send(&half, "POST /half HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na");
    w.hold = true;
    client_open(&handled, &w);
    client_send(&handled, GET("/held"));
    WAIT_UNTIL(&w, w.held != NULL && w.stats->connections == 3);
    http_stop(w.server, MINUTE_MS, on_stopped, &w);
    WAIT_UNTIL(&w, idle.closed);
    assert_false(half.closed || handled.closed || w.stopped);
    w.hold = false;
    client_send(&half, "b");
    client_gets(&half, &w, 200);
    assert_has(half.answer, "Connection: close\r\n");
    WAIT_UNTIL(&w, half.closed);
    assert_false(w.stopped);
    answer_text(w.held, "at last");
    client_gets(&handled, &w, 200);
    assert_has(handled.answer, "Connection: close\r\n");
    WAIT_UNTIL(&w, w.stopped && handled.closed);
    assert_int_equal(w.gone, 0);
    client_close(&idle);
    client_close(&half);
    client_close(&handled);
    world_end(&w);
}

static void test_a_stop_gives_incomplete_requests_up_after_the_grace(void **state)
{
    struct world w;
    struct client half, handled;
    (void)state;
    world_start(&w);
    w.hold = true;
    client_open(&half, &w);
    client_send(&half, "POST /half HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na");
    client_open(&handled, &w);
    client_send(&handled, GET("/held"));
    WAIT_UNTIL(&w, w.held != NULL && w.stats->connections == 2);
    http_stop(w.server, 50, on_stopped, &w);
    WAIT_UNTIL(&w, half.closed);
    assert_int_equal(half.n, 0);
    assert_false(handled.closed || w.stopped);
    answer_text(w.held, "at last");
    client_gets(&handled, &w, 200);
    WAIT_UNTIL(&w, w.stopped);
    client_close(&half);
    client_close(&handled);
    world_end(&w);
}

/* A request that has come when the stop begins, unread, is answered. */
static void test_a_stop_answers_what_has_come_before(void **state)
{
    struct world w;
    struct client c;
    (void)state;
    world_start(&w);
    client_open(&c, &w);
    client_send(&c, GET("/"));
    http_stop(w.server, MINUTE_MS, on_stopped, &w);
    client_gets(&c, &w, 200);
    WAIT_UNTIL(&w, w.stopped);
    client_close(&c);
    world_end(&w);
}

/* ---- What is printed of it ---- */

/* Standard error goes to the returned file until it is shown. */
static int capture(int *saved)
{
    int file = memfd_create("stderr", MFD_CLOEXEC);
    *saved = dup(STDERR_FILENO);
    assert_true(file >= 0 && *saved >= 0);
    assert_int_equal(dup2(file, STDERR_FILENO), STDERR_FILENO);
    return file;
}

static void test_each_change_of_state_is_printed(void **state)
{
    static const char *const changes[] = {
        "new -> idle",     "idle -> reading",      "reading -> handling", "handling -> writing",
        "writing -> idle", "reading -> lingering", "lingering -> closed"};
    char text[4096] = "", line[64];
    struct world w;
    struct client c;
    int saved;
    (void)state;
    world_start(&w);
    diag_set_level(DIAG_DEBUG);
    int file = capture(&saved);
    client_open(&c, &w);
    client_send(&c, GET("/"));
    client_gets(&c, &w, 200);
    client_send(&c, "nonsense\r\n\r\n");
    client_is_refused(&c, &w, 400, "malformed");
    client_close(&c);
    http_stop(w.server, 0, on_stopped, &w);
    WAIT_UNTIL(&w, w.stopped);
    dup2(saved, STDERR_FILENO);
    close(saved);
    diag_set_level(DIAG_INFO);
    assert_true(pread(file, text, sizeof(text) - 1, 0) > 0);
    close(file);
    int fd = -1;
    assert_int_equal(sscanf(strstr(text, "debug: http "), "debug: http %d: new", &fd), 1);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        snprintf(line, sizeof(line), "debug: http %d: %s\n", fd, changes[i]);
        assert_has(text, line);
    }
    assert_has(text, "debug: http stop: nothing -> listeners\n");
    assert_has(text, "debug: http stop: listeners -> idle\n");
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_connection_takes_one_request_after_the_other),
        cmocka_unit_test(test_requests_that_come_at_once_are_answered_in_order),
        cmocka_unit_test(test_a_late_answer_holds_the_next_request_up),
        cmocka_unit_test(test_bodies_arrive_whole),
        cmocka_unit_test(test_head_gets_a_length_and_no_body),
        cmocka_unit_test(test_the_handler_is_told_the_method),
        cmocka_unit_test(test_the_program_s_headers_come_by_index_and_once),
        cmocka_unit_test(test_answers_carry_what_belongs_to_them),
        cmocka_unit_test(test_connections_beyond_the_limit_wait),
        cmocka_unit_test(test_more_listeners_than_there_is_room_for_are_refused),
        cmocka_unit_test(test_a_server_without_connections_stops_at_once),
        cmocka_unit_test(test_a_stop_finishes_what_has_begun),
        cmocka_unit_test(test_a_stop_gives_incomplete_requests_up_after_the_grace),
        cmocka_unit_test(test_a_stop_answers_what_has_come_before),
        cmocka_unit_test(test_each_change_of_state_is_printed),
    };
    return cmocka_run_group_tests_name("common/http/server", tests, NULL, NULL);
}
