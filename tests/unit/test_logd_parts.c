/* The small parts of logd: failures, listening addresses, deadlines, the echo. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/listen.h"
#include "logd/deadlines.h"
#include "logd/echo.h"
#include "logd/failure.h"

/* ---- Failures ---- */

static void assert_written(const struct failure *f, const char *want)
{
    struct buf out = {0};
    failure_write(f, &out);
    assert_int_equal(out.len, strlen(want));
    assert_memory_equal(out.data, want, out.len);
    buf_free(&out);
}

static void failures_are_json(void **state)
{
    struct failure f;
    (void)state;
    failure_set(&f, 404, "no \"%s\"", "x\ny");
    assert_written(&f, "{\"error\":\"no \\\"x\\ny\\\"\"}");
    failure_set_record(&f, 7, "", "bad \xff byte");
    assert_int_equal(f.status, 400);
    assert_written(&f, "{\"error\":\"bad \xef\xbf\xbd byte\",\"index\":7,\"field\":\"\"}");
    failure_set_unavailable(&f, STORED_NOTHING, "down");
    assert_int_equal(f.status, 503);
    assert_true(f.retry_after > 0);
    assert_written(&f, "{\"error\":\"down\",\"stored\":false}");
    failure_set_unavailable(&f, STORED_UNKNOWN, "gone");
    assert_written(&f, "{\"error\":\"gone\",\"stored\":null}");
}

static void shown_values_are_short_and_printable(void **state)
{
    char out[FAILURE_SHOWN_MAX];
    char long_value[300];
    (void)state;
    assert_string_equal(failure_show(out, "a\n\x7f", 3), "\"a??\"");
    assert_string_equal(failure_show(out, "", 0), "\"\"");
    for (size_t i = 0; i < sizeof(long_value); i += 2)
        memcpy(long_value + i, "\xc3\xa9", 2);
    failure_show(out, long_value, sizeof(long_value));
    assert_int_equal(strlen(out), 1 + 40 + strlen("…") + 1);
}

/* ---- Addresses ---- */

static void only_numeric_addresses_are_listened_on(void **state)
{
    static const char *const good[] = {"127.0.0.1:0", "0.0.0.0:65535", "[::1]:4000", "[::]:0"};
    static const char *const bad[] = {
        "",       "4000",       ":4000",   "127.0.0.1",   "[::1]", "localhost:1",
        "::1:80", "127.0.0.1:", "[::1:1",  "1.2.3.4:x",   "[]:1",  "127.0.0.1:65536",
        "[:",     "]:1",        "1.2.3:1", "127.0.0.1:+1"};
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_null(listen_check(good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (listen_check(bad[i]) == NULL)
            fail_msg("accepted: %s", bad[i]);
}

static void a_taken_port_is_an_error(void **state)
{
    char shown[LISTEN_SHOWN_MAX], again[LISTEN_SHOWN_MAX], err[256] = "";
    (void)state;
    int fd = listen_open("127.0.0.1:0", shown, err, sizeof(err));
    assert_true(fd >= 0);
    assert_string_not_equal(shown, "127.0.0.1:0");
    assert_int_equal(listen_open(shown, again, err, sizeof(err)), -1);
    assert_non_null(strstr(err, shown));
    assert_non_null(strstr(err, strerror(EADDRINUSE)));
    close(fd);
}

/* ---- Deadlines ---- */

struct thing {
    struct deadline deadline; /* first: expire() gets its address */
    struct deadlines *ds;
    int expired; /* order in which it did; 0: has not */
};

static int expired_count;
static int expire_until;
static struct event_base *expire_base;

static void expire(struct deadline *d)
{
    struct thing *t = (struct thing *)d;
    deadline_enter(t->ds, d, DEADLINE_NONE);
    t->expired = ++expired_count;
    if (expired_count == expire_until)
        event_base_loopbreak(expire_base);
}

static void things_expire_in_order_unless_they_move_on(void **state)
{
    static const int64_t timeouts[DEADLINE_STATES_MAX] = {60000, 900, 100, 500};
    struct deadlines ds;
    struct thing t[5] = {{.expired = 0}};
    (void)state;
    expired_count = 0;
    expire_until = 3;
    expire_base = event_base_new();
    assert_non_null(expire_base);
    assert_true(deadlines_init(&ds, expire_base, timeouts, expire));
    for (size_t i = 0; i < 5; i++) {
        t[i].ds = &ds;
        deadline_init(&t[i].deadline);
    }
    deadline_enter(&ds, &t[0].deadline, 0); /* the timer is far away before the others come */
    deadline_enter(&ds, &t[1].deadline, 1);
    deadline_enter(&ds, &t[2].deadline, 2);
    deadline_enter(&ds, &t[3].deadline, 3);
    deadline_enter(&ds, &t[4].deadline, 2);
    deadline_enter(&ds, &t[4].deadline, 0);
    event_base_dispatch(expire_base);
    assert_int_equal(t[2].expired, 1);
    assert_int_equal(t[3].expired, 2);
    assert_int_equal(t[1].expired, 3);
    assert_int_equal(t[0].expired, 0);
    assert_int_equal(t[4].expired, 0);
    deadlines_free(&ds);
    event_base_free(expire_base);
}

/* ---- The echo ---- */

static size_t drain(int fd, char *out, size_t size)
{
    size_t n = 0;
    ssize_t got;
    while (n < size && (got = read(fd, out + n, size - n)) > 0)
        n += (size_t)got;
    return n;
}

/* Nobody reads: all that does not fit is counted, and what was written stays whole lines. */
static void echo_drops_instead_of_waiting(void **state)
{
    enum { LINE = 3001, LINES = 200 };
    static char lines[LINE * LINES], read_back[LINE * LINES + 100];
    struct stats stats = {0};
    int fds[2];
    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_true(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
    memset(lines, 'x', sizeof(lines));
    for (size_t i = 1; i <= LINES; i++)
        lines[i * LINE - 1] = '\n';
    struct echo *e = echo_new(fds[1], &stats);
    assert_non_null(e);
    echo_write(e, lines, sizeof(lines));
    assert_true(stats.echo_dropped > 0 && stats.echo_dropped < LINES);
    size_t n = drain(fds[0], read_back, sizeof(read_back));
    echo_write(e, "after\n", 6);
    n += drain(fds[0], read_back + n, sizeof(read_back) - n);
    assert_true(n > 6);
    assert_memory_equal(read_back + n - 7, "\nafter\n", 7);
    close(fds[0]);
    uint64_t before = stats.echo_dropped;
    echo_write(e, "a\nb\n", 4); /* SIGPIPE is ignored by the program; here by main() */
    assert_int_equal(stats.echo_dropped, before + 2);
    echo_free(e);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_are_json),
        cmocka_unit_test(shown_values_are_short_and_printable),
        cmocka_unit_test(only_numeric_addresses_are_listened_on),
        cmocka_unit_test(a_taken_port_is_an_error),
        cmocka_unit_test(things_expire_in_order_unless_they_move_on),
        cmocka_unit_test(echo_drops_instead_of_waiting),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("logd parts", tests, NULL, NULL);
}
