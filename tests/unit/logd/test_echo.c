/* test_echo.c: the echo on standard output. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "logd/echo.h"

static size_t drain(int fd, char *out, size_t size)
{
    size_t n = 0;
    ssize_t got;
    while (n < size && (got = read(fd, out + n, size - n)) > 0)
        n += (size_t)got;
    return n;
}

/* Nobody reads: all that does not fit is counted, and what was written stays whole lines. */
static void test_echo_drops_instead_of_waiting(void **state)
{
    enum { LINE = 3001, LINES = 200 };
    static char lines[LINE * LINES], read_back[LINE * LINES + 100];
    struct logd_stats stats = {0};
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
        cmocka_unit_test(test_echo_drops_instead_of_waiting),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("logd/echo", tests, NULL, NULL);
}
