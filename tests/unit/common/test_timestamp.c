/* test_timestamp.c: common/timestamp.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/timestamp.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timestamps_are_read_and_normalised),
        cmocka_unit_test(test_what_is_no_timestamp_is_refused),
        cmocka_unit_test(test_every_day_of_four_centuries_comes_back),
    };
    return cmocka_run_group_tests_name("timestamp", tests, NULL, NULL);
}
