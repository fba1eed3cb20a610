/* test_entry.c: which stream entries become records, and why the others do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/entry.h"

#define TIME "2026-11-24T02:35:02.123Z"
#define FOUR "service", "s", "level", "warn", "message", "m", "timestamp", TIME
#define X16  "xxxxxxxxxxxxxxxx"

static struct buf scratch, line;
static char reason[ENTRY_REASON_MAX];

/* Strings up to NULL. */
static bool read_strings(struct record *r, const char *const *strings)
{
    struct span spans[ENTRY_SPANS_MAX];
    size_t count = 0;
    for (; strings[count] != NULL; count++)
        if (count < ENTRY_SPANS_MAX)
            spans[count] = (struct span){strings[count], strlen(strings[count])};
    return entry_read(r, spans, count, &scratch, reason);
}

static const char *line_of(const struct record *r)
{
    buf_clear(&line);
    record_write_line(&line, r);
    buf_add_char(&line, '\0');
    return line.data;
}

static const struct {
    const char *strings[14];
    const char *line;
} good[] = {
    {{FOUR},
     "{\"level\":\"warn\",\"message\":\"m\",\"service\":\"s\",\"timestamp\":\"" TIME "\"}\n"},
    {{"timestamp", "2026-11-24T03:35:02.1239+01:00", "message", "", "level", "Warning", "service",
      "s"},
     "{\"level\":\"warn\",\"message\":\"\",\"service\":\"s\",\"timestamp\":\"" TIME "\"}\n"},
    {{FOUR, "fields", "{}"},
     "{\"level\":\"warn\",\"message\":\"m\",\"service\":\"s\",\"timestamp\":\"" TIME "\"}\n"},
    {{FOUR, "fields", " { }\n"},
     "{\"level\":\"warn\",\"message\":\"m\",\"service\":\"s\",\"timestamp\":\"" TIME "\"}\n"},
    {{FOUR, "fields", "{\"a\":1.50,\"b\":123456789012345678901234567890}"},
     "{\"level\":\"warn\",\"message\":\"m\",\"service\":\"s\",\"timestamp\":\"" TIME
     "\",\"a\":1.50,\"b\":123456789012345678901234567890}\n"},
    {{FOUR, "fields", "{\r\n\t\"a b\" : \"c \\\" : \\\\\" ,\n\"d\": [1, 2]}"},
     "{\"level\":\"warn\",\"message\":\"m\",\"service\":\"s\",\"timestamp\":\"" TIME
     "\",\"a b\":\"c \\\" : \\\\\",\"d\":[1,2]}\n"},
    {{FOUR, "fields", "{\"nul\":\"\\u0000\",\"deep\":{\"level\":1}}"},
     "{\"level\":\"warn\",\"message\":\"m\",\"service\":\"s\",\"timestamp\":\"" TIME
     "\",\"nul\":\"\\u0000\",\"deep\":{\"level\":1}}\n"},
};

static const struct {
    const char *strings[14];
    const char *reason; /* a part of it */
} bad[] = {
    {{NULL}, "service is missing"},
    {{"service", "s", "level", "warn", "message", "m"}, "timestamp is missing"},
    {{"service", "s", "level", "warn", "timestamp", TIME}, "message is missing"},
    {{"service", "s", "message", "m", "timestamp", TIME}, "level is missing"},
    {{FOUR, "service", "s"}, "service is repeated"},
    {{FOUR, "fields", "{}", "fields", "{}"}, "6 fields"},
    {{FOUR, "extra", "1"}, "unknown field \"extra\""},
    {{FOUR, "\xff", "1"}, "unknown field \"(not UTF-8)\""},
    {{"service", "", "level", "warn", "message", "m", "timestamp", TIME}, "service is empty"},
    {{"service", "a\nb", "level", "warn", "message", "m", "timestamp", TIME}, "service"},
    {{"service", "s", "level", "loud", "message", "m", "timestamp", TIME}, "got \"loud\""},
    {{"service", "s", "level", "", "message", "m", "timestamp", TIME}, "got \"\""},
    {{"service", "s", "level", "\xc3\xc3", "message", "m", "timestamp", TIME}, "(not UTF-8)"},
    {{"service", "s", "level", "warn", "message", "\xff", "timestamp", TIME},
     "message is not UTF-8"},
    {{"service", "s", "level", "warn", "message", "m", "timestamp", "yesterday"},
     "got \"yesterday\""},
    {{"service", "s", "level", "warn", "message", "m", "timestamp", "2026-11-24"}, "timestamp"},
    {{FOUR, "fields", ""}, "fields is not a JSON object"},
    {{FOUR, "fields", "[1]"}, "fields is not a JSON object"},
    {{FOUR, "fields", "{\"a\":}"}, "fields is not a JSON object"},
    {{FOUR, "fields", "{} {}"}, "fields is not a JSON object"},
    {{FOUR, "fields", "{\"a\":\"\xff\"}"}, "fields is not a JSON object"},
    {{FOUR, "fields", "{\"a\":1,\"\\u0061\":2}"}, "fields is not a JSON object: duplicate"},
    {{FOUR, "fields", "{\"a\":{\"b\":1,\"b\":2}}"}, "fields is not a JSON object: duplicate"},
    {{FOUR, "fields", "{\"level\":1}"}, "fields has a member \"level\""},
    {{FOUR, "fields", "{\"a\":1,\"\\u0073ervice\":1}"}, "fields has a member \"service\""},
};

