/* test_utf8.c: common/utf8.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/utf8.h"

static void assert_buf(const struct buf *b, const char *want, size_t n)
{
    assert_false(b->failed);
    assert_int_equal(b->len, n);
    assert_memory_equal(b->data, want, n);
}

static void test_utf8_is_told_from_other_bytes(void **state)
{
    static const struct {
        const char *text;
        size_t n, valid;
        const char *repaired;
    } cases[] = {
        {"", 0, 0, ""},
        {"plain text, longer than eight", 29, 29, "plain text, longer than eight"},
        {"a\0b", 3, 3, "a"},
        {"gr\xc3\xbc\xc3\x9f", 6, 6, "gr\xc3\xbc\xc3\x9f"},
        {"\xe2\x82\xac \xf0\x9f\x98\x80", 8, 8, "\xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xed\x9f\xbf\xee\x80\x80", 6, 6, "\xed\x9f\xbf\xee\x80\x80"},
        {"\xf4\x8f\xbf\xbf", 4, 4, "\xf4\x8f\xbf\xbf"},
        {"a\x80z", 3, 1, "a\xef\xbf\xbdz"},
        {"\xff\xfe", 2, 0, "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xc0\xaf", 2, 0, "\xef\xbf\xbd\xef\xbf\xbd"}, /* overlong */
        {"\xe0\x80\xaf", 3, 0, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", 3, 0, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* surrogate */
        {"\xf4\x90\x80\x80", 4, 0, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"ab\xe2\x82", 4, 2, "ab\xef\xbf\xbd"}, /* cut short: one maximal part */
        {"\xf0\x9f\x98z", 4, 0, "\xef\xbf\xbdz"},
        {"12345678\xc3", 9, 8, "12345678\xef\xbf\xbd"},
        /* Unicode 15, table 3-11 */
        {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", 9, 0,
         "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\x41"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf out = {0};
        assert_int_equal(utf8_valid_prefix(cases[i].text, cases[i].n), cases[i].valid);
        utf8_repair(&out, cases[i].text, cases[i].n);
        if (strlen(cases[i].text) == cases[i].n)
            assert_buf(&out, cases[i].repaired, strlen(cases[i].repaired));
        if (out.len > 0)
            assert_true(utf8_valid(out.data, out.len));
        buf_free(&out);
    }
}

static void test_a_cut_never_splits_a_character(void **state)
{
    const char *text = "a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80"; /* lengths 1, 2, 3, 4 */
    static const size_t want[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10};
    (void)state;
    for (size_t max = 0; max < sizeof(want) / sizeof(want[0]); max++)
        assert_int_equal(utf8_cut(text, 10, max), want[max]);
}

#define LENGTH_MAX 150 /* more than two blocks, and words before and behind them */

/* The text stands at the end of its memory, so that a sanitizer sees a read behind it. */
static void assert_valid_prefix(const char *text, size_t n, size_t want)
{
    for (size_t offset = 0; offset < 8; offset++) {
        char *memory = malloc(offset + n + (offset + n == 0));
        assert_non_null(memory);
        memcpy(memory + offset, text, n);
        assert_int_equal(utf8_valid_prefix(memory + offset, n), want);
        free(memory);
    }
}

static void test_bytes_are_looked_at_in_each_place(void **state)
{
    (void)state;
    for (size_t n = 0; n <= LENGTH_MAX; n++) {
        char text[LENGTH_MAX];
        memset(text, 'x', n);
        assert_valid_prefix(text, n, n);
        for (size_t at = 0; at < n; at++) {
            text[at] = (char)(at % 2 == 0 ? 0x80 : 0xff);
            assert_valid_prefix(text, n, at);
            text[at] = 'x';
        }
        for (size_t at = 0; at + 1 < n; at++) {
            memcpy(text + at, "\xc3\xbc", 2);
            assert_valid_prefix(text, n, n);
            text[at] = text[at + 1] = 'x';
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_are_looked_at_in_each_place),
        cmocka_unit_test(test_utf8_is_told_from_other_bytes),
        cmocka_unit_test(test_a_cut_never_splits_a_character),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
