/* status.c: answers about the worker, and the questions to Redis behind them. */
#include "worker/status.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/diag.h"
#include "common/http/answer.h"
#include "common/http/listening.h"
#include "common/http/routes.h"
#include "common/http/server.h"
#include "common/metrics.h"
#include "common/redis/link.h"
#include "common/redis/resp.h"
#include "common/timer.h"
#include "common/timestamp.h"
#include "worker/consumer.h"

#define VISITS_MAX         32 /* connections */
#define BODY_MAX           1024
#define READING_MAX        (1 << 20)
#define REQUEST_TIMEOUT_MS 10000
#define IDLE_TIMEOUT_MS    60000
#define POLL_MS            1000

/* What is asked of Redis. */
enum question {
    ASK_LENGTH,
    ASK_PENDING,
    ASK_OLDEST,
    ASK_DEAD,
    QUESTIONS,
};

struct status {
    struct http_server *http;
    struct event *poll;
    struct consumer *consumer; /* borrowed, like the following */
    const struct sink *sink;
    const struct worker_stats *stats;
    int64_t start_ms;
    struct buf commands[QUESTIONS];
    unsigned asked; /* questions without an answer */
    /* The last answers; 0 until the first. */
    int64_t stream_length, stream_pending, dead_length;
    uint64_t oldest_ms; /* id of the oldest entry; 0: there is none */
};

/* ---- What Redis knows ---- */

static void take_integer(int64_t *to, const struct redis_reply *reply)
{
    if (reply != NULL && reply_type(reply) == REPLY_INTEGER)
        *to = reply_integer(reply);
}

static void on_length(const struct redis_reply *reply, void *arg)
{
    struct status *s = arg;
    s->asked--;
    take_integer(&s->stream_length, reply);
}

static void on_dead(const struct redis_reply *reply, void *arg)
{
    struct status *s = arg;
    s->asked--;
    take_integer(&s->dead_length, reply);
}

/* XPENDING's summary begins with the count. */
static void on_pending(const struct redis_reply *reply, void *arg)
{
    struct status *s = arg;
    s->asked--;
    if (reply != NULL && reply_count(reply) > 0)
        take_integer(&s->stream_pending, reply_at(reply, 0));
}

static void on_oldest(const struct redis_reply *reply, void *arg)
{
    struct status *s = arg;
    struct stream_id id = {0, 0};
    s->asked--;
    if (reply == NULL || reply_type(reply) != REPLY_ARRAY)
        return;
    if (reply_count(reply) > 0 && reply_count(reply_at(reply, 0)) > 0) {
        struct span text = reply_span(reply_at(reply_at(reply, 0), 0));
        if (!stream_id_parse(&id, text.p, text.n))
            return;
    }
    s->oldest_ms = id.ms;
}

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
    static redis_reply_cb *const takers[QUESTIONS] = {
        [ASK_LENGTH] = on_length,
        [ASK_PENDING] = on_pending,
        [ASK_OLDEST] = on_oldest,
        [ASK_DEAD] = on_dead,
    };
    (void)fd, (void)what;
    struct status *s = arg;
    struct redis_link *link = commit_link(consumer_committer(s->consumer));
    if (s->asked > 0)
        return;
    for (int i = 0; i < QUESTIONS; i++)
        if (redis_link_send(link, s->commands[i].data, s->commands[i].len, takers[i], s))
            s->asked++;
}

static bool write_commands(struct buf *commands, const struct config *c)
{
    bool ok = true;
    resp_command(&commands[ASK_LENGTH], RESP_WORDS("XLEN", c->stream));
    resp_command(&commands[ASK_PENDING], RESP_WORDS("XPENDING", c->stream, c->group));
    resp_command(&commands[ASK_OLDEST], RESP_WORDS("XRANGE", c->stream, "-", "+", "COUNT", "1"));
    resp_command(&commands[ASK_DEAD], RESP_WORDS("XLEN", c->dead_key));
    for (int i = 0; i < QUESTIONS; i++)
        ok = ok && !commands[i].failed;
    return ok;
}

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
    http_answer_status(x, consumer_problem(s->consumer), "ready");
}

