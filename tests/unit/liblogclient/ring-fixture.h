/* ring-fixture.h: a ring of the smallest size for each test, in memory, and how to fill and empty
 * it. */
#ifndef RING_FIXTURE_H
#define RING_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "liblogclient/ring-read-internal.h"
#include "liblogclient/ring-write-internal.h"

#define WITH_RING(f) cmocka_unit_test_setup_teardown(f, open_ring, close_ring)

#define CAPACITY LC_RING_MIN_BYTES

static inline void make_ring(struct lc_ring *ring, uint64_t capacity, bool whole)
{
    int fd = memfd_create("ring", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(lc_ring_create(ring, fd, capacity, whole), 0);
}

static inline int open_ring(void **state)
{
    static struct lc_ring ring;
    make_ring(&ring, CAPACITY, false);
    *state = &ring;
    return 0;
}

static inline int close_ring(void **state)
{
    lc_ring_close(*state);
    return 0;
}

/* Makes of an empty ring one that has come so far. `position` is a multiple of the capacity. */
static inline void age(struct lc_ring *ring, uint64_t position, uint64_t number)
{
    atomic_store(&ring->header->head, lc_head_make(position, number));
    ring->freed = position;
    lc_ring_acknowledge(ring, position, number, number);
    atomic_store(&ring->reserved_to, ring->whole ? UINT64_MAX : position);
}

static inline struct lc_record record(const char *text)
{
    return (struct lc_record){.service = SPAN_LIT("svc"),
                              .message = {text, strlen(text)},
                              .timestamp_ms = 42,
                              .level = LEVEL_WARN};
}

static inline int put(struct lc_ring *ring, const char *text)
{
    struct lc_record r = record(text);
    return lc_ring_write(ring, &r);
}

/* All up to `position`, where the record with this number begins, is stored. */
static inline void acknowledge(struct lc_ring *ring, uint64_t position, uint64_t number)
{
    lc_ring_acknowledge(ring, position, number, number);
}

/* Takes out up to so many records; returns how many. Each has the number that it should have. */
static inline uint64_t take(struct lc_ring *ring, uint64_t count)
{
    struct lc_record got;
    uint64_t position = ring->ack.position, n = 0;
    for (; n < count && lc_ring_read(ring, &position, &got) == LC_RING_RECORD; n++)
        assert_int_equal(got.number, ring->ack.number + n);
    acknowledge(ring, position, ring->ack.number + n);
    return n;
}

static inline struct lc_ring_ack found_ack(const struct lc_ring *ring)
{
    struct lc_ring_ack ack;
    assert_true(lc_ring_find_ack(ring->header, &ack));
    return ack;
}

#endif
