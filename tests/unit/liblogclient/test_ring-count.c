/* test_ring-count.c: what stands in a ring is counted, whatever happens to it meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "liblogclient/ring-count-internal.h"
#include "ring-fixture.h"

static char text[5001];
static struct lc_ring *to_be_filled_anew; /* by the next pread(2) */

static void fill_anew(struct lc_ring *ring);

/* In the place of the C library's. */
ssize_t pread(int fd, void *data, size_t n, off_t at)
{
    struct lc_ring *ring = to_be_filled_anew;
    to_be_filled_anew = NULL;
    if (ring != NULL)
        fill_anew(ring);
    return syscall(SYS_pread64, fd, data, n, at);
}

static void put_long(struct lc_ring *ring, size_t bytes)
{
    struct lc_record r = record(text);
    r.message.n = bytes;
    assert_int_equal(lc_ring_write(ring, &r), 0);
}

/* Takes so many records out. */
static void take(struct lc_ring *ring, uint64_t count)
{
    struct lc_record got;
    uint64_t position = ring->tail;
    for (uint64_t i = 0; i < count; i++)
        assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_RECORD);
    lc_ring_acknowledge(ring, position, ring->sequence + count);
}

static void test_records_of_all_lengths_are_counted_wherever_they_lie(void **state)
{
    struct lc_ring *ring = *state;
    uint64_t want = 0;
    srand(1);
    assert_int_equal(lc_ring_count(ring), 0);
    for (int round = 0; round < 200; round++) { /* some times around */
        uint64_t n = (uint64_t)rand() % 60;
        for (uint64_t i = 0; i < n; i++)
            put_long(ring, (size_t)rand() % 5000);
        want += n;
        errno = 7;
        assert_int_equal(lc_ring_count(ring), want);
        assert_int_equal(errno, 7);
        n = want < 100 ? (uint64_t)rand() % (want + 1) : want - 3;
        take(ring, n);
        want -= n;
        assert_int_equal(lc_ring_count(ring), want);
    }
    take(ring, want);
    lc_ring_rewind(ring);
    assert_int_equal(lc_ring_count(ring), 0);
}

static void test_what_a_call_has_not_finished_is_not_counted(void **state)
{
    struct lc_ring *ring = *state;
    assert_int_equal(put(ring, "first"), 0);
    uint64_t hole = lc_ring_head(ring);
    assert_int_equal(put(ring, "second"), 0);
    struct lc_slot *slot = lc_slot_at(ring, hole);
    uint64_t header = atomic_load(&slot->header);
    atomic_store(&slot->header, 0); /* between head and header */
    assert_int_equal(lc_ring_count(ring), 1);
    atomic_store(&slot->header, (header & LC_SLOT_LENGTH) | LC_SLOT_RESERVED);
    assert_int_equal(lc_ring_count(ring), 1);
    atomic_store(&slot->header, header);
    assert_int_equal(lc_ring_count(ring), 2);
    atomic_store(&slot->header, UINT64_MAX);
    assert_int_equal(lc_ring_count(ring), 1);
    lc_ring_seal(ring);
    assert_int_equal(lc_ring_count(ring), 1);
}

static int64_t blocks(const struct lc_ring *ring)
{
    struct stat st;
    assert_int_equal(fstat(ring->fd, &st), 0);
    return (int64_t)st.st_blocks;
}

/* Looking at a hole in the mapping would give it a block, or be a SIGBUS where there are none. */
static void test_counting_takes_no_blocks(void **state)
{
    struct lc_ring *ring = *state;
    assert_int_equal(put(ring, "first"), 0);
    assert_int_equal(lc_ring_allocate(ring->fd, 0x03, LC_RING_HEADER_BYTES, LC_RING_CHUNK), 0);
    int64_t before = blocks(ring);
    assert_int_equal(lc_ring_count(ring), 0);
    assert_int_equal(blocks(ring), before);
}

/* ---- While others write and read ---- */

#define LIKE_A_HEADER (LC_SLOT_COMMITTED | 0x00fffff8)

/* Takes two records out, and fills the ring up, so that a long one lies where they were. Its text
 * is made of words that look like headers. */
static void fill_anew(struct lc_ring *ring)
{
    uint64_t words[600];
    struct lc_record r = {.service = SPAN_LIT("12345678"), /* keeps the words where they are */
                          .message = {(const char *)words, sizeof(words)}};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        words[i] = LIKE_A_HEADER;
    take(ring, 2);
    while (lc_ring_write(ring, &r) == 0)
        ;
}

static uint64_t count_by_reading(const struct lc_ring *ring)
{
    struct lc_record got;
    uint64_t position = ring->tail, n = 0;
    while (lc_ring_read(ring, &position, &got) == LC_RING_RECORD)
        n++;
    return n;
}

/* The sender may give the space back, and others may write there, between a look at the position
 * and the look at what stands there. */
static void test_what_was_read_where_others_have_written_since_does_not_count(void **state)
{
    struct lc_ring *ring = *state;
    put_long(ring, 3000);
    put_long(ring, 3000);
    put_long(ring, 200);
    put_long(ring, 200);
    to_be_filled_anew = ring;
    uint64_t counted = lc_ring_count(ring);
    assert_null(to_be_filled_anew);
    assert_true(lc_slot_at(ring, 0)->header == LIKE_A_HEADER);
    assert_int_equal(counted, 2); /* of those that stood there at first */
    assert_int_equal(lc_ring_count(ring), count_by_reading(ring));
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
    struct lc_record got;
    while (taken < RECORDS) {
        uint64_t position = shared->tail, n = 0;
        while (n < 500 && lc_ring_read(shared, &position, &got) == LC_RING_RECORD)
            n++;
        if (n == 0 && (lc_ring_rewind(shared) || lc_ring_trim(shared)))
            continue;
        lc_ring_acknowledge(shared, position, shared->sequence + n);
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
        WITH_RING(test_records_of_all_lengths_are_counted_wherever_they_lie),
        WITH_RING(test_what_a_call_has_not_finished_is_not_counted),
        WITH_RING(test_counting_takes_no_blocks),
        WITH_RING(test_what_was_read_where_others_have_written_since_does_not_count),
        WITH_RING(test_a_count_is_never_too_large_while_others_write_and_read),
    };
    memset(text, 'x', sizeof(text) - 1);
    return cmocka_run_group_tests_name("ring: counting", tests, NULL, NULL);
}
