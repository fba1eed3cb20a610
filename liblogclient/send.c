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

static void count(_Atomic uint64_t *counter)
{
    /* Released, so that who sees a record dropped sees it logged, too. */
    atomic_fetch_add_explicit(counter, 1, memory_order_release);
}

/* Which part of a counter this thread uses: its stack tells. Stacks lie at regular distances; the
 * upper bits of the product tell neighbours apart. */
static size_t own_part(void)
{
    uint64_t stack = (uintptr_t)__builtin_frame_address(0) >> 16;
    return (size_t)(stack * UINT64_C(0x9e3779b97f4a7c15) >> 60) % LC_PARTS;
}

/* Eight bytes at a time: no byte of them is a control character. */
static bool plain_word(uint64_t word)
{
    uint64_t low = (word - 0x2020202020202020u) & ~word;
    uint64_t del = word ^ 0x7f7f7f7f7f7f7f7fu;
    return ((low | ((del - 0x0101010101010101u) & ~del)) & 0x8080808080808080u) == 0;
}

static uint64_t word_at(const char *s)
{
    uint64_t word;
    memcpy(&word, s, sizeof(word));
    return word;
}

static uint64_t half_at(const char *s)
{
    uint32_t half;
    memcpy(&half, s, sizeof(half));
    return half;
}

/* Whether it is a service's name, for sure. The last word, or half, may overlap the one before. */
static bool is_plain_name(const char *s, size_t n)
{
    if (n < 4 || n > RECORD_SERVICE_MAX)
        return false;
    if (n < 8)
        return plain_word(half_at(s) | half_at(s + n - 4) << 32);
    for (size_t i = 0; i + 8 < n; i += 8)
        if (!plain_word(word_at(s + i)))
            return false;
    return plain_word(word_at(s + n - 8));
}

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

/* Puts a checked record into the ring. Returns 0, or -1 with errno. */
static int enqueue(logclient_t *c, struct lc_record *record)
{
    size_t max = (size_t)c->options->max_message_bytes;
    if (record->message.n > max && !(record->flags & LC_FLAG_JSON)) {
        record->message.n = utf8_cut(record->message.p, record->message.n, max);
        record->flags |= LC_FLAG_CUT;
    }
    count(&c->count.logged[own_part()].count);
    int error = lc_ring_write(&c->ring, record);
    if (error != 0 && c->options->on_full == LC_BLOCK)
        error = write_blocking(c, record);
    if (error != 0) {
        count(&c->count.dropped);
        lc_wake(c);
        errno = EAGAIN;
        return -1;
    }
    if (record->flags & LC_FLAG_CUT)
        count(&c->count.truncated);
    lc_wake(c);
    return 0;
}

int lc_send_bytes(logclient_t *c, const char *service, const char *level, const char *message,
                  size_t n, unsigned flags)
{
    if (n == LC_TO_NUL)
        n = strlen(message);
    struct lc_record record = {
        .service = {service, strlen(service)},
        .level = level_parse(level, strlen(level)),
        .message = {message, n},
        .timestamp_ms = timestamp_now_ms(),
        .flags = flags,
    };
    if (record.level == LEVEL_INVALID ||
        (!is_plain_name(service, record.service.n) &&
         record_service_form_error(service, record.service.n) != NULL)) {
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
    return lc_send_bytes(client, service, level, message, LC_TO_NUL, 0);
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

/* Acquired, so that counters are read in the order of the calls. */
static uint64_t load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_acquire);
}

static uint64_t logged(const struct lc_counters *n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < LC_PARTS; i++)
        sum += load(&n->logged[i].count);
    return sum;
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
    if (stat == LOGCLIENT_STAT_LOGGED)
        return logged(n);
    if (stat == LOGCLIENT_STAT_QUEUED)
        return lc_ring_count(&c->ring);
    return (size_t)stat < sizeof(counters) / sizeof(counters[0]) ? load(counters[stat]) : 0;
}
