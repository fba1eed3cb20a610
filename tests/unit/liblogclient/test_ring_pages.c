/* test_ring_pages.c: how a ring gets its pages, and what calls get on a full file system. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>

#include "ring-fixture.h"

static _Atomic bool no_pages;
static _Atomic int populated; /* calls */
static _Atomic int64_t later_ms;

/* In the place of the C library's. */
int madvise(void *start, size_t bytes, int advice)
{
    populated++;
    if (no_pages) {
        errno = EFAULT;
        return -1;
    }
    return (int)syscall(SYS_madvise, start, bytes, advice);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    now->tv_sec += later_ms / 1000;
    now->tv_nsec += later_ms % 1000 * 1000000;
    if (now->tv_nsec >= 1000000000) {
        now->tv_sec++;
        now->tv_nsec -= 1000000000;
    }
    return result;
}

/* ---- A full file system ---- */

/* Writes until there is no page left. */
static uint64_t fill_reserved(struct lc_ring *ring)
{
    uint64_t written = 0;
    int error;
    no_pages = true;
    populated = 0;
    while ((error = put(ring, "a record on a full file system")) == 0)
        written++;
    assert_int_equal(error, ENOSPC);
    assert_int_equal(populated, 1);
    return written;
}

static void test_a_full_file_system_refuses_and_costs_no_system_calls(void **state)
{
    struct lc_ring *ring = *state;
    uint64_t written = fill_reserved(ring);
    assert_in_range(written, 1, LC_RING_FIRST / 32);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(put(ring, "refused"), ENOSPC);
    assert_in_range(populated, 1, 1 + 20); /* the test may be slow */
    lc_ring_reserve(ring);
    later_ms += 100;
    populated = 0;
    assert_int_equal(put(ring, "the one that tries again"), ENOSPC);
    assert_int_equal(populated, 1);
    assert_int_equal(lc_ring_count(ring), written);
    no_pages = false;
    later_ms += 100;
    assert_int_equal(put(ring, "there is room again"), 0);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(put(ring, "at once"), 0);
    assert_int_equal(take(ring, UINT64_MAX), written + 5001);
}

/* The sender finds it out, and no call has to wait. */
static void test_the_sender_finds_out_that_there_is_room_again(void **state)
{
    struct lc_ring *ring = *state;
    fill_reserved(ring);
    no_pages = false;
    later_ms += 100;
    lc_ring_reserve(ring);
    populated = 0;
    assert_int_equal(put(ring, "there is room again"), 0);
    assert_int_equal(populated, 0);
}

static void test_what_has_its_pages_is_used_on_a_full_file_system(void **state)
{
    struct lc_ring *ring = *state;
    uint64_t written = fill_reserved(ring);
    assert_int_equal(take(ring, UINT64_MAX), written);
    assert_int_equal(lc_ring_count(ring), 0);
    no_pages = false;
}

/* ---- A whole file, and page faults ---- */

static void test_a_whole_ring_asks_for_no_pages(void **state)
{
    struct lc_ring ring;
    (void)state;
    make_ring(&ring, CAPACITY, true);
    no_pages = true;
    populated = 0;
    while (put(&ring, "a record on a disk") == 0)
        ;
    assert_int_equal(populated, 0);
    lc_ring_reserve(&ring); /* takes page faults, and does not mind */
    take(&ring, UINT64_MAX);
    lc_ring_reserve(&ring);
    assert_in_range(populated, 1, 2);
    assert_int_equal(put(&ring, "again"), 0);
    no_pages = false;
    lc_ring_close(&ring);
}

static void test_the_sender_takes_page_faults_ahead_of_the_writers(void **state)
{
    struct lc_ring *ring = *state, whole;
    assert_int_equal(put(ring, "first"), 0);
    lc_ring_reserve(ring);
    populated = 0;
    while (lc_ring_head(ring) < CAPACITY - LC_RING_CHUNK) {
        assert_int_equal(put(ring, "one of many"), 0);
        int before = populated;
        lc_ring_reserve(ring);
        assert_in_range(populated, before, before + 5);
    }
    assert_in_range(populated, 10, 16); /* small steps at first */
    make_ring(&whole, CAPACITY, true);
    populated = 0;
    for (int round = 0; round < 5; round++) {
        while (lc_ring_head(&whole) < (uint64_t)(round + 1) * CAPACITY) {
            assert_int_equal(put(&whole, "one of many"), 0);
            lc_ring_reserve(&whole);
            take(&whole, 1);
        }
    }
    assert_in_range(populated, 20, 28);
    lc_ring_close(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RING(test_a_full_file_system_refuses_and_costs_no_system_calls),
        WITH_RING(test_the_sender_finds_out_that_there_is_room_again),
        WITH_RING(test_what_has_its_pages_is_used_on_a_full_file_system),
        cmocka_unit_test(test_a_whole_ring_asks_for_no_pages),
        WITH_RING(test_the_sender_takes_page_faults_ahead_of_the_writers),
    };
    return cmocka_run_group_tests_name("ring: pages", tests, NULL, NULL);
}
