/* stats.h: what logd counts, and /metrics. Store, echo and api count; what the HTTP server counts
 * is in message.h. */
#ifndef LOGD_STATS_H
#define LOGD_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/http/message.h"

/* Counters count from the start of the process; each is advanced where the thing happens. */
struct logd_stats {
    int64_t start_ms;       /* wall clock at the start */
    uint64_t accepted;      /* records new in Redis, confirmed */
    uint64_t duplicates;    /* records that an earlier request had stored */
    uint64_t gaps;          /* sequence numbers that never came */
    uint64_t unknown;       /* records whose outcome Redis did not say */
    uint64_t reconnects;    /* connections to Redis after the first */
    uint64_t echo_dropped;  /* records not echoed, since standard output was not ready */
    size_t in_flight_bytes; /* on their way to Redis, which has not answered */
    size_t in_flight_batches;
    bool redis_up; /* connected, and takes writes as far as is known */
};

/* Appends all in the Prometheus text format. */
void stats_write(const struct logd_stats *s, const struct http_stats *http, struct buf *out);

#endif
