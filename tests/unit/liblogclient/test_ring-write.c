/* test_ring-write.c: order, numbers, wrap-around, many writers, a full and a sealed ring. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "ring-fixture.h"

/* ---- Records ---- */

static void test_records_come_out_as_they_went_in(void **state)
{
    struct lc_ring *ring = *state;
    struct lc_record r = record("one"), got;
    uint64_t position = 0;
    r.flags = LC_FLAG_CUT;
    assert_int_equal(lc_ring_write(ring, &r), 0);
    assert_int_equal(put(ring, ""), 0);
    assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_RECORD);
    assert_int_equal(got.message.n, 3);
    assert_memory_equal(got.message.p, "one", 3);
    assert_memory_equal(got.service.p, "svc", 3);
    assert_int_equal(got.timestamp_ms, 42);
    assert_int_equal(got.number, 1);
    assert_int_equal(got.level, LEVEL_WARN);
    assert_int_equal(got.flags, LC_FLAG_CUT);
    assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_RECORD);
    assert_int_equal(got.message.n, 0);
    assert_int_equal(got.number, 2);
    assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_EMPTY);
    assert_int_equal(position, lc_ring_head(ring));
}

static void test_records_that_wrap_are_whole(void **state)
{
    struct lc_ring *ring = *state;
    for (uint64_t round = 1; round <= 9000; round++) {
        char text[700];
        struct lc_record got;
        snprintf(text, sizeof(text), "%0*d", 100 + (int)round % 500, (int)round);
        assert_int_equal(put(ring, text), 0);
        uint64_t position = ring->ack.position;
        assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_RECORD);
        assert_int_equal(got.message.n, strlen(text));
        assert_memory_equal(got.message.p, text, got.message.n);
        assert_int_equal(got.number, round);
        acknowledge(ring, position, round + 1);
    }
    assert_true(ring->ack.position > 2 * CAPACITY);
    /* What was freed is zero, which readers after a crash rely on. */
    for (uint64_t i = 0; i < CAPACITY; i++)
        assert_int_equal(ring->data[i], 0);
}

static void write_one_of(struct lc_ring *ring, size_t n, int want)
{
    char *text = malloc(n);
    struct lc_record r = record(""), got;
    uint64_t position = ring->ack.position;
    assert_non_null(text);
    memset(text, 'y', n);
    r.message = (struct span){text, n};
    assert_int_equal(lc_ring_write(ring, &r), want);
    if (want == 0) {
        assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_RECORD);
        assert_int_equal(got.message.n, n);
        assert_memory_equal(got.message.p, text, n);
    }
    free(text);
}

static void test_a_record_larger_than_a_chunk_fits(void **state)
{
    struct lc_ring *ring = *state;
    write_one_of(ring, 600 << 10, 0);
}

/* The header has 17 bits for the length. */
static void test_a_record_that_no_header_can_describe_is_refused(void **state)
{
    struct lc_ring ring;
    (void)state;
    make_ring(&ring, 4 << 20, false);
    write_one_of(&ring, LC_SLOT_MAX_BYTES - sizeof(struct lc_slot) - 3 + 1, EMSGSIZE);
    assert_int_equal(lc_ring_count(&ring), 0);
    write_one_of(&ring, LC_SLOT_MAX_BYTES - sizeof(struct lc_slot) - 3, 0);
    lc_ring_close(&ring);
}

/* ---- The end of what head can count ---- */

/* Writes and takes out some records at a time, past the wrap of what head holds. */
static void go_through(struct lc_ring *ring, uint64_t records)
{
    uint64_t first = ring->ack.number, next = first;
    while (ring->ack.number < first + records) {
        char text[600];
        snprintf(text, sizeof(text), "%0*llu", 100 + (int)(next % 400), (unsigned long long)next);
        for (int i = 0; i < 70; i++) {
            assert_int_equal(put(ring, text), 0);
            assert_int_equal(lc_ring_next_number(ring), ++next);
            assert_int_equal(lc_ring_count(ring), next - ring->ack.number);
        }
        assert_int_equal(take(ring, 50), 50);
        lc_ring_reserve(ring);
        if (lc_ring_count(ring) > 500) {
            uint64_t left = next - ring->ack.number;
            assert_int_equal(take(ring, UINT64_MAX), left);
            lc_ring_rewind(ring);
        }
    }
}

static void test_the_position_may_wrap_in_head(void **state)
{
    struct lc_ring *ring = *state;
    age(ring, ((uint64_t)1 << LC_POSITION_BITS) - CAPACITY, 1);
    go_through(ring, 20000);
    assert_true(ring->ack.position > (uint64_t)1 << LC_POSITION_BITS);
    age(ring, ((uint64_t)1 << 50) - 2 * CAPACITY, 12345);
    go_through(ring, 20000);
    assert_true(ring->ack.position > (uint64_t)1 << 50);
}

