/* test_failure.c: why a request is refused, as the client reads it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/http/failure.h"

static void assert_written(const struct failure *f, const char *want)
{
    struct buf out = {0};
    failure_write(f, &out);
    assert_int_equal(out.len, strlen(want));
    assert_memory_equal(out.data, want, out.len);
    buf_free(&out);
}

static void test_failures_are_json(void **state)
{
    struct failure f;
    (void)state;
    failure_set(&f, 404, "no \"%s\"", "x\ny");
    assert_written(&f, "{\"error\":\"no \\\"x\\ny\\\"\"}");
    failure_set_record(&f, 7, "", "bad \xff byte");
    assert_int_equal(f.status, 400);
    assert_written(&f, "{\"error\":\"bad \xef\xbf\xbd byte\",\"index\":7,\"field\":\"\"}");
    failure_set_unavailable(&f, STORED_NOTHING, "down");
    assert_int_equal(f.status, 503);
    assert_true(f.retry_after > 0);
    assert_written(&f, "{\"error\":\"down\",\"stored\":false}");
    failure_set_unavailable(&f, STORED_UNKNOWN, "gone");
    assert_written(&f, "{\"error\":\"gone\",\"stored\":null}");
}

static void test_shown_values_are_short_and_printable(void **state)
{
    char out[FAILURE_SHOWN_MAX];
    char long_value[300];
    (void)state;
    assert_string_equal(failure_show(out, "a\n\x7f", 3), "\"a??\"");
    assert_string_equal(failure_show(out, "", 0), "\"\"");
    for (size_t i = 0; i < sizeof(long_value); i += 2)
        memcpy(long_value + i, "\xc3\xa9", 2);
    failure_show(out, long_value, sizeof(long_value));
    assert_int_equal(strlen(out), 1 + 40 + strlen("…") + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failures_are_json),
        cmocka_unit_test(test_shown_values_are_short_and_printable),
    };
    return cmocka_run_group_tests_name("common/http/failure", tests, NULL, NULL);
}
