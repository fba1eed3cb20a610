/* test_listening.c: addresses to listen on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/http/listening.h"

static void test_only_numeric_addresses_are_listened_on(void **state)
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

static void test_a_taken_port_is_an_error(void **state)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_numeric_addresses_are_listened_on),
        cmocka_unit_test(test_a_taken_port_is_an_error),
    };
    return cmocka_run_group_tests_name("common/http/listening", tests, NULL, NULL);
}
