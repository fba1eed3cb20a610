/* test_keys.c: the names of a stream's keys, as doc/protocol.md has them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "common/redis/keys.h"

static void test_each_key_has_its_name(void **state)
{
    static const struct {
        enum redis_key key;
        const char *name;
    } cases[] = {
        {KEY_DEAD, "logs-stream:dead"},
        {KEY_OWNER, "logs-stream:owner"},
        {KEY_ACCOUNT, "logs-stream:account"},
        {KEY_PROBE, "logs-stream:probe"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *name = key_new("logs-stream", cases[i].key);
        assert_string_equal(name, cases[i].name);
        free(name);
    }
}

static void test_producer_key_is_appended(void **state)
{
    struct buf out = {0};
    (void)state;
    buf_add_lit(&out, "GET ");
    key_add_producer(&out, "s", "0123456789abcdef0123456789abcdef");
    assert_true(span_is((struct span){out.data, out.len},
                        "GET s:producer:0123456789abcdef0123456789abcdef"));
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_key_has_its_name),
        cmocka_unit_test(test_producer_key_is_appended),
    };
    return cmocka_run_group_tests_name("common/redis/keys", tests, NULL, NULL);
}