static void test_the_number_may_wrap_in_head(void **state)
{
    struct lc_ring *ring = *state;
    uint64_t wrap = (uint64_t)1 << LC_HEAD_COUNT_BITS;
    age(ring, CAPACITY, wrap - 1000);
    go_through(ring, 2000);
    assert_true(ring->ack.number > wrap);
    /* Both at once, and both not for the first time. */
    age(ring, ((uint64_t)9 << LC_POSITION_BITS) - CAPACITY, 77 * wrap - 3000);
    go_through(ring, 10000);
    assert_true(ring->ack.number > 77 * wrap);
    assert_true(ring->ack.position > (uint64_t)9 << LC_POSITION_BITS);
}

/* Wherever the two words are read, the ring may have been filled up since the other was. */
static void test_head_is_understood_from_anywhere_below(void **state)
{
    (void)state;
    srand(1);
    for (int i = 0; i < 100000; i++) {
        uint64_t near = ((uint64_t)rand() << 31 ^ (uint64_t)rand() << 12) & ~(uint64_t)7;
        uint64_t number = ((uint64_t)rand() << 14 ^ (uint64_t)rand());
        uint64_t bytes = ((uint64_t)rand() << 5) & ~(uint64_t)7, count = (uint64_t)rand() / 2;
        uint64_t head = lc_head_make(near + bytes, number + count);
        assert_int_equal(lc_head_position(head, near), near + bytes);
        assert_int_equal(lc_head_number(head, number), number + count);
    }
}

/* ---- A full ring ---- */

static void test_a_full_ring_refuses_and_takes_again(void **state)
{
    struct lc_ring *ring = *state;
    char text[1001];
    uint64_t written = 0;
    int error;
    memset(text, 'x', 1000);
    text[1000] = '\0';
    while ((error = put(ring, text)) == 0)
        written++;
    assert_int_equal(error, EAGAIN);
    assert_int_equal(written, CAPACITY / 1032); /* 24 + 3 + 1000, rounded up */
    assert_int_equal(lc_ring_count(ring), written);
    assert_int_equal(take(ring, 1), 1);
    assert_int_equal(put(ring, text), 0);
    assert_int_equal(put(ring, text), EAGAIN);
}

/* ---- Many writers ---- */

#define THREADS    4
#define PER_THREAD 20000

struct writer {
    struct lc_ring *ring;
    int number;
    uint64_t accepted;
};

static void *write_many(void *arg)
{
    struct writer *w = arg;
    for (int i = 0; i < PER_THREAD; i++) {
        char text[64];
        snprintf(text, sizeof(text), "%d %d %.*s", w->number, i, i % 40,
                 "----------------------------------------");
        while (put(w->ring, text) != 0)
            sched_yield();
    }
    return NULL;
}

static void start(pthread_t *threads, struct writer *writers, struct lc_ring *ring,
                  void *(*run)(void *))
{
    for (int t = 0; t < THREADS; t++) {
        writers[t] = (struct writer){ring, t, 0};
        assert_int_equal(pthread_create(&threads[t], NULL, run, &writers[t]), 0);
    }
}

static void many_writers(struct lc_ring *ring)
{
    pthread_t threads[THREADS];
    struct writer writers[THREADS];
    int next[THREADS] = {0};
    uint64_t last = ring->ack.number + (uint64_t)THREADS * PER_THREAD;
    start(threads, writers, ring, write_many);
    while (ring->ack.number < last) {
        struct lc_record got;
        uint64_t position = ring->ack.position;
        if (lc_ring_read(ring, &position, &got) != LC_RING_RECORD) {
            lc_ring_rewind(ring);
            lc_ring_trim(ring);
            sched_yield();
            continue;
        }
        int thread, i;
        char text[80];
        snprintf(text, sizeof(text), "%.*s", (int)got.message.n, got.message.p);
        assert_int_equal(sscanf(text, "%d %d", &thread, &i), 2);
        assert_int_equal(i, next[thread]);
        assert_int_equal(got.number, ring->ack.number);
        next[thread]++;
        acknowledge(ring, position, got.number + 1);
        lc_ring_reserve(ring);
    }
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    assert_int_equal(lc_ring_count(ring), 0);
    assert_int_equal(take(ring, 1), 0);
}

static void test_many_writers_lose_nothing_and_keep_their_order(void **state)
{
    many_writers(*state);
}

static void test_many_writers_pass_the_end_of_what_head_can_count(void **state)
{
    struct lc_ring *ring = *state;
    age(ring, ((uint64_t)1 << LC_POSITION_BITS) - CAPACITY,
        ((uint64_t)1 << LC_HEAD_COUNT_BITS) - PER_THREAD);
    many_writers(ring);
    assert_true(ring->ack.position > (uint64_t)1 << LC_POSITION_BITS);
}

/* ---- A sealed ring ---- */

