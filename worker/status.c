/* status.c: answers about the worker. */
#include "worker/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/diag.h"
#include "common/http/answer.h"
#include "common/http/listening.h"
#include "common/http/routes.h"
#include "common/http/server.h"
#include "common/metrics.h"
#include "common/timestamp.h"
#include "worker/consumer.h"

#define VISITS_MAX         32 /* connections */
#define BODY_MAX           1024
#define READING_MAX        (1 << 20)
#define REQUEST_TIMEOUT_MS 10000
#define IDLE_TIMEOUT_MS    60000

struct status {
    struct http_server *http;
    struct consumer *consumer; /* borrowed, like the following */
    const struct sink *sink;
    const struct worker_stats *stats;
    int64_t start_ms;
};

/* ---- Answers ---- */

static void handle_health(struct http_exchange *x, const struct http_request *r, void *arg)
{
    (void)r, (void)arg;
    http_answer_status(x, NULL, "ok");
}

static void handle_ready(struct http_exchange *x, const struct http_request *r, void *arg)
{
    (void)r;
    const struct status *s = arg;
    const char *problem = consumer_problem(s->consumer);
    int64_t removed = consumer_account(s->consumer)->removed;
    struct buf body = {0};
    if (problem != NULL || removed == 0) {
        http_answer_status(x, problem, "ready");
        return;
    }
    buf_printf(&body,
               "{\"status\":\"ready\",\"note\":\"somebody else has removed %" PRId64
               " entries from the stream\"}\n",
               removed);
    http_answer_buf(x, "application/json", &body);
    buf_free(&body);
}

/* What holds over all processes, since Redis counts it. */
static void write_account(struct buf *out, const struct account *a)
{
    metrics_counter(out, "logworker_records_written_total",
                    "Records that are in a log and out of the stream, by the stream's account.",
                    (uint64_t)a->written);
    metrics_counter(out, "logworker_records_filtered_total",
                    "Records below the level, by the stream's account.", (uint64_t)a->filtered);
    metrics_counter(out, "logworker_records_dead_total",
                    "Malformed entries moved to the dead letters, by the stream's account.",
                    (uint64_t)a->dead);
    metrics_counter(out, "logworker_entries_added_total", "Entries ever added to the stream.",
                    (uint64_t)a->added);
}

static void write_counters(struct buf *out, const struct worker_stats *stats)
{
    metrics_counter(out, "logworker_entries_read_total", "Entries that this process has read.",
                    stats->read);
    metrics_counter(out, "logworker_lines_written_total", "Lines that this process has committed.",
                    stats->written);
    metrics_counter(out, "logworker_records_found_total",
                    "Records that stood in the log already when Redis held them again.",
                    stats->found);
    metrics_counter(out, "logworker_entries_unplaced_total",
                    "Entries that were written though the log may have them farther back than "
                    "--look-back.",
                    stats->unplaced);
    metrics_counter(out, "logworker_records_dropped_total",
                    "Entries put back, to be read again after the stream is opened again.",
                    stats->dropped);
    metrics_counter(out, "logworker_batches_total", "Batches committed.", stats->batches);
    metrics_counter(out, "logworker_openings_total", "How often this process opened the stream.",
                    stats->openings);
    metrics_counter(out, "logworker_write_errors_total",
                    "Failed attempts to write the log or its state file.", stats->write_errors);
}

static double oldest_age(const struct account *a)
{
    int64_t age = timestamp_now_ms() - (int64_t)a->first.ms;
    return a->first.ms == 0 || age < 0 ? 0 : (double)age / 1000;
}

static void write_gauges(struct buf *out, const struct status *s)
{
    const struct account *a = consumer_account(s->consumer);
    metrics_gauge(out, "logworker_log_offset_bytes", "Size of the log before the batch in hand.",
                  (double)sink_offset(s->sink));
    metrics_gauge(out, "logworker_redis_up", "Whether Redis answers.",
                  consumer_connected(s->consumer) ? 1 : 0);
    metrics_gauge(out, "logworker_stream_length", "Entries in the stream.", (double)a->length);
    metrics_gauge(out, "logworker_oldest_entry_age_seconds",
                  "Age of the oldest entry in the stream; 0 when it is empty.", oldest_age(a));
    metrics_gauge(out, "logworker_dead_letters",
                  "Entries in the stream of dead letters, which only their reader removes.",
                  (double)a->dead_letters);
    metrics_gauge(out, "logworker_entries_removed_by_others",
                  "Entries that somebody else has removed from the stream.", (double)a->removed);
}

static void handle_metrics(struct http_exchange *x, const struct http_request *r, void *arg)
{
    (void)r;
    const struct status *s = arg;
    struct buf text = {0};
    write_account(&text, consumer_account(s->consumer));
    write_counters(&text, s->stats);
    write_gauges(&text, s);
    metrics_start_time(&text, s->start_ms);
    http_answer_buf(x, METRICS_CONTENT_TYPE, &text);
    buf_free(&text);
}

static void handle(struct http_exchange *x, const struct http_request *r, void *arg)
{
    static const struct http_route routes[] = {
        {"/healthz", HTTP_GET, handle_health},
        {"/readyz", HTTP_GET, handle_ready},
        {"/metrics", HTTP_GET, handle_metrics},
    };
    http_route(routes, sizeof(routes) / sizeof(routes[0]), "try /metrics, /healthz or /readyz", x,
               r, arg);
}

/* ---- Life ---- */

static bool listen_on(struct status *s, const char *address, char *err, size_t errlen)
{
    char shown[LISTEN_SHOWN_MAX];
    int fd = listen_open(address, shown, err, errlen);
    if (fd < 0)
        return false;
    if (!http_listen(s->http, fd)) {
        snprintf(err, errlen, "cannot listen on %s: out of memory", address);
        return false;
    }
    diag_info("metrics at http://%s/metrics", shown); /* port 0 has become a real one */
    return true;
}

static struct http_server *new_server(struct event_base *base, struct status *s)
{
    return http_new(base, &(struct http_config){
                              .max_body = BODY_MAX,
                              .max_reading = READING_MAX,
                              .max_connections = VISITS_MAX,
                              .request_timeout_ms = REQUEST_TIMEOUT_MS,
                              .idle_timeout_ms = IDLE_TIMEOUT_MS,
                              .handle = handle,
                              .arg = s,
                          });
}

struct status *status_new(struct event_base *base, const struct config *config,
                          struct consumer *consumer, const struct sink *sink,
                          const struct worker_stats *stats, char *err, size_t errlen)
{
    struct status *s = calloc(1, sizeof(*s));
    snprintf(err, errlen, "out of memory");
    if (s == NULL)
        return NULL;
    s->consumer = consumer;
    s->sink = sink;
    s->stats = stats;
    s->start_ms = timestamp_now_ms();
    s->http = new_server(base, s);
    if (s->http != NULL && listen_on(s, config->listen, err, errlen))
        return s;
    status_free(s);
    return NULL;
}

void status_free(struct status *s)
{
    if (s == NULL)
        return;
    http_free(s->http);
    free(s);
}
