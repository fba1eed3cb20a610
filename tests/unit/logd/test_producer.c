/* test_producer.c: the headers of an idempotent producer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "logd/producer.h"

#define ID "0123456789abcdef0123456789abcdef"

static void test_producer_headers_are_read(void **state)
{
    struct producer p;
    struct failure f;
    (void)state;
    assert_true(producer_parse(&p, NULL, NULL, NULL, &f));
    assert_string_equal(p.id, "");
    assert_true(producer_parse(&p, ID, "1", NULL, &f));
    assert_string_equal(p.id, ID);
    assert_int_equal(p.first, 1);
    assert_int_equal(p.skip, 0);
    assert_true(producer_parse(&p, ID, "9007199254740991", "12", &f));
    assert_true(p.first == PRODUCER_SEQUENCE_MAX);
    assert_int_equal(p.skip, 12);
}

static void test_wrong_producer_headers_are_refused(void **state)
{
    static const struct {
        const char *id, *sequence, *skip, *error;
    } cases[] = {
        {ID, NULL, NULL, "go together"},
        {NULL, "1", NULL, "go together"},
        {NULL, NULL, "1", "go together"},
        {"0123456789ABCDEF0123456789ABCDEF", "1", NULL, "Log-Producer must be"},
        {ID "0", "1", NULL, "Log-Producer must be"},
        {"0123", "1", NULL, "Log-Producer must be"},
        {"", "1", NULL, "Log-Producer must be"},
        {ID, "0", NULL, "Log-Sequence must be"},
        {ID, "", NULL, "Log-Sequence must be"},
        {ID, "-1", NULL, "Log-Sequence must be"},
        {ID, "+1", NULL, "Log-Sequence must be"},
        {ID, "1.0", NULL, "Log-Sequence must be"},
        {ID, "9007199254740992", NULL, "Log-Sequence must be"},
        {ID, "99999999999999999999999", NULL, "Log-Sequence must be"},
        {ID, "1", "-1", "Log-Skip must be"},
        {ID, "1", "x", "Log-Skip must be"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct producer p;
        struct failure f;
        assert_false(producer_parse(&p, cases[i].id, cases[i].sequence, cases[i].skip, &f));
        assert_int_equal(f.status, 400);
        if (strstr(f.text, cases[i].error) == NULL)
            fail_msg("case %zu: %s", i, f.text);
    }
}

static void test_sequence_numbers_end_at_2_to_53(void **state)
{
    struct producer p = {.id = ID, .first = PRODUCER_SEQUENCE_MAX - 9};
    struct failure f;
    (void)state;
    assert_true(producer_takes(&p, 10, &f));
    assert_false(producer_takes(&p, 11, &f));
    assert_int_equal(f.status, 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_producer_headers_are_read),
        cmocka_unit_test(test_wrong_producer_headers_are_refused),
        cmocka_unit_test(test_sequence_numbers_end_at_2_to_53),
    };
    return cmocka_run_group_tests_name("logd/producer", tests, NULL, NULL);
}
