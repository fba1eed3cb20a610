/* stats.c: the text of /metrics. */
#include "logd/stats.h"

#include <stdio.h>

#include "common/metrics.h"

/* These are printed from the start, so that their rates begin at 0. */
static bool is_usual(int status)
{
    return status == 200 || status == 400 || status == 503;
}

static void write_requests(const struct http_stats *http, struct buf *out)
{
    uint64_t bad = 0;
    metrics_head(out, "logd_requests_total", "counter", "HTTP requests answered.");
    for (int status = 100; status < HTTP_STATUS_MAX; status++) {
        if (http->answered[status] == 0 && !is_usual(status))
            continue;
        char label[32];
        snprintf(label, sizeof(label), "code=\"%d\"", status);
        metrics_sample(out, "logd_requests_total", label, http->answered[status]);
        if (status >= 400 && status < 500)
            bad += http->answered[status];
    }
    metrics_counter(out, "logd_requests_bad_total",
                    "HTTP requests refused because of the request itself (4xx).", bad);
}

void stats_write(const struct logd_stats *s, const struct http_stats *http, struct buf *out)
{
    metrics_counter(out, "logd_records_accepted_total", "Records stored in Redis, new ones only.",
                    s->accepted);
    metrics_counter(out, "logd_records_duplicate_total",
                    "Records of idempotent producers that had been stored before.", s->duplicates);
    metrics_counter(out, "logd_records_unknown_total",
                    "Records whose outcome is unknown, since Redis went away after they were sent.",
                    s->unknown);
    metrics_counter(out, "logd_sequence_gap_records_total",
                    "Sequence numbers of idempotent producers that never came.", s->gaps);
    write_requests(http, out);
    metrics_gauge(out, "logd_in_flight_bytes",
                  "Bytes on their way to Redis, until it has answered.",
                  (double)s->in_flight_bytes);
    metrics_gauge(out, "logd_in_flight_batches",
                  "Batches on their way to Redis, until it has answered.",
                  (double)s->in_flight_batches);
    metrics_gauge(out, "logd_connections", "Open HTTP connections.", (double)http->connections);
    metrics_gauge(out, "logd_redis_up", "1 when Redis answers and takes writes.",
                  s->redis_up ? 1 : 0);
    metrics_counter(out, "logd_redis_reconnects_total", "Connections to Redis after the first.",
                    s->reconnects);
    metrics_counter(out, "logd_echo_dropped_total",
                    "Records not echoed because standard output was not ready.", s->echo_dropped);
    metrics_start_time(out, s->start_ms);
}
