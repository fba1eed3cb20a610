/* timer.h: times in milliseconds for libevent's timers. The daemons and the library use it. */
#ifndef COMMON_TIMER_H
#define COMMON_TIMER_H

#include <stdint.h>
#include <sys/time.h>

struct event;

/* Negative times become 0. */
static inline struct timeval timer_timeval(int64_t ms)
{
    if (ms < 0)
        ms = 0;
    return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

/* Lets the event run in so many milliseconds, instead of when it was set to run before. A daemon
 * cannot go on without its timers: ends the process (EXIT_ENVIRONMENT) when out of memory. Not for
 * the library, which ends no process. */
void timer_set(struct event *event, int64_t ms);

#endif
