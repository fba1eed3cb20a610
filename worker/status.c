#include "worker/status.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/diag.h"
#include "common/http/listening.h"
#include "common/metrics.h"
#include "common/redis/link.h"
#include "common/redis/resp.h"
#include "common/timestamp.h"
#include "worker/consumer.h"
#include "worker/port.h"

struct status {
    struct port *port;
    struct event *poll;
    struct consumer *consumer; /* borrowed, like the following */
    const struct sink *sink;
    const struct worker_stats *stats;
    int64_t start_ms;
    struct buf length, pending, oldest; /* commands to Redis */
    unsigned asked;                     /* of them, without an answer */
    int64_t stream_length, stream_pending;
    uint64_t oldest_ms; /* id of the oldest entry; 0: there is none */
    struct buf body;
};

/* ---- What Redis knows ---- */

static void on_length(const struct redis_reply *reply, void *arg)
{
    struct status *s = arg;
    s->asked--;
    if (reply != NULL && reply_type(reply) == REPLY_INTEGER)
        s->stream_length = reply_integer(reply);
}

/* XPENDING's summary begins with the count. */
static void on_pending(const struct redis_reply *reply, void *arg)
{
    struct status *s = arg;
    s->asked--;
    if (reply != NULL && reply_count(reply) > 0)
        s->stream_pending = reply_integer(reply_at(reply, 0));
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

static void ask(struct status *s, const struct buf *command, redis_reply_cb *cb)
{
    struct redis_link *link = commit_link(consumer_committer(s->consumer));
    if (redis_link_send(link, command->data, command->len, cb, s))
        s->asked++;
}

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
    struct status *s = arg;
    (void)fd, (void)what;
    if (s->asked > 0)
        return;
    ask(s, &s->length, on_length);
    ask(s, &s->pending, on_pending);
    ask(s, &s->oldest, on_oldest);
}

static bool make_commands(struct status *s, const char *stream, const char *group)
{
    resp_begin(&s->length, 2);
    resp_arg_str(&s->length, "XLEN");
    resp_arg_str(&s->length, stream);
    resp_begin(&s->pending, 3);
    resp_arg_str(&s->pending, "XPENDING");
    resp_arg_str(&s->pending, stream);
    resp_arg_str(&s->pending, group);
    resp_begin(&s->oldest, 6);
    resp_arg_str(&s->oldest, "XRANGE");
    resp_arg_str(&s->oldest, stream);
    resp_arg_str(&s->oldest, "-");
    resp_arg_str(&s->oldest, "+");
    resp_arg_str(&s->oldest, "COUNT");
    resp_arg_int(&s->oldest, 1);
    return !s->length.failed && !s->pending.failed && !s->oldest.failed;
}

/* ---- Answers ---- */

static void answer(struct status *s, struct evhttp_request *req, int code, const char *type)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    struct evbuffer *body = evbuffer_new();
    if (body == NULL || s->body.failed || evbuffer_add(body, s->body.data, s->body.len) != 0 ||
        evhttp_add_header(headers, "Content-Type", type) != 0 ||
        evhttp_add_header(headers, "Connection", "close") != 0)
        evhttp_send_error(req, HTTP_INTERNAL, NULL);
    else
        evhttp_send_reply(req, code, NULL, body);
    if (body != NULL)
        evbuffer_free(body);
}

static void on_healthz(struct evhttp_request *req, void *arg)
{
    struct status *s = arg;
    buf_clear(&s->body);
    buf_printf(&s->body, "{\"status\":\"ok\"}\n");
    answer(s, req, HTTP_OK, "application/json");
}

static void on_readyz(struct evhttp_request *req, void *arg)
{
    struct status *s = arg;
    const char *problem = consumer_problem(s->consumer);
    buf_clear(&s->body);
    buf_printf(&s->body, "{\"status\":\"%s\"}\n", problem != NULL ? problem : "ready");
    answer(s, req, problem != NULL ? HTTP_SERVUNAVAIL : HTTP_OK, "application/json");
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

static void on_metrics(struct evhttp_request *req, void *arg)
{
    struct status *s = arg;
    const struct redis_link *link = commit_link(consumer_committer(s->consumer));
    buf_clear(&s->body);
    write_counters(&s->body, s->stats);
    metrics_gauge(&s->body, "logworker_log_offset_bytes", "Committed size of the log.",
                  (double)s->sink->base);
    metrics_gauge(&s->body, "logworker_redis_up", "Whether Redis answers.",
                  redis_link_ready(link) ? 1 : 0);
    metrics_gauge(&s->body, "logworker_stream_length", "Entries in the stream.",
                  (double)s->stream_length);
    metrics_gauge(&s->body, "logworker_pending",
                  "Entries of the stream that are delivered but not acknowledged.",
                  (double)s->stream_pending);
    metrics_gauge(&s->body, "logworker_oldest_entry_age_seconds",
                  "Age of the oldest entry in the stream; 0 when it is empty.", oldest_age(s));
    metrics_start_time(&s->body, s->start_ms);
    answer(s, req, HTTP_OK, METRICS_CONTENT_TYPE);
}

static void on_other(struct evhttp_request *req, void *arg)
{
    struct status *s = arg;
    buf_clear(&s->body);
    buf_printf(&s->body, "{\"error\":\"no such path: try /metrics, /healthz or /readyz\"}\n");
    answer(s, req, HTTP_NOTFOUND, "application/json");
}

/* ---- Life ---- */

static bool listen_on(struct status *s, const char *address, char *err, size_t errlen)
{
    char shown[LISTEN_SHOWN_MAX];
    int fd = listen_open(address, shown, err, errlen);
    if (fd < 0)
        return false;
    if (!port_listen(s->port, fd)) {
        snprintf(err, errlen, "cannot listen on %s: out of memory", address);
        return false;
    }
    diag_info("metrics at http://%s/metrics", shown); /* port 0 has become a real one */
    return true;
}

static bool serve(struct status *s, struct event_base *base)
{
    s->port = port_new(base);
    if (s->port == NULL)
        return false;
    evhttp_set_gencb(port_http(s->port), on_other, s);
    return evhttp_set_cb(port_http(s->port), "/healthz", on_healthz, s) == 0 &&
           evhttp_set_cb(port_http(s->port), "/readyz", on_readyz, s) == 0 &&
           evhttp_set_cb(port_http(s->port), "/metrics", on_metrics, s) == 0;
}

struct status *status_new(struct event_base *base, const char *address, struct consumer *consumer,
                          const struct sink *sink, const struct worker_stats *stats,
                          const char *stream, const char *group, char *err, size_t errlen)
{
    static const struct timeval second = {.tv_sec = 1};
    struct status *s = calloc(1, sizeof(*s));
    snprintf(err, errlen, "out of memory");
    if (s == NULL)
        return NULL;
    s->consumer = consumer;
    s->sink = sink;
    s->stats = stats;
    s->start_ms = timestamp_now_ms();
    s->poll = event_new(base, -1, EV_PERSIST, on_poll, s);
    if (s->poll != NULL && event_add(s->poll, &second) == 0 && make_commands(s, stream, group) &&
        serve(s, base) && listen_on(s, address, err, errlen))
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
    port_free(s->port);
    buf_free(&s->length);
    buf_free(&s->pending);
    buf_free(&s->oldest);
    buf_free(&s->body);
    free(s);
}
