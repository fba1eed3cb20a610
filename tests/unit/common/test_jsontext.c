/* test_jsontext.c: common/jsontext.[ch]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/jsontext.h"

static void assert_buf(const struct buf *b, const char *want, size_t n)
{
    assert_false(b->failed);
    assert_int_equal(b->len, n);
    assert_memory_equal(b->data, want, n);
}

static void test_white_space_is_skipped(void **state)
{
    const char text[] = " \t\r\n\v x", *end = text + sizeof(text) - 1;
    (void)state;
    assert_ptr_equal(jsontext_skip_space(text, end), text + 4);
    assert_ptr_equal(jsontext_skip_space(text, text + 2), text + 2);
    assert_ptr_equal(jsontext_skip_space(text + 6, end), text + 6);
}

static void test_json_strings_are_as_json_stringify_writes_them(void **state)
{
    struct buf out = {0};
    const char in[] = "\"\\/\b\f\n\r\t\x01\x1f\x7f\0 \xe2\x80\xa8\xf0\x9f\x98\x80";
    const char want[] =
        "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\\u0000 \xe2\x80\xa8\xf0\x9f\x98\x80\"";
    (void)state;
    jsontext_string(&out, in, sizeof(in) - 1);
    assert_buf(&out, want, sizeof(want) - 1);
    buf_clear(&out);
    jsontext_string(&out, "", 0);
    assert_buf(&out, "\"\"", 2);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_strings_are_as_json_stringify_writes_them),
        cmocka_unit_test(test_white_space_is_skipped),
    };
    return cmocka_run_group_tests_name("jsontext", tests, NULL, NULL);
}
