/* timer.c: sets the timers of the daemons. */
#include "common/timer.h"

#include <event2/event.h>

#include "common/diag.h"

void timer_set(struct event *event, int64_t ms)
{
    struct timeval tv = timer_timeval(ms);
    if (event_add(event, &tv) != 0)
        diag_die(EXIT_ENVIRONMENT, "cannot set a timer: out of memory");
}
