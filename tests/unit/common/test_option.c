/* test_option.c: what the text of a value may be, for each type of a row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/level.h"
#include "common/option.h"

enum colour { RED = 3, GREEN, BLUE };

static struct settings {
    const char *text;
    struct option_list list;
    bool on;
    int64_t number;
    enum colour colour;
    enum level level;
} got;

static const char *check_no_space(const char *value)
{
    return strchr(value, ' ') != NULL ? "give a name without spaces" : NULL;
}

#define ROW(kind, member) OPTION_ROW(#member, kind, struct settings, member)

static const struct option_spec text = {ROW(OPTION_STRING, text), .check = check_no_space};
static const struct option_spec list = {ROW(OPTION_LIST, list), .check = check_no_space};
static const struct option_spec on = {ROW(OPTION_BOOL, on)};
static const struct option_spec count = {ROW(OPTION_NUMBER, number), .min = -5, .max = 100};
static const struct option_spec any = {ROW(OPTION_NUMBER, number)};
static const struct option_spec bytes = {ROW(OPTION_BYTES, number), .min = 1024, .max = 3 << 20};
static const struct option_spec ms = {ROW(OPTION_MS, number), .min = 1, .max = 7 * 86400000};
static const struct option_spec seconds = {ROW(OPTION_SECONDS, number), .min = 1, .max = 86400,
                                           .choices = OPTION_CHOICES({"never", 0}, {"batch", -1})};
static const struct option_spec colour = {
    ROW(OPTION_CHOICE, colour),
    .choices = OPTION_CHOICES({"red", RED}, {"green", GREEN}, {"blue", BLUE})};
static const struct option_spec one = {ROW(OPTION_CHOICE, colour),
                                       .choices = OPTION_CHOICES({"red", RED})};
static const struct option_spec level = {ROW(OPTION_LEVEL, level)};

static char err[512];

static int reset(void **state)
{
    (void)state;
    option_list_free(&got.list);
    got = (struct settings){.number = -77};
    err[0] = '\0';
    return 0;
}

static void good(const struct option_spec *spec, const char *value)
{
    if (!option_set(spec, &got, "--it", value, err, sizeof(err)))
        fail_msg("%s: %s", spec->name, err);
}

/* Refused with this remedy, and nothing is stored. */
static void bad(const struct option_spec *spec, const char *value, const char *remedy)
{
    struct settings before;
    char expected[512];
    memcpy(&before, &got, sizeof(got)); /* with its padding */
    snprintf(expected, sizeof(expected), "--it: \"%s\" is not valid: %s", value, remedy);
    assert_false(option_set(spec, &got, "--it", value, err, sizeof(err)));
    assert_string_equal(err, expected);
    assert_memory_equal(&got, &before, sizeof(got));
}

static void test_a_text_is_borrowed_and_checked(void **state)
{
    static const char value[] = "a";
    (void)state;
    good(&text, value);
    assert_ptr_equal(got.text, value);
    good(&text, "");
    assert_string_equal(got.text, "");
    bad(&text, "a b", "give a name without spaces");
    assert_null(option_check_name("a"));
    assert_string_equal(option_check_name(""), "give a name");
}

static void test_a_list_takes_one_more_item(void **state)
{
    char value[] = "a,b";
    (void)state;
    good(&list, value);
    value[0] = 'x';
    good(&list, "c");
    assert_int_equal(got.list.count, 2);
    assert_string_equal(got.list.item[0], "a,b");
    assert_string_equal(got.list.item[1], "c");
    bad(&list, "", "an item is empty; leave it out");
    bad(&list, "a b", "give a name without spaces");
    while (got.list.count < OPTION_LIST_MAX)
        good(&list, "d");
    assert_false(option_set(&list, &got, "--it", "e", err, sizeof(err)));
    assert_string_equal(err, "--it: more than 16 values; give fewer");
    assert_int_equal(got.list.count, OPTION_LIST_MAX);
}

static void test_a_bool_has_four_names_each(void **state)
{
    static const char *const words[] = {"true", "YES", "on", "1", "false", "no", "Off", "0"};
    (void)state;
    for (size_t i = 0; i < 8; i++) {
        got.on = i >= 4;
        good(&on, words[i]);
        assert_int_equal(got.on, i < 4);
    }
    bad(&on, "maybe", "give true or false (or yes, no, on, off, 1, 0)");
    bad(&on, "", "give true or false (or yes, no, on, off, 1, 0)");
}

static void test_numbers_have_units(void **state)
{
    static const struct {
        const struct option_spec *spec;
        const char *value;
        int64_t number;
    } cases[] = {
        {&count, "-5", -5},       {&count, "100", 100},    {&count, "007", 7},
        {&bytes, "2048", 2048},   {&bytes, "2k", 2048},    {&bytes, "3M", 3 << 20},
        {&bytes, "01m", 1 << 20}, {&ms, "1", 1},           {&ms, "2ms", 2},
        {&ms, "3s", 3000},        {&ms, "4m", 240000},     {&ms, "5h", 18000000},
        {&ms, "7D", 604800000},   {&seconds, "1", 1},      {&seconds, "86400s", 86400},
        {&seconds, "5m", 300},    {&seconds, "1d", 86400},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        good(cases[i].spec, cases[i].value);
        assert_true(got.number == cases[i].number);
    }
}

