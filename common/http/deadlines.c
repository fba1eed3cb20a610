/* deadlines.c: one list a state, and one timer. */
#include "common/http/deadlines.h"

#include <event2/event.h>

#include "common/timer.h"
#include "common/timestamp.h"

static void set_timer(struct deadlines *ds, int64_t at_ms, int64_t now_ms)
{
    timer_set(ds->timer, at_ms - now_ms);
    ds->timer_ms = at_ms;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct deadlines *ds = arg;
    struct deadline *d;
    int64_t now = monotonic_now_ms();
    int64_t next = INT64_MAX;
    ds->timer_ms = INT64_MAX;
    for (int i = 0; i < DEADLINE_STATES_MAX; i++)
        while ((d = TAILQ_FIRST(&ds->list[i])) != NULL && d->at_ms <= now)
            ds->expire(d);
    for (int i = 0; i < DEADLINE_STATES_MAX; i++)
        if ((d = TAILQ_FIRST(&ds->list[i])) != NULL && d->at_ms < next)
            next = d->at_ms;
    if (next < ds->timer_ms)
        set_timer(ds, next, now);
}

bool deadlines_init(struct deadlines *ds, struct event_base *base, const int64_t *timeout_ms,
                    void (*expire)(struct deadline *d))
{
    for (int i = 0; i < DEADLINE_STATES_MAX; i++) {
        TAILQ_INIT(&ds->list[i]);
        ds->timeout_ms[i] = timeout_ms[i];
    }
    ds->expire = expire;
    ds->timer_ms = INT64_MAX;
    ds->timer = evtimer_new(base, on_timer, ds);
    return ds->timer != NULL;
}

void deadlines_free(struct deadlines *ds)
{
    if (ds->timer != NULL)
        event_free(ds->timer);
}

void deadline_enter(struct deadlines *ds, struct deadline *d, int state)
{
    if (d->state != DEADLINE_NONE)
        TAILQ_REMOVE(&ds->list[d->state], d, next);
    d->state = state;
    if (state == DEADLINE_NONE)
        return;
    int64_t now = monotonic_now_ms();
    d->at_ms = now + ds->timeout_ms[state];
    TAILQ_INSERT_TAIL(&ds->list[state], d, next);
    if (d->at_ms < ds->timer_ms)
        set_timer(ds, d->at_ms, now);
}
