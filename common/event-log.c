#include "common/event-log.h"

#include <inttypes.h>

#include <event2/event.h>

#include "common/diag.h"

static void on_log(int severity, const char *text)
{
    static struct diag_limit limit;
    uint64_t more;
    if (severity >= EVENT_LOG_WARN && diag_allow(&limit, &more))
        diag_warn("libevent: %s (%" PRIu64 " such warnings suppressed)", text, more);
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
