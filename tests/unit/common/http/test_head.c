/* test_head.c: the headers of a request, and the framing that they say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/http/head.h"

struct header {
    const char *name, *value;
};

#define HEADERS_MAX 4

static struct head head_of(const struct header *headers)
{
    static const char *const own[] = {"Log-Producer", "Log-Sequence", NULL};
    struct head h = {0};
    for (size_t i = 0; i < HEADERS_MAX && headers[i].name != NULL; i++)
        head_take(&h, own, headers[i].name, headers[i].value);
    return h;
}

static void test_ambiguous_framing_is_refused(void **state)
{
    static const struct {
        struct header headers[HEADERS_MAX];
        const char *error; /* a part of it; NULL: accepted */
    } cases[] = {
        {{{"Host", "x"}, {"Content-Length", "5"}}, NULL},
        {{{"content-length", "0"}}, NULL},
        {{{"TRANSFER-ENCODING", "Chunked"}}, NULL},
        {{{"X-A", "1"}, {"X-A", "2"}}, NULL},
        {{{"Content-Length", "5"}, {"Content-Length", "5"}}, "Content-Length was sent more"},
        {{{"Content-Length", "5"}, {"content-length", "6"}}, "Content-Length was sent more"},
        {{{"Content-Length", "+5"}}, "digits only"},
        {{{"Content-Length", "-5"}}, "digits only"},
        {{{"Content-Length", " 5"}}, "digits only"},
        {{{"Content-Length", "0x5"}}, "digits only"},
        {{{"Content-Length", "5,5"}}, "digits only"},
        {{{"Content-Length", ""}}, "digits only"},
        {{{"Content-Length", "5"}, {"Transfer-Encoding", "chunked"}}, "exclude each other"},
        {{{"Transfer-Encoding", "gzip, chunked"}}, "exactly \"chunked\""},
        {{{"Transfer-Encoding", "identity"}}, "exactly \"chunked\""},
        {{{"Transfer-Encoding", " chunked"}}, "exactly \"chunked\""},
        {{{"Transfer-Encoding", ""}}, "exactly \"chunked\""},
        {{{"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}},
         "Transfer-Encoding was sent more"},
        {{{"Host", "a"}, {"Host", "a"}}, "Host was sent more"},
        {{{"Log-Sequence", "1"}, {"Log-Sequence", "1"}}, "Log-Sequence was sent more"},
        {{{"Content-Length ", "5"}}, "white space"},
        {{{"X\tY", "5"}}, "white space"},
        {{{"", "5"}}, "empty"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct failure f;
        struct head h = head_of(cases[i].headers);
        bool ok = head_framing_ok(&h, true, &f);
        if (ok != (cases[i].error == NULL))
            fail_msg("case %zu: %s", i, ok ? "accepted" : f.text);
        if (ok)
            continue;
        assert_int_equal(f.status, 400);
        if (strstr(f.text, cases[i].error) == NULL)
            fail_msg("case %zu: %s", i, f.text);
    }
}

static void test_body_of_a_method_without_one_is_refused(void **state)
{
    static const struct header five[HEADERS_MAX] = {{"Content-Length", "5"}};
    static const struct header zero[HEADERS_MAX] = {{"Content-Length", "00"}};
    static const struct header chunked[HEADERS_MAX] = {{"Transfer-Encoding", "chunked"}};
    struct failure f;
    struct head h;
    (void)state;
    h = head_of(five);
    assert_true(head_framing_ok(&h, true, &f));
    assert_false(head_framing_ok(&h, false, &f));
    h = head_of(chunked);
    assert_false(head_framing_ok(&h, false, &f));
    h = head_of(zero);
    assert_true(head_framing_ok(&h, false, &f));
}

static void test_the_program_s_headers_come_by_index(void **state)
{
    static const struct header headers[HEADERS_MAX] = {{"log-sequence", "7"}, {"Log-Other", "x"}};
    struct failure f;
    (void)state;
    struct head h = head_of(headers);
    assert_null(h.own[0]);
    assert_string_equal(h.own[1], "7");
    assert_true(head_framing_ok(&h, true, &f));
    head_take(&h, NULL, "Log-Sequence", "8");
    assert_string_equal(h.own[1], "7");
    assert_true(head_framing_ok(&h, true, &f));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ambiguous_framing_is_refused),
        cmocka_unit_test(test_body_of_a_method_without_one_is_refused),
        cmocka_unit_test(test_the_program_s_headers_come_by_index),
    };
    return cmocka_run_group_tests_name("common/http/head", tests, NULL, NULL);
}