static void test_bad_numbers_are_refused(void **state)
{
    static const struct {
        const struct option_spec *spec;
        const char *remedy, *values[14];
    } cases[] = {
        {&count,
         "give a whole number, from -5 to 100",
         {"", "x", "1x", "+1", " 1", "1 ", "1k", "0x1", "101", "-6", "--1", "-",
          "99999999999999999999"}},
        {&bytes,
         "give a number of bytes, optionally with k, m or g behind it, from 1k to 3m",
         {"", "k", "1", "1023", "1.5m", "-1k", "4m", "1kb", "1g", "9223372036854775807k"}},
        {&ms,
         "give a time, a number with ms, s, m, h or d behind it (none means ms), from 1ms to 7d",
         {"", "0", "s", "-1", "1w", "8d", "1 s", "9223372036854775807d"}},
        {&seconds,
         "give never, batch or a time, a number with s, m, h or d behind it (none means s), from "
         "1s to 1d",
         {"", "0", "-1", "86401", "100ms", "2d", "1.5", "Never", "batches", "sometimes"}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (const char *const *value = cases[i].values; *value != NULL; value++)
            bad(cases[i].spec, *value, cases[i].remedy);
}

static void test_a_number_may_have_no_limits(void **state)
{
    (void)state;
    good(&any, "-9223372036854775808");
    assert_true(got.number == INT64_MIN);
    good(&any, "9223372036854775807");
    assert_true(got.number == INT64_MAX);
    bad(&any, "9223372036854775808", "give a whole number");
}

static void test_a_word_may_stand_for_a_number_beyond_the_limits(void **state)
{
    (void)state;
    good(&seconds, "batch");
    assert_true(got.number == -1);
    good(&seconds, "never");
    assert_true(got.number == 0);
}

static void test_a_choice_is_one_of_its_words(void **state)
{
    (void)state;
    good(&colour, "red");
    assert_int_equal(got.colour, RED);
    good(&colour, "blue");
    assert_int_equal(got.colour, BLUE);
    bad(&colour, "", "give red, green or blue");
    bad(&colour, "Blue", "give red, green or blue");
    bad(&colour, "blu", "give red, green or blue");
    bad(&colour, "3", "give red, green or blue");
    bad(&one, "green", "give red");
}

static void test_a_level_has_aliases(void **state)
{
    (void)state;
    good(&level, "warn");
    assert_int_equal(got.level, LEVEL_WARN);
    good(&level, "CRITICAL");
    assert_int_equal(got.level, LEVEL_FATAL);
    bad(&level, "loud", "give one of trace, debug, info, warn, error, fatal");
    bad(&level, "", "give one of trace, debug, info, warn, error, fatal");
}

static void test_a_long_value_is_cut_so_that_the_remedy_is_seen(void **state)
{
    char value[1000] = "", expected[200];
    (void)state;
    for (int i = 0; i < 499; i++)
        strcat(value, "ä");
    assert_false(option_set(&any, &got, "--it", value, err, sizeof(err)));
    snprintf(expected, sizeof(expected), "--it: \"%.100s...\" is not valid: give a whole number",
             value);
    assert_string_equal(err, expected);
}

static void test_an_error_needs_no_buffer(void **state)
{
    char small[8];
    (void)state;
    assert_false(option_set(&any, &got, "--it", "x", NULL, 100));
    assert_false(option_set(&any, &got, "--it", "x", small, sizeof(small)));
    assert_string_equal(small, "--it: \"");
}

static void test_names_of_variables(void **state)
{
    char name[32];
    (void)state;
    option_env_name(name, sizeof(name), "logd", "max-body");
    assert_string_equal(name, "LOGD_MAX_BODY");
    option_env_name(name, 8, "logclient", "url");
    assert_string_equal(name, "LOGCLIE");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, reset, reset)
    const struct CMUnitTest tests[] = {
        TEST(test_a_text_is_borrowed_and_checked),
        TEST(test_a_list_takes_one_more_item),
        TEST(test_a_bool_has_four_names_each),
        TEST(test_numbers_have_units),
        TEST(test_bad_numbers_are_refused),
        TEST(test_a_number_may_have_no_limits),
        TEST(test_a_word_may_stand_for_a_number_beyond_the_limits),
        TEST(test_a_choice_is_one_of_its_words),
        TEST(test_a_level_has_aliases),
        TEST(test_a_long_value_is_cut_so_that_the_remedy_is_seen),
        TEST(test_an_error_needs_no_buffer),
        TEST(test_names_of_variables),
    };
    return cmocka_run_group_tests_name("option", tests, NULL, NULL);
}
