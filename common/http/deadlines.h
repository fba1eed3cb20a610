/* deadlines.h: things in states that may last only so long, such as connections.
 *
 * Each state has one time-out for all, so that the things in it expire in the order in which they
 * entered it: entering and leaving cost a list operation, and one timer serves all. */
#ifndef COMMON_HTTP_DEADLINES_H
#define COMMON_HTTP_DEADLINES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct event;
struct event_base;

#define DEADLINE_STATES_MAX 4
#define DEADLINE_NONE       (-1) /* a state without a time-out */

struct deadline {
    TAILQ_ENTRY(deadline) next;
    int state;     /* index, or DEADLINE_NONE */
    int64_t at_ms; /* monotonic; when it expires */
};

TAILQ_HEAD(deadline_list, deadline);

struct deadlines {
    struct deadline_list list[DEADLINE_STATES_MAX];
    int64_t timeout_ms[DEADLINE_STATES_MAX];
    /* Runs for a thing whose time is over; it must move it to another state, or remove it. */
    void (*expire)(struct deadline *d);
    struct event *timer;
    int64_t timer_ms; /* when the timer runs; INT64_MAX: it is not set */
};

/* `timeout_ms` has DEADLINE_STATES_MAX values. False: out of memory. */
bool deadlines_init(struct deadlines *ds, struct event_base *base, const int64_t *timeout_ms,
                    void (*expire)(struct deadline *d));
void deadlines_free(struct deadlines *ds);

/* For a thing that is in no state yet. */
static inline void deadline_init(struct deadline *d)
{
    d->state = DEADLINE_NONE;
}

/* Moves d to a state, whose time begins now. */
void deadline_enter(struct deadlines *ds, struct deadline *d, int state);

#endif
