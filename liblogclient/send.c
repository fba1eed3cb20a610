/* send.c: the calls that a program makes: send, flush, statistics. */
#include "send-internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/record.h"
#include "common/timestamp.h"
#include "common/utf8.h"
#include "default-internal.h"
#include "life-internal.h"
#include "ring-write-internal.h"

#define FORMAT_BYTES 1024 /* longer formatted messages need malloc(3) */
/* A blocked call looks for space after the first, then less often, up to the second. */
#define BLOCK_STEP_NS     500000
#define BLOCK_STEP_MAX_NS 4000000

/* ---- Send ---- */

/* Waits for space. Returns what lc_ring_write() said last. */
static int write_blocking(logclient_t *c, const struct lc_record *record)
{
    int64_t deadline = monotonic_now_ms() + c->options->block_ms;
    struct timespec pause = {0, BLOCK_STEP_NS};
    int error;
    do {
        lc_wake(c);
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < BLOCK_STEP_MAX_NS)
            pause.tv_nsec *= 2;
        error = lc_ring_write(&c->ring, record);
    } while (error != 0 && monotonic_now_ms() < deadline);
    return error;
}

/* Whether a call may wait. One from the error callback would wait for its own thread. */
static bool may_block(const logclient_t *c)
{
    return c->options->on_full == LC_BLOCK && !pthread_equal(pthread_self(), c->thread);
}

/* Puts a checked record into the ring. Returns 0, or -1 with errno. */
static int enqueue(logclient_t *c, struct lc_record *record)
{
    size_t max = (size_t)c->options->max_message_bytes;
    if (record->message.n > max && !(record->flags & LC_FLAG_JSON)) {
        record->message.n = utf8_cut(record->message.p, record->message.n, max);
        record->flags |= LC_FLAG_CUT;
    }
    int error = lc_ring_write(&c->ring, record);
    if (error != 0 && may_block(c))
        error = write_blocking(c, record);
    if (error != 0) {
        atomic_fetch_add_explicit(&c->count.dropped, 1, memory_order_relaxed);
        lc_wake(c);
        errno = EAGAIN;
        return -1;
    }
    atomic_fetch_add_explicit(&c->accepted, 1, memory_order_relaxed);
    if (record->flags & LC_FLAG_CUT)
        atomic_fetch_add_explicit(&c->count.truncated, 1, memory_order_relaxed);
    lc_wake(c);
    return 0;
}

int lc_send_bytes(logclient_t *c, const char *service, const char *level, const char *message,
                  size_t n, unsigned flags)
{
    struct lc_record record = {
        .service = {service, strlen(service)},
        .level = level_parse(level, strlen(level)),
        .message = {message, n},
        .timestamp_ms = timestamp_now_ms(),
        .flags = flags,
    };
    if (record.level == LEVEL_INVALID ||
        record_service_form_error(service, record.service.n) != NULL) {
        errno = EINVAL;
        return -1;
    }
    if (!lc_is_current(c)) {
        int error = lc_restart(c);
        if (error != 0) {
            errno = error;
            return -1;
        }
    }
    return enqueue(c, &record);
}

int logclient_send(logclient_t *client, const char *service, const char *level, const char *message)
{
    if (client == NULL || service == NULL || level == NULL || message == NULL) {
        errno = EINVAL;
        return -1;
    }
    return lc_send_bytes(client, service, level, message, strlen(message), 0);
}

int logclient_vsendf(logclient_t *client, const char *service, const char *level,
                     const char *format, va_list args)
{
    char small[FORMAT_BYTES];
    va_list again;
    if (client == NULL || service == NULL || level == NULL || format == NULL) {
        errno = EINVAL;
        return -1;
    }
    va_copy(again, args);
    int n = vsnprintf(small, sizeof(small), format, args), result = -1;
    char *large = NULL;
    if (n >= 0 && (size_t)n < sizeof(small)) {
        result = lc_send_bytes(client, service, level, small, (size_t)n, 0);
    } else if (n >= 0 && (large = malloc((size_t)n + 1)) != NULL) {
        n = vsnprintf(large, (size_t)n + 1, format, again);
        if (n >= 0)
            result = lc_send_bytes(client, service, level, large, (size_t)n, 0);
    }
    va_end(again);
    int saved = errno;
    free(large);
    errno = saved;
    return result;
}

int logclient_sendf(logclient_t *client, const char *service, const char *level, const char *format,
                    ...)
{
    va_list args;
    va_start(args, format);
    int result = logclient_vsendf(client, service, level, format, args);
    va_end(args);
    return result;
}

int send_log(const char *service, const char *level, const char *message)
{
    logclient_t *c = logclient_default();
    return c == NULL ? -1 : logclient_send(c, service, level, message);
}

int send_vlogf(const char *service, const char *level, const char *format, va_list args)
{
    logclient_t *c = logclient_default();
    return c == NULL ? -1 : logclient_vsendf(c, service, level, format, args);
}

int send_logf(const char *service, const char *level, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int result = send_vlogf(service, level, format, args);
    va_end(args);
    return result;
}

/* ---- Flush and statistics ---- */

logclient_status_t logclient_flush(logclient_t *client, int timeout_ms)
{
    logclient_t *c = client != NULL ? client : lc_existing_default();
    if (c == NULL || !lc_is_current(c))
        return LOGCLIENT_OK;
    return lc_flush(c, timeout_ms) ? LOGCLIENT_OK : LOGCLIENT_TIMED_OUT;
}

static uint64_t load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

uint64_t logclient_stat(logclient_t *client, logclient_stat_t stat)
{
    const logclient_t *c = client != NULL ? client : lc_existing_default();
    if (c == NULL || !lc_is_current(c))
        return 0;
    const struct lc_counters *n = &c->count;
    const _Atomic uint64_t *const counters[] = {
        [LOGCLIENT_STAT_DELIVERED] = &n->delivered,
        [LOGCLIENT_STAT_REJECTED] = &n->rejected,
        [LOGCLIENT_STAT_DROPPED] = &n->dropped,
        [LOGCLIENT_STAT_TRUNCATED] = &n->truncated,
        [LOGCLIENT_STAT_REPAIRED] = &n->repaired,
        [LOGCLIENT_STAT_BATCHES] = &n->batches,
        [LOGCLIENT_STAT_RETRIES] = &n->retries,
        [LOGCLIENT_STAT_RING_FALLBACK] = &n->fallback,
        [LOGCLIENT_STAT_ADOPTED] = &n->adopted,
        [LOGCLIENT_STAT_DAMAGED] = &n->damaged,
        [LOGCLIENT_STAT_ADOPTED_REJECTED] = &n->adopted_rejected,
    };
    /* Before `accepted`, so that what is queued never comes out negative. */
    uint64_t gone = load(&n->delivered) + load(&n->rejected);
    uint64_t accepted = load(&c->accepted);
    if (stat == LOGCLIENT_STAT_LOGGED)
        return accepted + load(&n->dropped);
    if (stat == LOGCLIENT_STAT_QUEUED)
        return accepted > gone ? accepted - gone : 0;
    return (size_t)stat < sizeof(counters) / sizeof(counters[0]) ? load(counters[stat]) : 0;
}
