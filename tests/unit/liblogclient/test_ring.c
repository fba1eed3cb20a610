/* The ring: order, holes, wrap-around, many writers, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "liblogclient/batch-internal.h"
#include "liblogclient/ring-read-internal.h"
#include "liblogclient/ring-write-internal.h"
#include "liblogclient/ringdir-internal.h"

#define CAPACITY LC_RING_MIN_BYTES

static int open_ring(void **state)
{
    static struct lc_ring ring;
    assert_int_equal(lc_ring_create_anonymous(&ring, CAPACITY), 0);
    *state = &ring;
    return 0;
}

static int close_ring(void **state)
{
    lc_ring_close(*state);
    return 0;
}

static struct lc_record record(const char *text)
{
    return (struct lc_record){.service = SPAN_LIT("svc"),
                              .message = {text, strlen(text)},
                              .timestamp_ms = 42,
                              .level = LEVEL_WARN};
}

static int put(struct lc_ring *ring, const char *text)
{
    struct lc_record r = record(text);
    return lc_ring_write(ring, &r);
}

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

/* ---- Many writers ---- */

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

/* What writers may enter now has blocks and is zero: else a store would be a SIGBUS on a full file
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

/* Rings above 64 MiB, which give blocks back, had space that was promised to writers and had none,
 * or was not clean. */
static void test_free_space_is_clean_and_has_its_blocks(void **state)
{
    struct lc_ring ring;
    uint64_t sequence = 1;
    static char text[60001];
    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    srand(1);
    assert_int_equal(lc_ring_create_anonymous(&ring, (uint64_t)128 << 20), 0);
    /* A full ring, from which is taken up to the midst of a chunk that gives blocks back, and which
     * is filled again. */
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

/* ---- What a dead owner leaves ---- */

static struct lc_ring reopen(const struct lc_ring *ring)
{
    struct lc_ring dead;
    int fd = dup(ring->fd);
    assert_true(fd >= 0);
    assert_int_equal(lc_ring_open(&dead, fd, false), 0);
    return dead;
}

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

static void test_the_acknowledged_position_survives(void **state)
{
    struct lc_ring *ring = *state;
    struct lc_record got;
    for (uint64_t n = 1; n <= 5; n++) {
        assert_int_equal(put(ring, "record"), 0);
        uint64_t position = ring->tail;
        assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_RECORD);
        lc_ring_acknowledge(ring, position, n + 1);
        struct lc_ring dead = reopen(ring);
        assert_int_equal(dead.tail, position);
        assert_int_equal(dead.sequence, n + 1);
        char a[LC_PRODUCER_HEX + 1], b[LC_PRODUCER_HEX + 1];
        lc_ring_producer(ring, a);
        lc_ring_producer(&dead, b);
        assert_string_equal(a, b);
        lc_ring_close(&dead);
    }
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

static void test_what_is_no_ring_is_not_opened(void **state)
{
    struct lc_ring *ring = *state, dead;
    int fd = memfd_create("junk", MFD_CLOEXEC);
    assert_int_equal(lc_ring_open(&dead, fd, false), EBADMSG); /* empty */
    assert_int_equal(ftruncate(fd, LC_RING_HEADER_BYTES + CAPACITY), 0);
    assert_int_equal(lc_ring_open(&dead, fd, false), EBADMSG); /* zeros */
    close(fd);
    fd = dup(ring->fd);
    ring->header->ack[1].check ^= 1;
    assert_int_equal(lc_ring_open(&dead, fd, false), EBADMSG); /* no valid slot */
    ring->header->ack[1].check ^= 1;
    ring->header->head = 12;
    assert_int_equal(lc_ring_open(&dead, fd, false), EBADMSG); /* no multiple of 8 */
    ring->header->head = CAPACITY + 8;
    assert_int_equal(lc_ring_open(&dead, fd, false), EBADMSG); /* more than fits */
    ring->header->head = 0;
    ring->header->capacity = CAPACITY + 1;
    assert_int_equal(lc_ring_open(&dead, fd, false), EBADMSG);
    ring->header->capacity = CAPACITY;
    assert_int_equal(lc_ring_open(&dead, fd, false), 0);
    lc_ring_close(&dead);
}

/* ---- Batches ---- */

static void test_a_batch_repairs_text_and_respects_its_limits(void **state)
{
    struct lc_ring *ring = *state;
    struct lc_batch batch;
    assert_true(lc_batch_init(&batch, 10));
    assert_int_equal(put(ring, "bad \xff byte"), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(put(ring, "fine"), 0);
    assert_int_equal(lc_batch_fill(&batch, ring, UINT64_MAX, 100, SIZE_MAX, 65536), LC_RING_RECORD);
    assert_int_equal(batch.count, 10);
    assert_int_equal(batch.repaired, 1);
    const char want[] = "{\"level\":\"warn\",\"message\":\"bad \xef\xbf\xbd "
                        "byte\",\"service\":\"svc\",\"timestamp\":";
    assert_memory_equal(batch.body.data, want, sizeof(want) - 1);
    assert_int_equal(batch.body.data[batch.body.len - 1], '\n');
    /* Up to a position, up to a number of records, up to a number of bytes, and a repaired message
     * is cut. */
    uint64_t stop = batch.ends[1];
    lc_batch_fill(&batch, ring, stop, 100, SIZE_MAX, 65536);
    assert_int_equal(batch.count, 2);
    lc_batch_fill(&batch, ring, UINT64_MAX, 3, SIZE_MAX, 65536);
    assert_int_equal(batch.count, 3);
    lc_batch_fill(&batch, ring, UINT64_MAX, 100, 100, 6);
    assert_int_equal(batch.count, 2);
    const char cut[] = "{\"level\":\"warn\",\"message\":\"bad \",";
    assert_memory_equal(batch.body.data, cut, sizeof(cut) - 1);
    lc_batch_free(&batch);
}

int main(void)
{
#define WITH_RING(f) cmocka_unit_test_setup_teardown(f, open_ring, close_ring)
    const struct CMUnitTest tests[] = {
        WITH_RING(test_records_come_out_as_they_went_in),
        WITH_RING(test_a_full_ring_refuses_and_takes_again),
        WITH_RING(test_records_that_wrap_are_whole),
        WITH_RING(test_a_record_larger_than_a_chunk_fits),
        WITH_RING(test_many_writers_lose_nothing_and_keep_their_order),
        cmocka_unit_test(test_an_idle_ring_gives_its_blocks_back),
        cmocka_unit_test(test_an_ordinary_load_stays_at_the_beginning),
        cmocka_unit_test(test_a_trim_keeps_no_writer_out),
        cmocka_unit_test(test_a_large_ring_costs_what_is_in_it),
        cmocka_unit_test(test_free_space_is_clean_and_has_its_blocks),
        WITH_RING(test_a_sealed_ring_takes_nothing),
        WITH_RING(test_holes_hold_up_the_living_and_not_the_heir),
        WITH_RING(test_the_acknowledged_position_survives),
        WITH_RING(test_damage_is_seen_and_what_lies_before_it_is_read),
        WITH_RING(test_what_is_no_ring_is_not_opened),
        WITH_RING(test_a_batch_repairs_text_and_respects_its_limits),
    };
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
