/* run-until.h: waits in the event loop for a condition, for test_commit.c and test_consumer.c. */
#ifndef TESTS_UNIT_WORKER_RUN_UNTIL_H
#define TESTS_UNIT_WORKER_RUN_UNTIL_H

#include "tests/unit/common/redis/redis-world.h"

#include "common/timestamp.h"

static inline void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
}

/* One turn of the loop, which waits for an event for a short while only. */
static inline void turn(struct event_base *base)
{
    const struct timeval tick = {.tv_usec = 50000};
    struct event *timer = evtimer_new(base, on_tick, NULL);
    assert_non_null(timer);
    assert_int_equal(evtimer_add(timer, &tick), 0);
    event_base_loop(base, EVLOOP_ONCE);
    event_free(timer);
}

/* Runs the loop until the condition holds; fails the test when that takes too long. */
#define RUN_UNTIL(base, condition)                                                                 \
    for (int64_t end = monotonic_now_ms() + PATIENCE_S * 1000; !(condition); turn(base))           \
        if (monotonic_now_ms() >= end)                                                             \
            fail_msg("waited in vain: %s", #condition);

#endif
