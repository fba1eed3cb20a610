/* test_ring-write.c: order, wrap-around, many writers, a full and a sealed ring. */
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
    assert_int_equal(got.level, LEVEL_WARN);
    assert_int_equal(got.flags, LC_FLAG_CUT);
    assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_RECORD);
    assert_int_equal(got.message.n, 0);
    assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_EMPTY);
    assert_int_equal(position, lc_ring_head(ring));
}

static void test_a_full_ring_refuses_and_takes_again(void **state)
{
    struct lc_ring *ring = *state;
    char text[1001];
    int written = 0, error;
    memset(text, 'x', 1000);
    text[1000] = '\0';
    while ((error = put(ring, text)) == 0)
        written++;
    assert_int_equal(error, EAGAIN);
    assert_int_equal(written, CAPACITY / 1032); /* 24 + 3 + 1000, rounded up */
    uint64_t position = 0;
    struct lc_record got;
    assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_RECORD);
    lc_ring_acknowledge(ring, position, 2);
    assert_int_equal(put(ring, text), 0);
    assert_int_equal(put(ring, text), EAGAIN);
}

static void test_records_that_wrap_are_whole(void **state)
{
    struct lc_ring *ring = *state;
    uint64_t sequence = 1;
    for (int round = 0; round < 9000; round++) {
        char text[700];
        struct lc_record got;
        snprintf(text, sizeof(text), "%0*d", 100 + round % 500, round);
        assert_int_equal(put(ring, text), 0);
        uint64_t position = ring->tail;
        assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_RECORD);
        assert_int_equal(got.message.n, strlen(text));
        assert_memory_equal(got.message.p, text, got.message.n);
        lc_ring_acknowledge(ring, position, ++sequence);
    }
    assert_true(ring->tail > 2 * CAPACITY);
    /* What was freed is zero, which readers after a crash rely on. */
    for (uint64_t i = 0; i < CAPACITY; i++)
        assert_int_equal(ring->data[i], 0);
}

static void test_a_record_larger_than_a_chunk_fits(void **state)
{
    struct lc_ring *ring = *state;
    size_t n = 600 * 1024;
    char *text = malloc(n + 1);
    assert_non_null(text);
    memset(text, 'y', n);
    text[n] = '\0';
    assert_int_equal(put(ring, text), 0);
    struct lc_record got;
    uint64_t position = 0;
    assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_RECORD);
    assert_int_equal(got.message.n, n);
    assert_memory_equal(got.message.p, text, n);
    free(text);
}

#define THREADS    4
#define PER_THREAD 20000

struct writer {
    struct lc_ring *ring;
    int number;
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

static void test_many_writers_lose_nothing_and_keep_their_order(void **state)
{
    struct lc_ring *ring = *state;
    pthread_t threads[THREADS];
    struct writer writers[THREADS];
    int next[THREADS] = {0};
    for (int t = 0; t < THREADS; t++) {
        writers[t] = (struct writer){ring, t};
        assert_int_equal(pthread_create(&threads[t], NULL, write_many, &writers[t]), 0);
    }
    uint64_t sequence = 1;
    while (sequence <= THREADS * PER_THREAD) {
        struct lc_record got;
        uint64_t position = ring->tail;
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
        next[thread]++;
        lc_ring_acknowledge(ring, position, ++sequence);
        lc_ring_reserve(ring);
    }
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    struct lc_record got;
    uint64_t position = ring->tail;
    assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_EMPTY);
}

static void test_a_sealed_ring_takes_nothing(void **state)
{
    struct lc_ring *ring = *state;
    assert_int_equal(put(ring, "waiting"), 0);
    assert_false(lc_ring_seal(ring));
    assert_int_equal(put(ring, "late"), EAGAIN);
    struct lc_ring empty;
    assert_int_equal(lc_ring_create_anonymous(&empty, CAPACITY), 0);
    assert_true(lc_ring_seal(&empty));
    assert_int_equal(put(&empty, "late"), EAGAIN);
    lc_ring_close(&empty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RING(test_records_come_out_as_they_went_in),
        WITH_RING(test_a_full_ring_refuses_and_takes_again),
        WITH_RING(test_records_that_wrap_are_whole),
        WITH_RING(test_a_record_larger_than_a_chunk_fits),
        WITH_RING(test_many_writers_lose_nothing_and_keep_their_order),
        WITH_RING(test_a_sealed_ring_takes_nothing),
    };
    return cmocka_run_group_tests_name("ring: writing", tests, NULL, NULL);
}
