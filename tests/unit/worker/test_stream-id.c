/* test_stream-id.c: ids as text, and their order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "worker/stream-id.h"

static void test_ids(void **arg)
{
    static const char *const bad[] = {
        "", "-", "1", "1-", "-1", "1-2-3", "1-2 ", "x-1", "18446744073709551616-0",
    };
    struct stream_id id;
    char text[STREAM_ID_TEXT_MAX];
    (void)arg;
    assert_true(stream_id_parse(&id, "18446744073709551615-18446744073709551615", 41));
    assert_int_equal(stream_id_format(id, text), 41);
    assert_string_equal(text, "18446744073709551615-18446744073709551615");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(stream_id_parse(&id, bad[i], strlen(bad[i])));
    assert_true(stream_id_after((struct stream_id){2, 0}, (struct stream_id){1, 9}));
    assert_true(stream_id_after((struct stream_id){2, 1}, (struct stream_id){2, 0}));
    assert_false(stream_id_after((struct stream_id){2, 1}, (struct stream_id){2, 1}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
    };
    return cmocka_run_group_tests_name("worker/stream-id", tests, NULL, NULL);
}
