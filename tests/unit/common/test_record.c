/* Levels, timestamps, UTF-8, JSON text and the line of app.log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>

#include "common/buf.h"
#include "common/jsontext.h"
#include "common/record.h"
#include "common/timestamp.h"
#include "common/utf8.h"

static void assert_buf(const struct buf *b, const char *want, size_t n)
{
    assert_false(b->failed);
    assert_int_equal(b->len, n);
    assert_memory_equal(b->data, want, n);
}

static void test_levels_have_aliases_in_any_case(void **state)
{
    static const struct {
        const char *name;
        enum level level;
    } cases[] = {
        {"trace", LEVEL_TRACE},    {"debug", LEVEL_DEBUG},    {"info", LEVEL_INFO},
        {"warn", LEVEL_WARN},      {"error", LEVEL_ERROR},    {"fatal", LEVEL_FATAL},
        {"silly", LEVEL_TRACE},    {"verbose", LEVEL_DEBUG},  {"http", LEVEL_DEBUG},
        {"notice", LEVEL_INFO},    {"warning", LEVEL_WARN},   {"err", LEVEL_ERROR},
        {"crit", LEVEL_FATAL},     {"critical", LEVEL_FATAL}, {"alert", LEVEL_FATAL},
        {"emerg", LEVEL_FATAL},    {"panic", LEVEL_FATAL},    {"ERROR", LEVEL_ERROR},
        {"Warning", LEVEL_WARN},   {"cRiTiCaL", LEVEL_FATAL}, {"", LEVEL_INVALID},
        {"erro", LEVEL_INVALID},   {"errors", LEVEL_INVALID}, {"criticals", LEVEL_INVALID},
        {" error", LEVEL_INVALID}, {"warn ", LEVEL_INVALID},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(level_parse(cases[i].name, strlen(cases[i].name)), cases[i].level);
    /* Any other byte at any place makes it another word. */
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t at = 0; at < strlen(cases[i].name); at++)
            for (int byte = 0; byte < 256; byte++) {
                char name[16];
                strcpy(name, cases[i].name);
                bool same = tolower(byte) == tolower((unsigned char)name[at]);
                name[at] = (char)byte;
                if (same || cases[i].level != LEVEL_INVALID)
                    assert_int_equal(level_parse(name, strlen(cases[i].name)),
                                     same ? cases[i].level : LEVEL_INVALID);
            }
    assert_int_equal(level_parse("warn\0", 5), LEVEL_INVALID);
    assert_int_equal(level_parse("warnings are no level", 4), LEVEL_WARN);
    for (int level = LEVEL_TRACE; level <= LEVEL_FATAL; level++)
        assert_int_equal(
            level_parse(level_name((enum level)level), strlen(level_name((enum level)level))),
            level);
}