static void write_counters(struct buf *out, const struct worker_stats *stats)
{
    metrics_counter(out, "logworker_entries_read_total", "Entries that Redis delivered.",
                    stats->read);
    metrics_counter(out, "logworker_records_written_total", "Lines committed to the log.",
                    stats->written);
    metrics_counter(out, "logworker_records_filtered_total", "Records below the level.",
                    stats->filtered);
    metrics_counter(out, "logworker_records_dead_total",
                    "Malformed entries moved to the dead letters.", stats->dead);
    metrics_counter(out, "logworker_records_skipped_total",
                    "Entries that were committed before, or deleted by somebody.", stats->skipped);
    metrics_counter(
        out, "logworker_records_dropped_total",
        "Entries put back unwritten when a connection broke; Redis delivers them again.",
        stats->dropped);
    metrics_counter(out, "logworker_batches_total", "Batches committed.", stats->batches);
    metrics_counter(out, "logworker_write_errors_total",
                    "Failed attempts to write the log or its state file.", stats->write_errors);
}

static double oldest_age(const struct status *s)
{
    int64_t age = timestamp_now_ms() - (int64_t)s->oldest_ms;
    return s->oldest_ms == 0 || age < 0 ? 0 : (double)age / 1000;
}

static void write_gauges(struct buf *out, const struct status *s)
{
    const struct redis_link *link = commit_link(consumer_committer(s->consumer));
    metrics_gauge(out, "logworker_log_offset_bytes", "Committed size of the log.",
                  (double)sink_offset(s->sink));
    metrics_gauge(out, "logworker_redis_up", "Whether Redis answers.",
                  redis_link_ready(link) ? 1 : 0);
    metrics_gauge(out, "logworker_stream_length", "Entries in the stream.",
                  (double)s->stream_length);
    metrics_gauge(out, "logworker_pending",
                  "Entries of the stream that are delivered but not acknowledged.",
                  (double)s->stream_pending);
    metrics_gauge(out, "logworker_oldest_entry_age_seconds",
                  "Age of the oldest entry in the stream; 0 when it is empty.", oldest_age(s));
    metrics_gauge(out, "logworker_dead_letters",
                  "Entries in the stream of dead letters, which only their reader removes.",
                  (double)s->dead_length);
}

static void handle_metrics(struct http_exchange *x, const struct http_request *r, void *arg)
{
    (void)r;
    const struct status *s = arg;
    struct buf text = {0};
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

static bool set_up(struct status *s, struct event_base *base, const struct config *config)
{
    const struct timeval interval = timer_timeval(POLL_MS);
    s->poll = event_new(base, -1, EV_PERSIST, on_poll, s);
    s->http = http_new(base, &(struct http_config){
                                 .max_body = BODY_MAX,
                                 .max_reading = READING_MAX,
                                 .max_connections = VISITS_MAX,
                                 .request_timeout_ms = REQUEST_TIMEOUT_MS,
                                 .idle_timeout_ms = IDLE_TIMEOUT_MS,
                                 .handle = handle,
                                 .arg = s,
                             });
    return s->poll != NULL && event_add(s->poll, &interval) == 0 && s->http != NULL &&
           write_commands(s->commands, config);
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
    if (set_up(s, base, config) && listen_on(s, config->listen, err, errlen))
        return s;
    status_free(s);
    return NULL;
}

void status_free(struct status *s)
{
    if (s == NULL)
        return;
    if (s->poll != NULL)
        event_free(s->poll);
    http_free(s->http);
    for (int i = 0; i < QUESTIONS; i++)
        buf_free(&s->commands[i]);
    free(s);
}
