/* stats.h: what logd counts, and /metrics. */
#ifndef LOGD_STATS_H
#define LOGD_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

#define STATS_STATUS_MAX 600

/* Counters count from the start of the process; each is advanced where the thing happens. */
struct logd_stats {
    int64_t start_ms;                    /* wall clock at the start */
    uint64_t requests[STATS_STATUS_MAX]; /* answered, by status */
    uint64_t accepted;                   /* records new in Redis, confirmed */
    uint64_t duplicates;                 /* records that an earlier request had stored */
    uint64_t gaps;                       /* sequence numbers that never came */
    uint64_t unknown;                    /* records whose outcome Redis did not say */
    uint64_t reconnects;                 /* connections to Redis after the first */
    uint64_t echo_dropped;  /* records not echoed, since standard output was not ready */
    size_t in_flight_bytes; /* on their way to Redis, which has not answered */
    size_t in_flight_batches;
    size_t connections; /* open, HTTP */
    bool redis_up;      /* connected, and takes writes as far as is known */
};

static inline void stats_answered(struct logd_stats *s, int status)
{
    if (status >= 0 && status < STATS_STATUS_MAX)
        s->requests[status]++;
}

/* Appends all in the Prometheus text format. */
void stats_write(const struct logd_stats *s, struct buf *out);

#endif
