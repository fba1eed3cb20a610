/* test_stream-id.c: ids as text, and their order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "worker/stream-id.h"

static void test_text(void **arg)
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
}

static void test_order(void **arg)
{
    (void)arg;
    assert_true(stream_id_after((struct stream_id){2, 0}, (struct stream_id){1, 9}));
    assert_true(stream_id_after((struct stream_id){2, 1}, (struct stream_id){2, 0}));
    assert_false(stream_id_after((struct stream_id){2, 1}, (struct stream_id){2, 1}));
    assert_false(stream_id_after((struct stream_id){1, 9}, (struct stream_id){2, 0}));
    assert_true(stream_id_equal((struct stream_id){2, 1}, (struct stream_id){2, 1}));
    assert_false(stream_id_equal((struct stream_id){2, 1}, (struct stream_id){1, 2}));
    assert_false(stream_id_equal((struct stream_id){2, 1}, (struct stream_id){2, 2}));
}

static void assert_next(struct stream_id id, uint64_t ms, uint64_t seq)
{
    struct stream_id next = stream_id_next(id);
    assert_int_equal(next.ms, ms);
    assert_int_equal(next.seq, seq);
}

static void test_the_next_one(void **arg)
{
    (void)arg;
    assert_next((struct stream_id){0, 0}, 0, 1);
    assert_next((struct stream_id){7, 4}, 7, 5);
    assert_next((struct stream_id){7, UINT64_MAX}, 8, 0);
    assert_next((struct stream_id){UINT64_MAX, UINT64_MAX - 1}, UINT64_MAX, UINT64_MAX);
    assert_next((struct stream_id){UINT64_MAX, UINT64_MAX}, UINT64_MAX, UINT64_MAX);
}

static void assert_previous(struct stream_id id, uint64_t ms, uint64_t seq)
{
    struct stream_id previous = stream_id_previous(id);
    assert_int_equal(previous.ms, ms);
    assert_int_equal(previous.seq, seq);
}

static void test_the_one_before(void **arg)
{
    (void)arg;
    assert_previous((struct stream_id){7, 4}, 7, 3);
    assert_previous((struct stream_id){7, 0}, 6, UINT64_MAX);
    assert_previous((struct stream_id){0, 1}, 0, 0);
    assert_previous((struct stream_id){0, 0}, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_the_next_one),
        cmocka_unit_test(test_the_one_before),
    };
    return cmocka_run_group_tests_name("worker/stream-id", tests, NULL, NULL);
}
