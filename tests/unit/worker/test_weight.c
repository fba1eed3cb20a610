/* test_weight.c: how many entries are asked for, by what the last ones weighed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/weight.h"

static struct weight begun(void)
{
    struct weight w = {.entries_max = 1000, .bytes_max = 1 << 20, .ceiling = 1000};
    weight_begin(&w);
    return w;
}

/* After a read that brought as many as were asked for. */
static void learn(struct weight *w, size_t heaviest, int64_t expected)
{
    weight_learn(w, (uint64_t)w->count, heaviest);
    assert_int_equal(w->count, expected);
}

static void test_light_entries_are_soon_asked_for_by_the_batch(void **arg)
{
    struct weight w = begun();
    (void)arg;
    assert_int_equal(w.count, 1);
    learn(&w, 200, 8);
    learn(&w, 200, 64);
    learn(&w, 200, 512);
    learn(&w, 200, 1000);
    learn(&w, 200, 1000);
    weight_begin(&w);
    assert_int_equal(w.count, 1);
}

static void test_heavy_entries_stay_below_the_bytes(void **arg)
{
    struct weight w = begun();
    (void)arg;
    learn(&w, 1 << 18, 4);
    learn(&w, 1 << 18, 4);
    learn(&w, 8 << 20, 1);
    learn(&w, 8 << 20, 1);
    learn(&w, SIZE_MAX / 4, 1);
}

/* One heavy entry among light ones is not forgotten at once. */
static void test_the_heaviest_entry_is_remembered_for_a_while(void **arg)
{
    struct weight w = begun();
    int reads = 0;
    (void)arg;
    learn(&w, 1 << 20, 1);
    learn(&w, 200, 1);
    for (; w.count < 1000 && reads < 100; reads++)
        weight_learn(&w, (uint64_t)w.count, 200);
    assert_int_equal(w.count, 1000);
    assert_true(reads > 10);
}

/* Reads of 512 failed: until 512 entries have passed, no more than 64 are asked for. */
static void test_a_read_that_failed_makes_careful(void **arg)
{
    struct weight w = begun();
    int64_t passed = 0;
    (void)arg;
    learn(&w, 200, 8);
    learn(&w, 200, 64);
    learn(&w, 200, 512);
    weight_fail(&w);
    weight_begin(&w);
    while (passed < 512) {
        assert_true(w.count <= 64);
        passed += w.count;
        weight_learn(&w, (uint64_t)w.count, 200);
    }
    assert_int_equal(w.count, 128);
    learn(&w, 200, 256);
    learn(&w, 200, 512);
    learn(&w, 200, 1000);
}

static void test_there_is_always_one_to_ask_for(void **arg)
{
    struct weight w = begun();
    (void)arg;
    for (int i = 0; i < 3; i++)
        weight_fail(&w);
    assert_int_equal(w.count, 1);
    assert_int_equal(w.ceiling, 1);
    learn(&w, 200, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_light_entries_are_soon_asked_for_by_the_batch),
        cmocka_unit_test(test_heavy_entries_stay_below_the_bytes),
        cmocka_unit_test(test_the_heaviest_entry_is_remembered_for_a_while),
        cmocka_unit_test(test_a_read_that_failed_makes_careful),
        cmocka_unit_test(test_there_is_always_one_to_ask_for),
    };
    return cmocka_run_group_tests_name("worker/weight", tests, NULL, NULL);
}
