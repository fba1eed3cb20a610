/* test_sink_crash.c: a worker dies at its k-th crash point, for every k; after each death, and
 * whatever happens before the next life, the log holds every entry's line once, whole, in order. */
#include "tests/unit/worker/crash-world.h"

/* Without what a torn line has left: only one in a file that no state file speaks of stays. */
static void read_file(struct buf *out, const char *name, bool rests)
{
    struct buf all = {0};
    append_file(&all, name);
    for (const char *p = all.data, *end = p + all.len, *next; p < end; p = next) {
        next = memchr(p, '\n', (size_t)(end - p));
        next = next == NULL ? end : next + 1;
        if (next - p == LINE || !rests)
            buf_add(out, p, (size_t)(next - p));
    }
    buf_free(&all);
}

static void check_log(const struct plan *plan, long first, long second)
{
    struct buf expected = {0}, got = {0};
    for (unsigned i = 1; i <= ENTRIES; i++)
        write_line(&expected, i);
    read_file(&got, places[0].rotated, plan->forget_state && plan->rotate_dead);
    read_file(&got, places[0].path, false);
    if (got.len != expected.len || memcmp(got.data, expected.data, got.len) != 0)
        fail_msg("after deaths at points %ld and %ld the log is\n%.*s", first, second, (int)got.len,
                 got.data);
    assert_int_equal(last_there(), 0);
    buf_free(&expected);
    buf_free(&got);
}

/* What happens between two lives. */
static void come_between(const struct plan *plan)
{
    unsigned back = plan->put_back;
    if (plan->rotate_dead && !stream->rotated && rename(places[0].path, places[0].rotated) == 0)
        stream->rotated = true;
    if (plan->forget_state)
        unlink(places[0].state);
    for (unsigned i = ENTRIES; i > 0 && back > 0; i--)
        if (!stream->there[i]) {
            stream->there[i] = true;
            back--;
        }
}

/* Dies at `first`, the next life at `second` (0: not), the third lives. Returns whether all deaths
 * came. */
static bool run(const struct plan *plan, long first, long second)
{
    begin_world(plan->fresh);
    bool died = live(work, 0, plan, first);
    come_between(plan);
    if (died && second > 0)
        died = live(work, 0, plan, second);
    assert_false(live(work, 0, plan, 0));
    check_log(plan, first, second);
    return died;
}

static void every_point(const struct plan *plan)
{
    long k = 1;
    while (run(plan, k, 0))
        k++;
    assert_true(k > 40); /* else the seam is not compiled in */
    print_message("%ld crash points\n", k - 1);
}

/* The next life dies, too, at each of its points; every `step`-th point of the first one. */
static void every_pair(const struct plan *plan, long step)
{
    long pairs = 0;
    for (long first = 1; run(plan, first, 0); first += step * STRIDE)
        for (long second = 1; run(plan, first, second); second++)
            pairs++;
    print_message("%ld pairs\n", pairs);
    assert_true(pairs > 100 / STRIDE);
}

/* ---- One life ---- */

static void test_every_point(void **arg)
{
    (void)arg;
    every_pair(&(struct plan){0}, 2);
}

static void test_every_point_with_fsync(void **arg)
{
    (void)arg;
    every_point(&(struct plan){.sync = true});
}

static void test_every_point_around_a_rotation(void **arg)
{
    (void)arg;
    every_pair(&(struct plan){.rotate = true}, 5);
    every_pair(&(struct plan){.rotate = true, .late = true}, 5);
    every_point(&(struct plan){.rotate = true, .sync = true});
    every_point(&(struct plan){.rotate = true, .late = true, .sync = true});
}

static void test_every_point_around_a_full_disk(void **arg)
{
    (void)arg;
    every_point(&(struct plan){.full = true});
    every_point(&(struct plan){.full = true, .sync = true});
}

static void test_every_point_without_the_state_file(void **arg)
{
    (void)arg;
    every_pair(&(struct plan){.lose_state = true}, 5);
    every_point(&(struct plan){.lose_state = true, .sync = true});
}

