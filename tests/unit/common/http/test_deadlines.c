/* test_deadlines.c: things in states that may last only so long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <event2/event.h>

#include "common/http/deadlines.h"

struct thing {
    struct deadline deadline; /* first: expire() gets its address */
    struct deadlines *ds;
    int expired; /* order in which it did; 0: has not */
};

static int expired_count;
static int expire_until;
static struct event_base *expire_base;

static void expire(struct deadline *d)
{
    struct thing *t = (struct thing *)d;
    deadline_enter(t->ds, d, DEADLINE_NONE);
    t->expired = ++expired_count;
    if (expired_count == expire_until)
        event_base_loopbreak(expire_base);
}

static void test_things_expire_in_order_unless_they_move_on(void **state)
{
    static const int64_t timeouts[DEADLINE_STATES_MAX] = {60000, 900, 100, 500};
    struct deadlines ds;
    struct thing t[5] = {{.expired = 0}};
    (void)state;
    expired_count = 0;
    expire_until = 3;
    expire_base = event_base_new();
    assert_non_null(expire_base);
    assert_true(deadlines_init(&ds, expire_base, timeouts, expire));
    for (size_t i = 0; i < 5; i++) {
        t[i].ds = &ds;
        deadline_init(&t[i].deadline);
    }
    deadline_enter(&ds, &t[0].deadline, 0); /* the timer is far away before the others come */
    deadline_enter(&ds, &t[1].deadline, 1);
    deadline_enter(&ds, &t[2].deadline, 2);
    deadline_enter(&ds, &t[3].deadline, 3);
    deadline_enter(&ds, &t[4].deadline, 2);
    deadline_enter(&ds, &t[4].deadline, 0);
    event_base_dispatch(expire_base);
    assert_int_equal(t[2].expired, 1);
    assert_int_equal(t[3].expired, 2);
    assert_int_equal(t[1].expired, 3);
    assert_int_equal(t[0].expired, 0);
    assert_int_equal(t[4].expired, 0);
    deadlines_free(&ds);
    event_base_free(expire_base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_things_expire_in_order_unless_they_move_on),
    };
    return cmocka_run_group_tests_name("common/http/deadlines", tests, NULL, NULL);
}
