/* test_chunks.c: the framing of chunked bodies, at once and in pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/http/chunks.h"

#define HEAD "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

/* In pieces of `step` bytes. */
static bool feed(struct chunks *c, const char *text, size_t step)
{
    size_t n = strlen(text);
    *c = (struct chunks){0};
    for (size_t i = 0; i < n; i += step)
        if (!chunks_feed(c, text + i, n - i < step ? n - i : step))
            return false;
    return true;
}

static void test_good_chunks_are_read_to_their_end(void **state)
{
    static const char *const cases[] = {
        HEAD "0\r\n",
        HEAD "1\r\nx\r\n0\r\n",
        HEAD "3\r\nabc\r\nA\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
        HEAD "2\r\n\r\n\r\n0\r\n",             /* the data is a line's end */
        HEAD "000000000000001\r\nx\r\n00\r\n", /* 15 digits */
        "\r\n\r\n" HEAD "1\r\nx\r\n0\r\n",     /* empty lines before a request */
        "POST / HTTP/1.1\nTRANSFER-ENCODING:chunked\n\n1\r\nx\r\n0\r\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t step = 1; step <= strlen(cases[i]); step++) {
            struct chunks c;
            if (!feed(&c, cases[i], step) || c.state != CHUNKS_DONE)
                fail_msg("case %zu in pieces of %zu: not read", i, step);
        }
}

static void test_bad_chunks_are_refused(void **state)
{
    static const char *const cases[] = {
        HEAD "\r\n",
        HEAD "+1\r\nx\r\n",
        HEAD "-1\r\nx\r\n",
        HEAD "0x1\r\nx\r\n",
        HEAD " 1\r\nx\r\n",
        HEAD "1 \r\nx\r\n",
        HEAD "1;a=b\r\nx\r\n",
        HEAD "1\nx\r\n",
        HEAD "1\r\r\nx\r\n",
        HEAD "g\r\nx\r\n",
        HEAD "0000000000000001\r\nx\r\n", /* 16 digits */
        HEAD "00000000000000000000000000000000000001\r\nx\r\n",
        HEAD "1\r\nx\n0\r\n",
        HEAD "1\r\nxy\r\n0\r\n",
        HEAD "1\r\nx0\r\n",
        HEAD "1\r\nx\r\n\r\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t step = 1; step <= strlen(cases[i]); step++) {
            struct chunks c;
            if (feed(&c, cases[i], step))
                fail_msg("case %zu in pieces of %zu: accepted", i, step);
        }
}

/* What follows is the body, or the next request: nothing of it is looked at. */
static void test_other_bodies_are_left_alone(void **state)
{
    static const char *const cases[] = {
        "GET / HTTP/1.1\r\n\r\n+1\r\nx\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n+1\r\n",
        HEAD "1\r\nx\r\n0\r\n\r\n" HEAD "+1\r\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t step = 1; step <= strlen(cases[i]); step++) {
            struct chunks c;
            assert_true(feed(&c, cases[i], step));
            assert_int_equal(c.state, CHUNKS_DONE);
        }
}

static void test_unfinished_chunks_are_not_done(void **state)
{
    static const char *const cases[] = {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
                                        HEAD,
                                        HEAD "1",
                                        HEAD "1\r\n",
                                        HEAD "1\r\nx",
                                        HEAD "1\r\nx\r\n",
                                        HEAD "1\r\nx\r\n0"};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct chunks c;
        assert_true(feed(&c, cases[i], 7));
        assert_int_not_equal(c.state, CHUNKS_DONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_chunks_are_read_to_their_end),
        cmocka_unit_test(test_bad_chunks_are_refused),
        cmocka_unit_test(test_other_bodies_are_left_alone),
        cmocka_unit_test(test_unfinished_chunks_are_not_done),
    };
    return cmocka_run_group_tests_name("common/http/chunks", tests, NULL, NULL);
}
