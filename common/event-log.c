/* event-log.c: passes the messages of libevent on to diag.c. Both daemons use it. */
#include "common/event-log.h"

#include <event2/event.h>

#include "common/diag.h"

static void on_log(int severity, const char *text)
{
    static struct diag_limit limit;
    if (severity >= EVENT_LOG_WARN)
        diag_warn_limited(&limit, "libevent: %s", text);
}

static void on_fatal(int code)
{
    diag_die(EXIT_BUG, "libevent gave up (%d)", code);
}

void event_log_init(void)
{
    event_set_log_callback(on_log);
    event_set_fatal_callback(on_fatal);
}
