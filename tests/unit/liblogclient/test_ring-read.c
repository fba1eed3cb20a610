/* test_ring-read.c: unfinished records, damage, and what becomes of free space. */
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

/* ---- What is no record ---- */

static void test_an_unfinished_record_holds_up_the_reader(void **state)
{
    struct lc_ring *ring = *state;
    struct lc_record got;
    assert_int_equal(put(ring, "first"), 0);
    uint64_t second = lc_ring_head(ring), position = second;
    assert_int_equal(put(ring, "second"), 0);
    assert_int_equal(put(ring, "third"), 0);
    struct lc_slot *slot = lc_slot_at(ring, second);
    uint64_t header = slot->header;
    slot->header = 0; /* between head and header */
    assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_BUSY);
    slot->header = (header & ~LC_SLOT_STATE_MASK) | LC_SLOT_RESERVED;
    assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_BUSY);
    assert_int_equal(position, second);
    assert_int_equal(take(ring, UINT64_MAX), 1);
    assert_int_equal(lc_ring_count(ring), 2);
    slot->header = header;
    assert_int_equal(take(ring, UINT64_MAX), 2);
}

static void test_damage_is_seen(void **state)
{
    static const struct {
        uint64_t header;
        uint32_t sizes;
    } bad[] = {
        {UINT64_MAX, 0},                      /* no state has this number */
        {LC_SLOT_STATE_MASK, 0},              /* nor this */
        {~LC_SLOT_STATE_MASK, 0},             /* nor this */
        {LC_SLOT_COMMITTED, 3},               /* of length 0 */
        {LC_SLOT_COMMITTED | 2, 3},           /* shorter than its fields */
        {LC_SLOT_COMMITTED | 4, 32},          /* shorter than its service */
        {LC_SLOT_COMMITTED | 4, 3 | 7 << 24}, /* or than what lies behind it */
        {LC_SLOT_COMMITTED | 1 << 16, 3},     /* beyond head */
        {LC_SLOT_COMMITTED | 8, 3 | 8 << 24},
        {LC_SLOT_COMMITTED | 8, 0},           /* no service */
        {LC_SLOT_COMMITTED | 20, 129},        /* a service too long */
        {LC_SLOT_COMMITTED | 8, 3 | 6 << 8},  /* no level */
        {LC_SLOT_COMMITTED | 8, 3 | 4 << 16}, /* no flag */
    };
    struct lc_ring *ring = *state;
    struct lc_record got;
    char text[200] = "";
    memset(text, 'x', sizeof(text) - 1);
    assert_int_equal(put(ring, "good"), 0);
    uint64_t position = lc_ring_head(ring);
    assert_int_equal(put(ring, text), 0);
    struct lc_slot *slot = lc_slot_at(ring, position);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t at = ring->ack.position;
        slot->header = bad[i].header;
        slot->sizes = bad[i].sizes;
        assert_int_equal(lc_ring_read(ring, &at, &got), LC_RING_RECORD);
        assert_int_equal(lc_ring_read(ring, &at, &got), LC_RING_DAMAGED);
        assert_int_equal(at, position);
    }
}

/* ---- Blocks ---- */

static int64_t blocks(const struct lc_ring *ring)
{
    struct stat st;
    assert_int_equal(fstat(ring->fd, &st), 0);
    return (int64_t)st.st_blocks * 512;
}

static void pump(struct lc_ring *ring, uint64_t bytes)
{
    char text[1001];
    memset(text, 'x', 1000);
    text[1000] = '\0';
    for (uint64_t end = ring->ack.position + bytes; ring->ack.position < end;) {
        assert_int_equal(put(ring, text), 0);
        assert_int_equal(take(ring, 1), 1);
        lc_ring_reserve(ring);
    }
}