/* Whether the commit took place is found out by the next opening, of the same worker or another. */
static void test_every_point_around_a_broken_connection(void **arg)
{
    (void)arg;
    every_point(&(struct plan){.breaks = true});
    every_pair(&(struct plan){.breaks = true, .in_vain = true}, 5);
    every_point(&(struct plan){.breaks = true, .in_vain = true, .sync = true});
    every_pair(&(struct plan){.breaks = true, .hang_up = true}, 5);
    every_pair(&(struct plan){.breaks = true, .hang_up = true, .in_vain = true}, 5);
}

/* ---- Between two lives ---- */

static void test_every_point_with_a_rotation_in_between(void **arg)
{
    (void)arg;
    every_pair(&(struct plan){.rotate_dead = true}, 5);
    every_point(&(struct plan){.rotate_dead = true, .sync = true});
}

/* The first slot, which says that all is new, may be missing. */
static void test_every_point_of_a_first_life(void **arg)
{
    (void)arg;
    every_pair(&(struct plan){.fresh = true}, 5);
    every_point(&(struct plan){.fresh = true, .rotate = true});
    every_point(&(struct plan){.fresh = true, .rotate = true, .late = true, .sync = true});
    every_point(&(struct plan){.fresh = true, .rotate_dead = true});
    every_point(&(struct plan){.fresh = true, .full = true});
    every_point(&(struct plan){.fresh = true, .breaks = true, .in_vain = true});
}

static void test_every_point_with_the_state_removed_in_between(void **arg)
{
    (void)arg;
    every_pair(&(struct plan){.forget_state = true}, 5);
    every_point(&(struct plan){.forget_state = true, .rotate = true});
    every_point(&(struct plan){.forget_state = true, .rotate_dead = true});
}

static void test_every_point_with_redis_put_back_in_between(void **arg)
{
    (void)arg;
    for (unsigned n = 1; n <= ENTRIES; n += 2) {
        every_point(&(struct plan){.put_back = n});
        every_point(&(struct plan){.put_back = n, .rotate = true});
        every_point(&(struct plan){.put_back = n, .rotate_dead = true});
    }
    every_pair(&(struct plan){.put_back = 3}, 5);
    every_pair(&(struct plan){.put_back = 6, .rotate_dead = true}, 5);
    every_point(&(struct plan){.put_back = 5, .forget_state = true});
}

/* Only their number tells which of them are written. */
static void test_every_point_with_equal_lines(void **arg)
{
    (void)arg;
    equal_lines = true;
    every_pair(&(struct plan){0}, 5);
    every_pair(&(struct plan){.rotate = true, .late = true}, 5);
    every_pair(&(struct plan){.rotate_dead = true}, 7);
    every_point(&(struct plan){.breaks = true});
    every_point(&(struct plan){.breaks = true, .in_vain = true});
    equal_lines = false;
}

/* A worker dies again and again, soon after each start, but not before it can commit a batch. */
static void test_many_deaths(void **arg)
{
    static const struct plan plan = {.rotate = true, .late = true};
    long deaths = 0;
    (void)arg;
    begin_world(false);
    while (live(work, 0, &plan, 16 + deaths % 11))
        assert_true(++deaths < 1000);
    check_log(&plan, deaths, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_point),
        cmocka_unit_test(test_every_point_with_fsync),
        cmocka_unit_test(test_every_point_around_a_rotation),
        cmocka_unit_test(test_every_point_around_a_full_disk),
        cmocka_unit_test(test_every_point_without_the_state_file),
        cmocka_unit_test(test_every_point_around_a_broken_connection),
        cmocka_unit_test(test_every_point_with_a_rotation_in_between),
        cmocka_unit_test(test_every_point_of_a_first_life),
        cmocka_unit_test(test_every_point_with_the_state_removed_in_between),
        cmocka_unit_test(test_every_point_with_redis_put_back_in_between),
        cmocka_unit_test(test_every_point_with_equal_lines),
        cmocka_unit_test(test_many_deaths),
    };
    return cmocka_run_group_tests_name("worker crash points", tests, make_world, remove_world);
}
