/* test_url.c: Redis URLs that are read, and that are refused without telling the password. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/redis/url.h"

static const struct {
    const char *text, *host;
    int port;
    const char *path, *user, *password;
    int db;
    const char *shown; /* NULL: as the text */
} valid[] = {
    {"redis://127.0.0.1", "127.0.0.1", 6379, NULL, NULL, NULL, 0, NULL},
    {"redis://localhost:1", "localhost", 1, NULL, NULL, NULL, 0, NULL},
    {"redis://h:65535/", "h", 65535, NULL, NULL, NULL, 0, NULL},
    {"redis://h/3", "h", 6379, NULL, NULL, NULL, 3, NULL},
    {"redis://[::1]", "::1", 6379, NULL, NULL, NULL, 0, NULL},
    {"redis://[fe80::1%eth0]:7000/15", "fe80::1%eth0", 7000, NULL, NULL, NULL, 15, NULL},
    {"redis://:secret@h", "h", 6379, NULL, NULL, "secret", 0, "redis://h"},
    {"redis://me:secret@h:7/2", "h", 7, NULL, "me", "secret", 2, "redis://me@h:7/2"},
    {"redis://m%65:a%3Ab%2f%40@h", "h", 6379, NULL, "me", "a:b/@", 0, "redis://me@h"},
    {"redis://me:a:b@c@h", "h", 6379, NULL, "me", "a:b@c", 0, "redis://me@h"},
    {"unix:///run/redis.sock", NULL, 0, "/run/redis.sock", NULL, NULL, 0, NULL},
    {"unix:///run/a%20b?db=9", NULL, 0, "/run/a b", NULL, NULL, 9, NULL},
    {"unix:///a@b", NULL, 0, "/a@b", NULL, NULL, 0, NULL},
    {"unix://:secret@/r", NULL, 0, "/r", NULL, "secret", 0, "unix:///r"},
    {"unix://me:secret@/r?db=1", NULL, 0, "/r", "me", "secret", 1, "unix://me@/r?db=1"},
};

/* What must stand in the message. No message may hold "secret". */
static const struct {
    const char *text, *says;
} invalid[] = {
    {"", "must begin with redis:// or unix://"},
    {"localhost:6379", "must begin with redis:// or unix://"},
    {"REDIS://h", "must begin with redis:// or unix://"},
    {"http://me:secret@h", "must begin with redis:// or unix://"},
    {"me:secret@h", "must begin with redis:// or unix://"},
    {"rediss://:secret@h", "TLS is not built in"},
    {"redis://", "the host is missing"},
    {"redis://:6379", "the host is missing"},
    {"redis://[]", "the host is missing"},
    {"redis:///3", "the host is missing"},
    {"redis://me:secret@", "the host is missing"},
    {"redis://h:", "the port must be a number"},
    {"redis://h:0", "the port must be a number"},
    {"redis://h:65536", "the port must be a number"},
    {"redis://h:+1", "the port must be a number"},
    {"redis://h:99999999999999999999", "the port must be a number"},
    {"redis://::1", "\"[ADDRESS]\""},
    {"redis://[::1", "\"[ADDRESS]\""},
    {"redis://[::1]6379", "\"[ADDRESS]\""},
    {"redis://h/x", "the database must be a number"},
    {"redis://h/-1", "the database must be a number"},
    {"redis://h/1/2", "the database must be a number"},
    {"redis://h/9999999999", "the database must be a number"},
    {"redis://h?db=1", "have no meaning"},
    {"redis://secret@h", "for a password alone write"},
    {"redis://me:@h", "the password is empty"},
    {"redis://:secret%@h", "two hexadecimal digits"},
    {"redis://:secret%4@h", "two hexadecimal digits"},
    {"redis://:secret%zz@h", "two hexadecimal digits"},
    {"redis://:secret%00@h", "two hexadecimal digits"},
    {"redis://:secret/more@h", "must be written as %2F"},
    {"unix://run/redis.sock", "must be absolute"},
    {"unix://", "must be absolute"},
    {"unix:///", "must be absolute"},
    {"unix:///r?x=1", "only \"db=N\""},
    {"unix:///r?db=", "the database must be a number"},
    {"unix:///r?db=1&x=2", "the database must be a number"},
};

static void assert_same(const char *is, const char *should)
{
    if (should == NULL)
        assert_null(is);
    else
        assert_string_equal(is, should);
}

static void test_valid(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(valid) / sizeof(valid[0]); i++) {
        struct redis_url url;
        char err[512];
        if (!redis_url_parse(&url, valid[i].text, err, sizeof(err)))
            fail_msg("%s: %s", valid[i].text, err);
        assert_same(url.host, valid[i].host);
        assert_int_equal(url.port, valid[i].port);
        assert_same(url.path, valid[i].path);
        assert_same(url.user, valid[i].user);
        assert_same(url.password, valid[i].password);
        assert_int_equal(url.db, valid[i].db);
        assert_string_equal(url.shown, valid[i].shown != NULL ? valid[i].shown : valid[i].text);
        redis_url_free(&url);
        assert_null(url.shown);
    }
}

static void test_invalid(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++) {
        struct redis_url url;
        char err[512] = "";
        if (redis_url_parse(&url, invalid[i].text, err, sizeof(err)))
            fail_msg("%s is taken", invalid[i].text);
        if (strstr(err, invalid[i].says) == NULL || strstr(err, "redis://[USER:") == NULL)
            fail_msg("%s: %s", invalid[i].text, err);
        if (strstr(err, "secret") != NULL)
            fail_msg("the message tells the password: %s", err);
        assert_null(url.host);
        assert_null(url.password);
    }
}

/* sockaddr_un has 108 bytes; hiredis 0.14.1 needs two of them. */
static void test_path_limit(void **state)
{
    char text[200] = "unix:///", err[512];
    struct redis_url url;
    (void)state;
    memset(text + 8, 'p', 105);
    assert_true(redis_url_parse(&url, text, err, sizeof(err)));
    redis_url_free(&url);
    text[8 + 105] = 'p';
    assert_false(redis_url_parse(&url, text, err, sizeof(err)));
    assert_non_null(strstr(err, "more than 106 bytes"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_path_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
