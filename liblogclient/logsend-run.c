/* logsend-run.c: the progress of a run of logsend. */
#include "logsend-run-internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "common/timestamp.h"

#define POLL_MS     20
#define PROGRESS_MS 200

volatile sig_atomic_t logsend_interrupted;

void logsend_clear_progress(const struct logsend_run *run)
{
    if (run->progress_shown)
        fputs("\r\033[K", stderr);
}

static uint64_t done(logclient_t *client)
{
    return logclient_stat(client, LOGCLIENT_STAT_DELIVERED) +
           logclient_stat(client, LOGCLIENT_STAT_REJECTED) +
           logclient_stat(client, LOGCLIENT_STAT_ADOPTED) +
           logclient_stat(client, LOGCLIENT_STAT_ADOPTED_REJECTED);
}

void logsend_show_progress(struct logsend_run *run, bool last)
{
    static int64_t next;
    logclient_t *client = run->client;
    int64_t now = run->set.quiet ? 0 : monotonic_now_ms();
    if (run->set.quiet || (last ? !run->progress_shown : now < next))
        return;
    fprintf(stderr, "\r%" PRIu64 " sent, %" PRIu64 " delivered, %" PRIu64 " waiting \033[K%s",
            logclient_stat(client, LOGCLIENT_STAT_LOGGED) -
                logclient_stat(client, LOGCLIENT_STAT_DROPPED),
            logclient_stat(client, LOGCLIENT_STAT_DELIVERED) +
                logclient_stat(client, LOGCLIENT_STAT_ADOPTED),
            logclient_stat(client, LOGCLIENT_STAT_QUEUED), last ? "\n" : "");
    next = now + PROGRESS_MS;
    run->progress_shown = !last;
}

struct logsend_progress logsend_begin_progress(logclient_t *client)
{
    return (struct logsend_progress){monotonic_now_ms(), done(client)};
}

bool logsend_is_still(const struct logsend_run *run, struct logsend_progress *p)
{
    uint64_t now = done(run->client);
    if (now != p->done)
        p->moved_ms = monotonic_now_ms();
    p->done = now;
    return monotonic_now_ms() - p->moved_ms >= run->set.timeout_ms;
}

bool logsend_wait_until(struct logsend_run *run, bool (*finished)(logclient_t *client))
{
    struct logsend_progress p = logsend_begin_progress(run->client);
    while (!finished(run->client)) {
        if (logsend_is_still(run, &p) || logsend_interrupted)
            return false;
        logsend_show_progress(run, false);
        logclient_flush(run->client, POLL_MS);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    return true;
}
