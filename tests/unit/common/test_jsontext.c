/* test_jsontext.c: common/jsontext.[ch]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

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

#define LENGTH_MAX 150 /* more than two blocks, and words before and behind them */
#define OFFSETS    8

static bool is_special(unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\';
}

/* What is right, byte by byte. */
static size_t plain_length(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && !is_special((unsigned char)s[i]))
        i++;
    return i;
}

/* Looks at the text where it ends with its memory, so that a sanitizer sees a read behind it. */
static void assert_plain(const char *text, size_t n)
{
    for (size_t offset = 0; offset < OFFSETS; offset++) {
        char *memory = malloc(offset + n + (offset + n == 0));
        assert_non_null(memory);
        memcpy(memory + offset, text, n);
        assert_int_equal(jsontext_plain(memory + offset, n), plain_length(text, n));
        free(memory);
    }
}

static void test_a_run_ends_at_each_byte_that_is_escaped(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++)
        for (size_t n = 1; n <= 80; n++) {
            char text[80];
            memset(text, 'x', n);
            text[n - 1] = (char)c;
            assert_int_equal(jsontext_plain(text, n), is_special((unsigned char)c) ? n - 1 : n);
        }
}

static void test_a_run_ends_at_each_place(void **state)
{
    static const char ends[] = {'\0', 0x1f, '"', '\\'};
    static const char fillers[] = {' ', '!', '#', '[', ']', 0x7f, (char)0x80, (char)0xff};
    (void)state;
    for (size_t n = 0; n <= LENGTH_MAX; n++) {
        char text[LENGTH_MAX];
        memset(text, fillers[n % sizeof(fillers)], n);
        assert_plain(text, n);
        for (size_t at = 0; at < n; at++) {
            char was = text[at];
            text[at] = ends[(n + at) % sizeof(ends)];
            assert_plain(text, n);
            text[at] = was;
        }
    }
}

/* In a word, a borrow goes on from a byte to those behind it. */
static void test_a_run_ends_at_the_first_of_two(void **state)
{
    static const char bytes[] = {'\0', 0x1f, ' ', '!', '"', '#', '[', '\\', ']', (char)0x80};
    const size_t count = sizeof(bytes), words = 11;
    (void)state;
    for (size_t at = 0; at + 1 < 8 * words; at++)
        for (size_t pair = 0; pair < count * count; pair++) {
            char text[8 * 11];
            memset(text, 'x', sizeof(text));
            text[at] = bytes[pair / count];
            text[at + 1] = bytes[pair % count];
            assert_int_equal(jsontext_plain(text, sizeof(text)), plain_length(text, sizeof(text)));
        }
}

static void test_each_place_of_a_json_string_is_escaped(void **state)
{
    (void)state;
    for (size_t n = 1; n <= LENGTH_MAX; n++)
        for (size_t at = 0; at < n; at++) {
            char text[LENGTH_MAX], want[LENGTH_MAX + 4];
            struct buf out = {0};
            memset(text, 'x', n);
            memset(want, 'x', sizeof(want));
            text[at] = '\n';
            want[0] = want[n + 2] = '"';
            want[at + 1] = '\\';
            want[at + 2] = 'n';
            jsontext_string(&out, text, n);
            assert_buf(&out, want, n + 3);
            buf_free(&out);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_run_ends_at_each_byte_that_is_escaped),
        cmocka_unit_test(test_a_run_ends_at_each_place),
        cmocka_unit_test(test_a_run_ends_at_the_first_of_two),
        cmocka_unit_test(test_each_place_of_a_json_string_is_escaped),
        cmocka_unit_test(test_json_strings_are_as_json_stringify_writes_them),
        cmocka_unit_test(test_white_space_is_skipped),
    };
    return cmocka_run_group_tests_name("jsontext", tests, NULL, NULL);
}
