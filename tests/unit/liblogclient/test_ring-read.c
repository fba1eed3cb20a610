/* test_ring-read.c: holes and damage, and what becomes of free space. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "ring-fixture.h"

/* ---- What a dead owner leaves ---- */

static void test_holes_hold_up_the_living_and_not_the_heir(void **state)
{
    struct lc_ring *ring = *state;
    struct lc_record got;
    assert_int_equal(put(ring, "first"), 0);
    uint64_t hole = lc_ring_head(ring);
    atomic_fetch_add(&ring->header->head, 48); /* a writer that died before its header */
    assert_int_equal(put(ring, "second"), 0);
    uint64_t reserved = lc_ring_head(ring);
    atomic_fetch_add(&ring->header->head, 64); /* and one that died in the midst of its copy */
    *(uint64_t *)(void *)(ring->data + reserved) = 64 | (uint64_t)1 << 32;
    memset(ring->data + reserved + 8, 0xff, 30);
    assert_int_equal(put(ring, "third"), 0);

    uint64_t position = hole;
    assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_BUSY);
    assert_int_equal(position, hole);

    struct lc_ring dead = reopen(ring);
    static const char *const want[] = {"first", "second", "third"};
    position = dead.tail;
    assert_int_equal(dead.sequence, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(lc_ring_read(&dead, &position, &got), LC_RING_RECORD);
        assert_memory_equal(got.message.p, want[i], got.message.n);
    }
    assert_int_equal(lc_ring_read(&dead, &position, &got), LC_RING_EMPTY);
    lc_ring_close(&dead);
}

static void test_damage_is_seen_and_what_lies_before_it_is_read(void **state)
{
    static const uint64_t bad[] = {
        UINT64_MAX,                  /* no state has this number */
        (uint64_t)3 << 32 | 64,      /* nor this */
        (uint64_t)2 << 32 | 20,      /* no multiple of 8 */
        (uint64_t)2 << 32 | 16,      /* shorter than a header */
        (uint64_t)2 << 32 | 1 << 20, /* beyond head */
        (uint64_t)1 << 32,           /* reserved, of length 0 */
        (uint64_t)2 << 32 | 32,      /* does not fit its texts */
    };
    struct lc_ring *ring = *state;
    struct lc_record got;
    assert_int_equal(put(ring, "good"), 0);
    uint64_t position = lc_ring_head(ring);
    assert_int_equal(put(ring, "to be damaged"), 0);
    struct lc_ring dead = reopen(ring);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t at = dead.tail;
        memcpy(dead.data + position, &bad[i], 8);
        assert_int_equal(lc_ring_read(&dead, &at, &got), LC_RING_RECORD);
        assert_int_equal(lc_ring_read(&dead, &at, &got), LC_RING_DAMAGED);
    }
    lc_ring_close(&dead);
}

/* ---- Blocks ---- */

static int64_t blocks(const struct lc_ring *ring)
{
    struct stat st;
    assert_int_equal(fstat(ring->fd, &st), 0);
    return (int64_t)st.st_blocks * 512;
}

static void pump(struct lc_ring *ring, uint64_t bytes, uint64_t *sequence)
{
    char text[1001];
    memset(text, 'x', 1000);
    text[1000] = '\0';
    for (uint64_t end = ring->tail + bytes; ring->tail < end;) {
        struct lc_record got;
        uint64_t position = ring->tail;
        assert_int_equal(put(ring, text), 0);
        assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_RECORD);
        lc_ring_acknowledge(ring, position, ++*sequence);
        lc_ring_reserve(ring);
    }
}

static void test_an_idle_ring_gives_its_blocks_back(void **state)
{
    struct lc_ring ring;
    uint64_t sequence = 1;
    (void)state;
    assert_int_equal(lc_ring_create_anonymous(&ring, 64 << 20), 0);
    pump(&ring, 32 << 20, &sequence);
    assert_true(blocks(&ring) > 30 << 20);
    int steps = 0;
    while (lc_ring_trim(&ring))
        assert_true(++steps < 1000);
    assert_true(blocks(&ring) < 2 << 20);
    assert_false(lc_ring_rewind(&ring)); /* it is at the beginning */
    /* It goes on as before, and through the place where it was trimmed. */
    pump(&ring, 128 << 20, &sequence);
    assert_int_equal(ring.sequence, sequence);
    lc_ring_close(&ring);
}

static void test_an_ordinary_load_stays_at_the_beginning(void **state)
{
    struct lc_ring ring;
    uint64_t sequence = 1;
    (void)state;
    assert_int_equal(lc_ring_create_anonymous(&ring, 64 << 20), 0);
    for (int i = 0; i < 2000; i++) {
        pump(&ring, 100000, &sequence);
        lc_ring_rewind(&ring);
    }
    assert_true(ring.tail > (uint64_t)200 << 20);
    assert_true(blocks(&ring) <= 1 << 20);
    lc_ring_close(&ring);
}

static void *log_in_bursts(void *arg)
{
    struct lc_ring *ring = arg;
    for (int i = 0; i < 3000; i++)
        while (put(ring, "a record in a ring that is being trimmed") == EAGAIN)
            return NULL; /* there is always room */
    return ring;
}