static void test_a_sealed_ring_takes_nothing(void **state)
{
    struct lc_ring *ring = *state;
    assert_int_equal(put(ring, "waiting"), 0);
    assert_false(lc_ring_seal(ring));
    assert_int_equal(put(ring, "late"), EAGAIN);
    assert_int_equal(lc_ring_count(ring), 1);
    struct lc_ring empty;
    make_ring(&empty, CAPACITY, false);
    assert_true(lc_ring_seal(&empty));
    assert_int_equal(put(&empty, "late"), EAGAIN);
    assert_int_equal(lc_ring_count(&empty), 0);
    lc_ring_close(&empty);
}

/* What is acknowledged afterwards would have been handed to the writers. */
static void test_a_sealed_ring_stays_so_when_it_is_emptied(void **state)
{
    struct lc_ring *ring = *state;
    for (int i = 0; i < 30000; i++)
        put(ring, "more than a chunk of these");
    assert_false(lc_ring_seal(ring));
    while (take(ring, 1000) > 0)
        assert_int_equal(put(ring, "late"), EAGAIN);
    assert_false(lc_ring_rewind(ring));
    assert_false(lc_ring_trim(ring));
    lc_ring_reserve(ring);
    assert_int_equal(put(ring, "late"), EAGAIN);
    assert_int_equal(lc_ring_count(ring), 0);
}

/* Head must not be further from the tail than the capacity. */
static void test_a_full_ring_can_be_sealed(void **state)
{
    struct lc_ring *ring = *state;
    while (put(ring, "full to the last byte") == 0) /* 48 bytes */
        ;
    uint64_t left = CAPACITY - lc_ring_head(ring);
    assert_in_range(left, 8, 40);
    assert_false(lc_ring_seal(ring));
    assert_int_equal(lc_ring_head(ring), CAPACITY - left + 8);
    struct lc_ring full;
    make_ring(&full, CAPACITY, false);
    struct lc_record r = record("12345"); /* 32 bytes */
    while (lc_ring_write(&full, &r) == 0)
        ;
    assert_int_equal(lc_ring_head(&full), CAPACITY);
    assert_false(lc_ring_seal(&full));
    assert_int_equal(lc_ring_head(&full), CAPACITY);
    assert_int_equal(take(&full, UINT64_MAX), CAPACITY / 32);
    assert_int_equal(lc_ring_write(&full, &r), EAGAIN);
    lc_ring_close(&full);
}

static void *write_until_refused(void *arg)
{
    struct writer *w = arg;
    while (put(w->ring, "before the seal") == 0)
        w->accepted++;
    return NULL;
}

/* A call that had looked at the limit before, and at head after the seal, went in. */
static void test_no_call_under_way_gets_into_a_sealed_ring(void **state)
{
    (void)state;
    for (int round = 0; round < 300; round++) {
        pthread_t threads[THREADS];
        struct writer writers[THREADS];
        struct lc_ring ring;
        uint64_t accepted = 0;
        make_ring(&ring, CAPACITY, false);
        start(threads, writers, &ring, write_until_refused);
        for (uint64_t taken = 0; taken < (uint64_t)round % 50;)
            taken += take(&ring, 100);
        bool empty = lc_ring_seal(&ring);
        uint64_t head = lc_ring_head(&ring), number = lc_ring_next_number(&ring);
        for (int t = 0; t < THREADS; t++) {
            pthread_join(threads[t], NULL);
            accepted += writers[t].accepted;
        }
        assert_int_equal(lc_ring_head(&ring), head);
        assert_int_equal(accepted, number - 1);
        assert_true(empty == (lc_ring_count(&ring) == 0));
        assert_int_equal(ring.ack.number + lc_ring_count(&ring), number);
        take(&ring, UINT64_MAX);
        assert_int_equal(ring.ack.number, number);
        lc_ring_close(&ring);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RING(test_records_come_out_as_they_went_in),
        WITH_RING(test_records_that_wrap_are_whole),
        WITH_RING(test_a_record_larger_than_a_chunk_fits),
        cmocka_unit_test(test_a_record_that_no_header_can_describe_is_refused),
        WITH_RING(test_the_position_may_wrap_in_head),
        WITH_RING(test_the_number_may_wrap_in_head),
        cmocka_unit_test(test_head_is_understood_from_anywhere_below),
        WITH_RING(test_a_full_ring_refuses_and_takes_again),
        WITH_RING(test_many_writers_lose_nothing_and_keep_their_order),
        WITH_RING(test_many_writers_pass_the_end_of_what_head_can_count),
        WITH_RING(test_a_sealed_ring_takes_nothing),
        WITH_RING(test_a_sealed_ring_stays_so_when_it_is_emptied),
        WITH_RING(test_a_full_ring_can_be_sealed),
        cmocka_unit_test(test_no_call_under_way_gets_into_a_sealed_ring),
    };
    return cmocka_run_group_tests_name("ring: writing", tests, NULL, NULL);
}
