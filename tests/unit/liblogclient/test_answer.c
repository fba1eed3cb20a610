/* test_answer.c: what the library makes of an answer to a batch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "liblogclient/answer-internal.h"

static void test_each_answer_means_what_the_protocol_says(void **state)
{
    static const struct {
        int status;
        const char *body;
        size_t count;
        enum lc_verdict verdict;
        size_t index;
    } cases[] = {
        {200, "{\"accepted\":3}", 3, LC_TAKEN, 0},
        {200, "{ \"accepted\" :\n3 }", 3, LC_TAKEN, 0},
        {200, "{\"accepted\":2}", 3, LC_NOT_TAKEN, 0},
        {200, "{\"accepted\":30}", 3, LC_NOT_TAKEN, 0},
        {200, "{\"accepted\":-3}", 3, LC_NOT_TAKEN, 0},
        {200, "{\"accepted\":\"3\"}", 3, LC_NOT_TAKEN, 0},
        {200, "", 3, LC_NOT_TAKEN, 0},
        {200, "<html>welcome to the hotel</html>", 3, LC_NOT_TAKEN, 0},
        {201, "{\"accepted\":3}", 3, LC_NOT_TAKEN, 0},
        {400, "{\"error\":\"e\",\"index\":2,\"field\":\"level\"}", 3, LC_REFUSED, 2},
        {400, "{\"error\":\"e\",\"index\":0,\"field\":\"level\"}", 1, LC_REFUSED, 0},
        {400, "{\"error\":\"e\",\"index\":3,\"field\":\"level\"}", 3, LC_NOT_TAKEN, 0},
        {400, "{\"error\":\"e\",\"index\":-1}", 3, LC_NOT_TAKEN, 0},
        {400, "{\"error\":\"Log-Producer is too long\"}", 3, LC_NOT_TAKEN, 0},
        {400, "{\"index\":1}", 3, LC_NOT_TAKEN, 0},
        {400, "<html>bad request</html>", 3, LC_NOT_TAKEN, 0},
        {413, "{\"error\":\"e\"}", 3, LC_TOO_LARGE, 0},
        {413, "<html>nginx</html>", 3, LC_TOO_LARGE, 0},
        {413, "{\"error\":\"e\"}", 1, LC_REFUSED, 0},
        {413, "<html>nginx</html>", 1, LC_NOT_TAKEN, 0},
        {404, "{\"error\":\"e\",\"index\":0}", 3, LC_NOT_TAKEN, 0},
        {503, "{\"error\":\"e\",\"stored\":false}", 3, LC_NOT_TAKEN, 0},
        {0, "", 3, LC_NOT_TAKEN, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct lc_http_answer answer = {.status = cases[i].status, .body = cases[i].body};
        size_t index = 99;
        enum lc_verdict verdict = lc_answer_verdict(&answer, cases[i].count, &index);
        if (verdict != cases[i].verdict || (verdict == LC_REFUSED && index != cases[i].index))
            fail_msg("%d %s of %zu: verdict %d, index %zu", answer.status, answer.body,
                     cases[i].count, (int)verdict, index);
    }
}

static void test_duplicates_are_those_that_logd_counts(void **state)
{
    static const struct {
        const char *body;
        uint64_t duplicates;
    } cases[] = {
        {"{\"accepted\":3}", 0},
        {"{\"accepted\":3,\"duplicates\":2}", 2},
        {"{ \"duplicates\" : 3, \"accepted\":3}", 3},
        {"{\"accepted\":3,\"duplicates\":-2}", 0},
        {"{\"accepted\":3,\"duplicates\":\"2\"}", 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct lc_http_answer answer = {.status = 200, .body = cases[i].body};
        assert_int_equal(lc_answer_duplicates(&answer), cases[i].duplicates);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_answer_means_what_the_protocol_says),
        cmocka_unit_test(test_duplicates_are_those_that_logd_counts),
    };
    return cmocka_run_group_tests_name("client answer", tests, NULL, NULL);
}