/* A trim that kept writers out refused records right after a second of silence. */
static void test_a_trim_keeps_no_writer_out(void **state)
{
    struct lc_ring ring;
    uint64_t sequence = 1;
    (void)state;
    assert_int_equal(lc_ring_create_anonymous(&ring, 16 << 20), 0);
    for (int round = 0; round < 20; round++) {
        pthread_t thread;
        void *result;
        pump(&ring, 12 << 20, &sequence);
        assert_int_equal(pthread_create(&thread, NULL, log_in_bursts, &ring), 0);
        for (uint64_t end = sequence + 3000; sequence < end;) {
            struct lc_record got;
            uint64_t position = ring.tail;
            if (lc_ring_read(&ring, &position, &got) == LC_RING_RECORD) {
                assert_int_equal(got.message.n, 40);
                lc_ring_acknowledge(&ring, position, ++sequence);
            } else {
                lc_ring_trim(&ring);
            }
        }
        pthread_join(thread, &result);
        assert_non_null(result);
    }
    lc_ring_close(&ring);
}

static void test_a_large_ring_costs_what_is_in_it(void **state)
{
    struct lc_ring ring;
    uint64_t sequence = 1;
    (void)state;
    assert_int_equal(lc_ring_create_anonymous(&ring, (uint64_t)1 << 30), 0);
    pump(&ring, 300 << 20, &sequence);
    assert_true(blocks(&ring) < 70 << 20);
    lc_ring_close(&ring);
}

/* What writers may enter now has blocks and is zero. Else a store would be a SIGBUS on a full file
 * system, or a reader would take old bytes for a record. */
static void check_free_space(const struct lc_ring *ring)
{
    uint64_t from = lc_ring_head(ring);
    uint64_t to = ring->free_to < ring->reserved_to ? ring->free_to : ring->reserved_to;
    int64_t before = blocks(ring);
    /* Reading a page that has no block would give it one. */
    for (uint64_t at = from; at < to; at += 8) {
        uint64_t offset = at & (ring->capacity - 1);
        assert_int_equal(*(const uint64_t *)(const void *)(ring->data + offset), 0);
    }
    assert_int_equal(blocks(ring), before);
}

static void pull(struct lc_ring *ring, uint64_t bytes, uint64_t *sequence)
{
    struct lc_record got;
    uint64_t position = ring->tail, end = position + bytes, n = 0;
    while (position < end && lc_ring_read(ring, &position, &got) == LC_RING_RECORD)
        n++;
    *sequence += n;
    lc_ring_acknowledge(ring, position, *sequence);
}

/* Rings above 64 MiB give blocks back. They had promised space to writers that had no blocks, or
 * was not clean. */
static void test_free_space_is_clean_and_has_its_blocks(void **state)
{
    struct lc_ring ring;
    uint64_t sequence = 1;
    static char text[60001];
    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    srand(1);
    assert_int_equal(lc_ring_create_anonymous(&ring, (uint64_t)128 << 20), 0);
    /* Empty a full ring up to the midst of a chunk that gives blocks back, and fill it again. */
    for (int round = 0; round < 3; round++) {
        struct lc_record r = record(text);
        while (lc_ring_write(&ring, &r) == 0)
            ;
        pull(&ring, (64 << 20) + 100000, &sequence);
        while (lc_ring_write(&ring, &r) == 0)
            ;
        pull(&ring, 1 << 20, &sequence);
        check_free_space(&ring);
    }
    for (int step = 0; step < 600; step++) {
        uint64_t room = (uint64_t)rand() % 4 == 0 ? UINT64_MAX : (uint64_t)(rand() % (8 << 20));
        struct lc_record r = record(text);
        for (uint64_t end = lc_ring_head(&ring) + room; lc_ring_head(&ring) < end;) {
            r.message.n = (size_t)rand() % (sizeof(text) - 1);
            if (lc_ring_write(&ring, &r) != 0)
                break;
            if (room == UINT64_MAX && rand() % 20000 == 0)
                break;
        }
        pull(&ring, rand() % 3 == 0 ? UINT64_MAX / 2 : (uint64_t)(rand() % (12 << 20)), &sequence);
        lc_ring_reserve(&ring);
        if (rand() % 2 == 0)
            lc_ring_rewind(&ring);
        for (int i = rand() % 20; i > 0 && lc_ring_trim(&ring); i--)
            ;
        if (step % 4 == 0)
            check_free_space(&ring);
    }
    assert_true(ring.tail > (uint64_t)1 << 30);
    lc_ring_close(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RING(test_holes_hold_up_the_living_and_not_the_heir),
        WITH_RING(test_damage_is_seen_and_what_lies_before_it_is_read),
        cmocka_unit_test(test_an_idle_ring_gives_its_blocks_back),
        cmocka_unit_test(test_an_ordinary_load_stays_at_the_beginning),
        cmocka_unit_test(test_a_trim_keeps_no_writer_out),
        cmocka_unit_test(test_a_large_ring_costs_what_is_in_it),
        cmocka_unit_test(test_free_space_is_clean_and_has_its_blocks),
    };
    return cmocka_run_group_tests_name("ring: reading", tests, NULL, NULL);
}