static void test_good(void **arg)
{
    struct record r;
    (void)arg;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!read_strings(&r, good[i].strings))
            fail_msg("case %zu: %s", i, reason);
        assert_string_equal(line_of(&r), good[i].line);
    }
}

static void test_bad(void **arg)
{
    struct record r;
    (void)arg;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (read_strings(&r, bad[i].strings))
            fail_msg("case %zu is taken: %s", i, line_of(&r));
        if (strstr(reason, bad[i].reason) == NULL)
            fail_msg("case %zu: \"%s\" says nothing of \"%s\"", i, reason, bad[i].reason);
    }
}

/* Only the count is known of what is beyond the first spans. */
static void test_very_many_fields(void **arg)
{
    struct span spans[ENTRY_SPANS_MAX];
    struct record r;
    (void)arg;
    for (size_t i = 0; i < ENTRY_SPANS_MAX; i++)
        spans[i] = SPAN_LIT("service");
    assert_false(entry_read(&r, spans, 1000000, &scratch, reason));
    assert_string_equal(reason, "the entry has 500000 fields; at most 5 are known");
}

/* A wrong value is cut before it is quoted, at a character boundary. */
static void test_long_values_are_cut(void **arg)
{
    const char *const strings[] = {
        "service",   "s",  "level", X16 X16 X16 "xxxxxxxxxxxxxxx\xc3\xa9", "message", "m",
        "timestamp", TIME, NULL};
    struct record r;
    (void)arg;
    assert_false(read_strings(&r, strings));
    assert_non_null(strstr(reason, "got \"" X16 X16 X16 "xxxxxxxxxxxxxxx\""));
}

static void test_nul_in_the_message(void **arg)
{
    struct span spans[] = {SPAN_LIT("service"),   SPAN_LIT("s"),       SPAN_LIT("level"),
                           SPAN_LIT("error"),     SPAN_LIT("message"), SPAN_LIT("a\0b"),
                           SPAN_LIT("timestamp"), SPAN_LIT(TIME)};
    struct record r;
    (void)arg;
    assert_true(entry_read(&r, spans, 8, &scratch, reason));
    assert_string_equal(line_of(&r),
                        "{\"level\":\"error\",\"message\":\"a\\u0000b\",\"service\":\"s\","
                        "\"timestamp\":\"" TIME "\"}\n");
}

/* jansson passes over it behind a number or a word. */
static void test_nul_in_the_fields(void **arg)
{
    static const struct span values[] = {SPAN_LIT("{\"a\":1\0}"), SPAN_LIT("{\"a\":true\0}"),
                                         SPAN_LIT("{\"a\":1}\0"), SPAN_LIT("{\"\0\":1}"),
                                         SPAN_LIT("{\"a\":\"\0\"}")};
    struct span spans[] = {SPAN_LIT("service"),   SPAN_LIT("s"),       SPAN_LIT("level"),
                           SPAN_LIT("error"),     SPAN_LIT("message"), SPAN_LIT("m"),
                           SPAN_LIT("timestamp"), SPAN_LIT(TIME),      SPAN_LIT("fields"),
                           SPAN_LIT("")};
    struct record r;
    (void)arg;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        spans[9] = values[i];
        assert_false(entry_read(&r, spans, 10, &scratch, reason));
        assert_string_equal(reason, "fields holds a NUL byte");
    }
}

static int free_buffers(void **arg)
{
    (void)arg;
    buf_free(&scratch);
    buf_free(&line);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_very_many_fields),
        cmocka_unit_test(test_long_values_are_cut),
        cmocka_unit_test(test_nul_in_the_message),
        cmocka_unit_test(test_nul_in_the_fields),
    };
    return cmocka_run_group_tests_name("entry", tests, NULL, free_buffers);
}
