/* ring-fixture.h: a ring of the smallest size for each test, and how to fill it. */
#ifndef RING_FIXTURE_H
#define RING_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "liblogclient/ring-read-internal.h"
#include "liblogclient/ring-write-internal.h"
#include "liblogclient/ringdir-internal.h"

#define WITH_RING(f) cmocka_unit_test_setup_teardown(f, open_ring, close_ring)

#define CAPACITY LC_RING_MIN_BYTES

static inline int open_ring(void **state)
{
    static struct lc_ring ring;
    assert_int_equal(lc_ring_create_anonymous(&ring, CAPACITY), 0);
    *state = &ring;
    return 0;
}

static inline int close_ring(void **state)
{
    lc_ring_close(*state);
    return 0;
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

/* What is found of a ring when its owner is dead. */
static inline struct lc_ring reopen(const struct lc_ring *ring)
{
    struct lc_ring dead;
    int fd = dup(ring->fd);
    assert_true(fd >= 0);
    assert_int_equal(lc_ring_open(&dead, fd, false), 0);
    return dead;
}

#endif