static void test_timestamps_are_read_and_normalised(void **state)
{
    static const struct {
        const char *text, *stored;
    } cases[] = {
        {"2026-11-24T02:35:02.123Z", "2026-11-24T02:35:02.123Z"},
        {"2026-11-24t02:35:02z", "2026-11-24T02:35:02.000Z"},
        {"2026-11-24 02:35:02.1Z", "2026-11-24T02:35:02.100Z"},
        {"2026-11-24T02:35:02.1239999999Z", "2026-11-24T02:35:02.123Z"},
        {"2026-11-24T02:35:02+05:30", "2026-11-23T21:05:02.000Z"},
        {"2026-12-31T23:59:59.5-00:30", "2027-01-01T00:29:59.500Z"},
        {"2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999Z"},
        {"1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"},
        {"1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"},
        {"2024-02-29T12:00:00Z", "2024-02-29T12:00:00.000Z"},
        {"2000-02-29T12:00:00Z", "2000-02-29T12:00:00.000Z"},
        {"0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z"},
        {"9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t ms;
        char out[TIMESTAMP_LEN];
        assert_true(timestamp_parse(cases[i].text, strlen(cases[i].text), &ms));
        timestamp_format(ms, out);
        assert_memory_equal(out, cases[i].stored, TIMESTAMP_LEN);
    }
}

static void test_what_is_no_timestamp_is_refused(void **state)
{
    static const char *const cases[] = {
        "",
        "2026-11-24",
        "2026-11-24T02:35:02",
        "2026-11-24T02:35Z",
        "2026-13-24T02:35:02Z",
        "2026-00-24T02:35:02Z",
        "2026-11-31T02:35:02Z",
        "2025-02-29T02:35:02Z",
        "1900-02-29T02:35:02Z",
        "2026-11-24T24:00:00Z",
        "2026-11-24T02:60:02Z",
        "2026-11-24T02:35:61Z",
        "2026-11-24T02:35:02.Z",
        "2026-11-24T02:35:02,5Z",
        "2026-11-24T02:35:02+0530",
        "2026-11-24T02:35:02+24:00",
        "2026-11-24T02:35:02+05:60",
        "2026-11-24T02:35:02Zx",
        "+2026-11-24T02:35:02Z",
        "2026-11-24x02:35:02Z",
        "0000-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "1732415702123",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t ms;
        assert_false(timestamp_parse(cases[i], strlen(cases[i]), &ms));
    }
}

static void test_every_day_of_four_centuries_comes_back(void **state)
{
    (void)state;
    for (int64_t day = -141427; day <= 146097; day++) { /* from 1582 on */
        int64_t ms = day * 86400000 + 45296789, again;
        char text[TIMESTAMP_LEN];
        timestamp_format(ms, text);
        assert_true(timestamp_parse(text, TIMESTAMP_LEN, &again));
        assert_int_equal(again, ms);
    }
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

static void test_a_line_has_the_four_members_and_then_the_others(void **state)
{
    struct buf out = {0};
    struct record r = {
        .service = SPAN_LIT("payment"),
        .message = SPAN_LIT("card \"refused\""),
        .level = LEVEL_ERROR,
        .timestamp_ms = 1795487702123,
    };
    const char plain[] =
        "{\"level\":\"error\",\"message\":\"card \\\"refused\\\"\",\"service\":\"payment\","
        "\"timestamp\":\"2026-11-24T02:35:02.123Z\"}\n";
    const char more[] =
        "{\"level\":\"error\",\"message\":\"card \\\"refused\\\"\",\"service\":\"payment\","
        "\"timestamp\":\"2026-11-24T02:35:02.123Z\",\"a\":1,\"b\":[]}\n";
    (void)state;
    record_write_line(&out, &r);
    assert_buf(&out, plain, sizeof(plain) - 1);
    buf_clear(&out);
    r.fields = SPAN_LIT("{}");
    record_write_line(&out, &r);
    assert_buf(&out, plain, sizeof(plain) - 1);
    buf_clear(&out);
    r.fields = SPAN_LIT("{\"a\":1,\"b\":[]}");
    record_write_line(&out, &r);
    assert_buf(&out, more, sizeof(more) - 1);
    buf_free(&out);
}

static void test_service_names_have_rules(void **state)
{
    char longest[RECORD_SERVICE_MAX + 1];
    (void)state;
    memset(longest, 'x', sizeof(longest));
    assert_null(record_service_error("payment", 7));
    assert_null(record_service_error("z\xc3\xa4hler 1", 9));
    assert_null(record_service_error(longest, RECORD_SERVICE_MAX));
    assert_non_null(record_service_error(longest, RECORD_SERVICE_MAX + 1));
    assert_non_null(record_service_error("", 0));
    assert_non_null(record_service_error("a\nb", 3));
    assert_non_null(record_service_error("a\0b", 3));
    assert_non_null(record_service_error("a\x7f", 2));
    assert_non_null(record_service_error("\xff", 1));
}

static void test_a_buffer_grows_and_remembers_its_failure(void **state)
{
    struct buf b = {0};
    (void)state;
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i);
    assert_false(b.failed);
    assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4);
    assert_memory_equal(b.data + b.len - 8, "998,999,", 8);
    assert_false(buf_reserve(&b, SIZE_MAX / 2 + 1));
    assert_true(b.failed);
    size_t len = b.len;
    buf_add(&b, b.data, b.cap); /* does nothing: it does not fit, and the buffer has failed */
    assert_int_equal(b.len, len);
    buf_clear(&b);
    assert_false(b.failed);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels_have_aliases_in_any_case),
        cmocka_unit_test(test_timestamps_are_read_and_normalised),
        cmocka_unit_test(test_what_is_no_timestamp_is_refused),
        cmocka_unit_test(test_every_day_of_four_centuries_comes_back),
        cmocka_unit_test(test_utf8_is_told_from_other_bytes),
        cmocka_unit_test(test_a_cut_never_splits_a_character),
        cmocka_unit_test(test_json_strings_are_as_json_stringify_writes_them),
        cmocka_unit_test(test_a_line_has_the_four_members_and_then_the_others),
        cmocka_unit_test(test_service_names_have_rules),
        cmocka_unit_test(test_a_buffer_grows_and_remembers_its_failure),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
