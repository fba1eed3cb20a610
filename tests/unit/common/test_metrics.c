/* test_metrics.c: common/metrics.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "common/metrics.h"

static void expect(struct buf *out, const char *text)
{
    assert_false(out->failed);
    assert_int_equal(out->len, strlen(text));
    assert_memory_equal(out->data, text, out->len);
    buf_free(out);
}

static void test_counter(void **state)
{
    struct buf out = {0};
    (void)state;
    metrics_counter(&out, "logd_records_total", "Records with a \\ or a\nline feed", UINT64_MAX);
    expect(&out, "# HELP logd_records_total Records with a \\\\ or a\\nline feed\n"
                 "# TYPE logd_records_total counter\n"
                 "logd_records_total 18446744073709551615\n");
}

static void test_gauge(void **state)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0, "0"},     {-3, "-3"},         {0.25, "0.25"},      {1e9, "1000000000"},
        {NAN, "NaN"}, {INFINITY, "+Inf"}, {-INFINITY, "-Inf"}, {1732415702.123, "1732415702.123"},
        {0.1, "0.1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf out = {0}, expected = {0};
        buf_printf(&expected, "# HELP g h\n# TYPE g gauge\ng %s\n%c", cases[i].text, '\0');
        metrics_gauge(&out, "g", "h", cases[i].value);
        expect(&out, expected.data);
        buf_free(&expected);
    }
}

static void test_labels(void **state)
{
    struct buf out = {0};
    (void)state;
    metrics_head(&out, "logd_requests_total", "counter", "Requests");
    metrics_sample(&out, "logd_requests_total", "code=\"200\"", 7);
    metrics_sample(&out, "logd_requests_total", "code=\"503\"", 0);
    expect(&out, "# HELP logd_requests_total Requests\n"
                 "# TYPE logd_requests_total counter\n"
                 "logd_requests_total{code=\"200\"} 7\n"
                 "logd_requests_total{code=\"503\"} 0\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counter),
        cmocka_unit_test(test_gauge),
        cmocka_unit_test(test_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