static void test_an_idle_ring_gives_its_blocks_back(void **state)
{
    struct lc_ring ring;
    (void)state;
    make_ring(&ring, 64 << 20, false);
    pump(&ring, 32 << 20);
    assert_true(blocks(&ring) > 30 << 20);
    int steps = 0;
    while (lc_ring_trim(&ring))
        assert_true(++steps < 1000);
    assert_true(blocks(&ring) < 2 << 20);
    assert_false(lc_ring_rewind(&ring)); /* it is at the beginning */
    /* It goes on as before, and through the place where it was trimmed. */
    pump(&ring, 128 << 20);
    assert_int_equal(lc_ring_count(&ring), 0);
    lc_ring_close(&ring);
}

static void test_an_ordinary_load_stays_at_the_beginning(void **state)
{
    struct lc_ring ring;
    (void)state;
    make_ring(&ring, 64 << 20, false);
    for (int i = 0; i < 2000; i++) {
        pump(&ring, 100000);
        lc_ring_rewind(&ring);
    }
    assert_true(ring.ack.position > (uint64_t)200 << 20);
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
    (void)state;
    make_ring(&ring, 16 << 20, false);
    for (int round = 0; round < 20; round++) {
        pthread_t thread;
        void *result;
        pump(&ring, 12 << 20);
        assert_int_equal(pthread_create(&thread, NULL, log_in_bursts, &ring), 0);
        for (uint64_t end = ring.ack.number + 3000; ring.ack.number < end;)
            if (take(&ring, 1) == 0)
                lc_ring_trim(&ring);
        pthread_join(thread, &result);
        assert_non_null(result);
    }
    lc_ring_close(&ring);
}

