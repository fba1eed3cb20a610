/* test_sink_taken_crash.c: a worker dies at its k-th crash point, and another log takes the stream,
 * whose worker may die, too; the two logs together hold every entry's line once and whole. */
#include "tests/unit/worker/crash-world.h"

static const struct plan plain = {0};

static void count_lines(unsigned counts[ENTRIES + 1], const char *name)
{
    struct buf all = {0}, line = {0};
    append_file(&all, name);
    if (all.len % LINE != 0)
        fail_msg("%s has the rest of a line:\n%.*s", name, (int)all.len, all.data);
    for (size_t at = 0; at < all.len; at += LINE) {
        unsigned i = ENTRIES;
        for (; i > 0; i--) {
            buf_clear(&line);
            write_line(&line, i);
            if (memcmp(all.data + at, line.data, LINE) == 0)
                break;
        }
        counts[i]++;
    }
    buf_free(&all);
    buf_free(&line);
}

static void check_logs(long first, long second, long third)
{
    unsigned counts[ENTRIES + 1] = {0};
    for (int i = 0; i < LOGS; i++) {
        count_lines(counts, places[i].rotated);
        count_lines(counts, places[i].path);
    }
    assert_int_equal(counts[0], 0);
    for (unsigned i = 1; i <= ENTRIES; i++)
        if (counts[i] != 1)
            fail_msg("after deaths at points %ld, %ld and %ld the line of entry %u stands %u times",
                     first, second, third, i, counts[i]);
    assert_int_equal(last_there(), 0);
}

/* The first worker dies at `first`; the other takes the stream and empties it; the first one comes
 * again, and dies at `second`. Returns whether it did; *died is whether it did at first. */
static bool taken_over(const struct plan *plan, long first, long second, bool *died)
{
    begin_world(false);
    *died = live(work, 0, plan, first);
    assert_false(live(work, 1, &plain, 0));
    bool again = live(stand_by, 0, plan, second);
    assert_false(live(stand_by, 0, plan, 0));
    assert_false(live(work, 0, plan, 0));
    check_logs(first, second, 0);
    return again;
}

static void every_take_over(const struct plan *plan)
{
    bool died = true;
    long pairs = 0;
    for (long first = 1; died; first += STRIDE)
        for (long second = 1; taken_over(plan, first, second, &died); second++)
            pairs++;
    print_message("%ld pairs\n", pairs);
    assert_true(pairs > 100 / STRIDE);
}

static void test_a_batch_that_was_taken_is_given_up(void **arg)
{
    (void)arg;
    every_take_over(&plain);
}

static void test_a_batch_that_was_taken_is_given_up_with_fsync(void **arg)
{
    (void)arg;
    every_take_over(&(struct plan){.sync = true});
}

static void test_a_batch_that_was_taken_is_given_up_after_a_rotation(void **arg)
{
    (void)arg;
    every_take_over(&(struct plan){.rotate = true});
    every_take_over(&(struct plan){.rotate = true, .late = true});
}

/* The other one dies at `second`. The first one has the stream again, dies at `third`, and comes
 * once more; then the other. Returns whether it died at `third`; *died is whether the other did. */
static bool taken_and_back(long first, long second, long third, bool *died)
{
    begin_world(false);
    live(work, 0, &plain, first);
    *died = live(work, 1, &plain, second);
    bool again = live(work, 0, &plain, third);
    assert_false(live(work, 0, &plain, 0));
    assert_false(live(stand_by, 1, &plain, 0));
    check_logs(first, second, third);
    return again;
}

static void test_a_stream_that_is_taken_and_comes_back(void **arg)
{
    long triples = 0;
    (void)arg;
    for (long first = 1; first < 50; first += 3 * STRIDE) {
        bool died = true;
        for (long second = 1; died; second += 4)
            for (long third = 1; taken_and_back(first, second, third, &died); third += 5)
                triples++;
    }
    print_message("%ld triples\n", triples);
    assert_true(triples > 100 / STRIDE);
}

/* Opens the stream, and ends before it has written anything. */
static void take_in_vain(int log, const struct plan *plan)
{
    struct worker k = {.plan = plan, .log = log, .sink = open_sink(log, plan->sync)};
    open_stream(&k);
    sink_close(k.sink);
}

/* The first one must not cut later what it has committed since. */
static void test_what_was_taken_in_vain_is_written_by_the_first_one(void **arg)
{
    static const struct plan breaks = {.breaks = true};
    bool died = true;
    (void)arg;
    for (long k = 1; died; k++) {
        begin_world(false);
        live(take_in_vain, 0, &plain, 0);
        live(take_in_vain, 1, &plain, 0);
        died = live(work, 0, &breaks, k);
        assert_false(live(work, 0, &breaks, 0));
        assert_false(live(stand_by, 0, &plain, 0));
        assert_false(live(stand_by, 1, &plain, 0));
        check_logs(k, 0, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_batch_that_was_taken_is_given_up),
        cmocka_unit_test(test_a_batch_that_was_taken_is_given_up_with_fsync),
        cmocka_unit_test(test_a_batch_that_was_taken_is_given_up_after_a_rotation),
        cmocka_unit_test(test_a_stream_that_is_taken_and_comes_back),
        cmocka_unit_test(test_what_was_taken_in_vain_is_written_by_the_first_one),
    };
    return cmocka_run_group_tests_name("worker crash points of a stream that is taken", tests,
                                       make_world, remove_world);
}
