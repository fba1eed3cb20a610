/* test_record.c: common/record.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/record.h"

static void assert_buf(const struct buf *b, const char *want, size_t n)
{
    assert_false(b->failed);
    assert_int_equal(b->len, n);
    assert_memory_equal(b->data, want, n);
}

static void test_fields_are_found_by_name(void **state)
{
    (void)state;
    for (enum record_field f = 0; f < FIELD_COUNT; f++)
        assert_int_equal(record_find(record_rules[f].name), f);
    assert_int_equal(record_find(SPAN_LIT("")), FIELD_COUNT);
    assert_int_equal(record_find(SPAN_LIT("Service")), FIELD_COUNT);
    assert_int_equal(record_find(SPAN_LIT("servicE")), FIELD_COUNT);
    assert_int_equal(record_find(SPAN_LIT("levels")), FIELD_COUNT);
}

static void test_members_are_set_by_their_rules(void **state)
{
    struct record r = {0};
    (void)state;
    assert_null(record_set(&r, FIELD_SERVICE, SPAN_LIT("payment")));
    assert_null(record_set(&r, FIELD_LEVEL, SPAN_LIT("Warning")));
    assert_null(record_set(&r, FIELD_MESSAGE, SPAN_LIT("")));
    assert_null(record_set(&r, FIELD_TIMESTAMP, SPAN_LIT("2026-11-24T02:35:02.123Z")));
    assert_true(span_is(r.service, "payment"));
    assert_int_equal(r.level, LEVEL_WARN);
    assert_int_equal(r.message.n, 0);
    assert_int_equal(r.timestamp_ms, 1795487702123);
    assert_string_equal(record_set(&r, FIELD_SERVICE, SPAN_LIT("")), "is empty");
    assert_string_equal(record_set(&r, FIELD_LEVEL, SPAN_LIT("loud")),
                        "must be one of " LEVEL_NAMES);
    assert_string_equal(record_set(&r, FIELD_TIMESTAMP, SPAN_LIT("yesterday")),
                        "must be an RFC 3339 date-time");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line_has_the_four_members_and_then_the_others),
        cmocka_unit_test(test_service_names_have_rules),
        cmocka_unit_test(test_fields_are_found_by_name),
        cmocka_unit_test(test_members_are_set_by_their_rules),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