static void test_a_large_ring_costs_what_is_in_it(void **state)
{
    struct lc_ring ring;
    (void)state;
    make_ring(&ring, (uint64_t)1 << 30, false);
    pump(&ring, 300 << 20);
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

static void pull(struct lc_ring *ring, uint64_t bytes)
{
    struct lc_record got;
    uint64_t position = ring->ack.position, end = position + bytes, n = 0;
    while (position < end && lc_ring_read(ring, &position, &got) == LC_RING_RECORD)
        assert_int_equal(got.number, ring->ack.number + n++);
    acknowledge(ring, position, ring->ack.number + n);
}

/* Rings above 64 MiB give blocks back. They had promised space to writers that had no blocks, or
 * was not clean. */
static void test_free_space_is_clean_and_has_its_blocks(void **state)
{
    struct lc_ring ring;
    static char text[60001];
    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    srand(1);
    make_ring(&ring, (uint64_t)128 << 20, false);
    /* Empty a full ring up to the midst of a chunk that gives blocks back, and fill it again. */
    for (int round = 0; round < 3; round++) {
        struct lc_record r = record(text);
        while (lc_ring_write(&ring, &r) == 0)
            ;
        pull(&ring, (64 << 20) + 100000);
        while (lc_ring_write(&ring, &r) == 0)
            ;
        pull(&ring, 1 << 20);
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
        pull(&ring, rand() % 3 == 0 ? UINT64_MAX / 2 : (uint64_t)(rand() % (12 << 20)));
        lc_ring_reserve(&ring);
        if (rand() % 2 == 0)
            lc_ring_rewind(&ring);
        for (int i = rand() % 20; i > 0 && lc_ring_trim(&ring); i--)
            ;
        if (step % 4 == 0)
            check_free_space(&ring);
    }
    assert_true(ring.ack.position > (uint64_t)1 << 30);
    lc_ring_close(&ring);
}

/* ---- The end ---- */

static void test_what_is_left_keeps_its_blocks_and_nothing_else(void **state)
{
    (void)state;
    for (int whole = 0; whole < 2; whole++) {
        struct lc_ring ring;
        make_ring(&ring, 16 << 20, whole);
        pump(&ring, 20 << 20);
        for (int i = 0; i < 3000; i++) /* past the end of the file */
            assert_int_equal(put(&ring, "left over"), 0);
        for (int i = 0; i < 12000; i++)
            assert_int_equal(put(&ring, i % 2 == 0 ? "left" : "over, and somewhat longer"), 0);
        uint64_t bytes = lc_ring_head(&ring) - ring.ack.position;
        assert_false(lc_ring_seal(&ring));
        lc_ring_shrink(&ring);
        assert_in_range(blocks(&ring), bytes, bytes + 4 * 65536);
        assert_int_equal(take(&ring, UINT64_MAX), 15000);
        lc_ring_close(&ring);
    }
}

/* Its store might be a SIGBUS. */
static void test_a_ring_is_not_shrunk_under_a_call(void **state)
{
    struct lc_ring ring;
    (void)state;
    make_ring(&ring, CAPACITY, true);
    assert_int_equal(put(&ring, "first"), 0);
    uint64_t second = lc_ring_head(&ring);
    assert_int_equal(put(&ring, "second"), 0);
    struct lc_slot *slot = lc_slot_at(&ring, second);
    uint64_t header = slot->header;
    int64_t before = blocks(&ring);
    slot->header = 0;
    assert_false(lc_ring_seal(&ring));
    lc_ring_shrink(&ring);
    assert_int_equal(blocks(&ring), before);
    slot->header = header;
    lc_ring_shrink(&ring);
    assert_true(blocks(&ring) < before / 2);
    lc_ring_close(&ring);
}

/* ---- Counting ---- */

static void test_records_are_counted_wherever_they_lie(void **state)
{
    struct lc_ring *ring = *state;
    static char text[5000];
    uint64_t want = 0;
    srand(1);
    memset(text, 'x', sizeof(text) - 1);
    for (int round = 0; round < 200; round++) { /* some times around */
        uint64_t n = (uint64_t)rand() % 60;
        for (uint64_t i = 0; i < n; i++)
            assert_int_equal(put(ring, text + rand() % 5000), 0);
        want += n;
        assert_int_equal(lc_ring_count(ring), want);
        n = want < 100 ? (uint64_t)rand() % (want + 1) : want - 3;
        assert_int_equal(take(ring, n), n);
        want -= n;
        assert_int_equal(lc_ring_count(ring), want);
    }
    take(ring, want);
    lc_ring_rewind(ring);
    assert_int_equal(lc_ring_count(ring), 0);
}

#define RECORDS 100000

static struct lc_ring *shared;
static _Atomic uint64_t begun, taken;

static void *write_records(void *arg)
{
    for (int i = 0; i < RECORDS; i++) {
        atomic_fetch_add(&begun, 1);
        while (put(shared, "a record that others count") != 0)
            ;
    }
    return arg;
}

static void *read_records(void *arg)
{
    while (taken < RECORDS) {
        uint64_t n = take(shared, 500);
        if (n == 0 && (lc_ring_rewind(shared) || lc_ring_trim(shared)))
            continue;
        lc_ring_reserve(shared);
        taken += n;
    }
    return arg;
}

static void test_a_count_is_never_too_large_while_others_write_and_read(void **state)
{
    pthread_t writer, reader;
    shared = *state;
    begun = taken = 0;
    assert_int_equal(pthread_create(&writer, NULL, write_records, NULL), 0);
    assert_int_equal(pthread_create(&reader, NULL, read_records, NULL), 0);
    while (taken < RECORDS) {
        uint64_t gone = taken, standing = lc_ring_count(shared);
        assert_true(gone + standing <= begun);
    }
    pthread_join(writer, NULL);
    pthread_join(reader, NULL);
    assert_int_equal(lc_ring_count(shared), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RING(test_an_unfinished_record_holds_up_the_reader),
        WITH_RING(test_damage_is_seen),
        cmocka_unit_test(test_an_idle_ring_gives_its_blocks_back),
        cmocka_unit_test(test_an_ordinary_load_stays_at_the_beginning),
        cmocka_unit_test(test_a_trim_keeps_no_writer_out),
        cmocka_unit_test(test_a_large_ring_costs_what_is_in_it),
        cmocka_unit_test(test_free_space_is_clean_and_has_its_blocks),
        cmocka_unit_test(test_what_is_left_keeps_its_blocks_and_nothing_else),
        cmocka_unit_test(test_a_ring_is_not_shrunk_under_a_call),
        WITH_RING(test_records_are_counted_wherever_they_lie),
        WITH_RING(test_a_count_is_never_too_large_while_others_write_and_read),
    };
    return cmocka_run_group_tests_name("ring: reading", tests, NULL, NULL);
}
