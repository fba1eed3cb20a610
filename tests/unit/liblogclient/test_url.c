/* test_url.c: the URLs of logd, taken apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "liblogclient/url-internal.h"

static void test_urls_are_taken_apart(void **state)
{
    struct lc_url urls[LC_URLS_MAX];
    const char *why;
    (void)state;
    assert_int_equal(
        lc_urls_parse("http://example.org,HTTP://[fe80::1]:81/a/b/,http://10.0.0.1:4001/", urls,
                      &why),
        3);
    assert_null(why);
    assert_string_equal(urls[0].host, "example.org");
    assert_int_equal(urls[0].port, 4000);
    assert_string_equal(urls[0].path, "/api/log");
    assert_string_equal(urls[0].host_header, "example.org");
    assert_string_equal(urls[1].host, "fe80::1");
    assert_int_equal(urls[1].port, 81);
    assert_string_equal(urls[1].path, "/a/b");
    assert_string_equal(urls[1].host_header, "[fe80::1]:81");
    assert_string_equal(urls[2].host, "10.0.0.1");
    assert_int_equal(urls[2].port, 4001);
    assert_string_equal(urls[2].path, "/api/log");
    assert_string_equal(urls[2].text, "http://10.0.0.1:4001");
    lc_urls_free(urls, 3);
    assert_int_equal(
        lc_urls_parse(
            "http://a,http://a,http://a,http://a,http://a,http://a,http://a,http://a,http://a",
            urls, &why),
        -1);
    assert_non_null(strstr(why, "more than 8"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls_are_taken_apart),
    };
    return cmocka_run_group_tests_name("url", tests, NULL, NULL);
}
