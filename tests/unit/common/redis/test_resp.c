/* test_resp.c: commands in RESP2, byte for byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/redis/resp.h"

static void test_resp(void **state)
{
    struct buf out = {0};
    (void)state;
    resp_begin(&out, 12);
    resp_arg_str(&out, "XADD");
    resp_arg(&out, "a\0\r\n", 4);
    resp_arg(&out, NULL, 0);
    resp_arg_int(&out, 0);
    resp_arg_int(&out, -120);
    resp_arg_int(&out, INT64_MAX);
    resp_arg_int(&out, INT64_MIN);
    assert_int_equal(out.len, 5 + 10 + 10 + 6 + 7 + 10 + 26 + 27);
    assert_memory_equal(out.data,
                        "*12\r\n$4\r\nXADD\r\n$4\r\na\0\r\n\r\n$0\r\n\r\n$1\r\n0\r\n$4\r\n-120\r\n"
                        "$19\r\n9223372036854775807\r\n$20\r\n-9223372036854775808\r\n",
                        out.len);
    buf_free(&out);
}

static void test_words_make_a_command(void **state)
{
    struct buf out = {0};
    (void)state;
    resp_command(&out, RESP_WORDS("XLEN", "a b"));
    resp_command(&out, RESP_WORDS("PING"));
    resp_begin(&out, 3);
    resp_words(&out, RESP_WORDS("COUNT", ""));
    resp_arg_int(&out, 1);
    assert_true(span_is((struct span){out.data, out.len},
                        "*2\r\n$4\r\nXLEN\r\n$3\r\na b\r\n*1\r\n$4\r\nPING\r\n"
                        "*3\r\n$5\r\nCOUNT\r\n$0\r\n\r\n$1\r\n1\r\n"));
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resp),
        cmocka_unit_test(test_words_make_a_command),
    };
    return cmocka_run_group_tests_name("common/redis/resp", tests, NULL, NULL);
}
