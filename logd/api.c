/* api.c: a request becomes a batch for the store, and the store's outcome an answer. */
#include "logd/api.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/http/answer.h"
#include "common/http/routes.h"
#include "common/metrics.h"
#include "common/timestamp.h"
#include "logd/ingest.h"
#include "logd/media.h"

enum {
    LOG_PRODUCER,
    LOG_SEQUENCE,
    LOG_SKIP,
};

const char *const api_headers[] = {[LOG_PRODUCER] = "Log-Producer",
                                   [LOG_SEQUENCE] = "Log-Sequence",
                                   [LOG_SKIP] = "Log-Skip",
                                   NULL};

/* ---- POST /api/log ---- */

static void on_stored(void *arg, const struct store_batch *b, const struct store_outcome *o)
{
    struct http_exchange *x = arg;
    char text[128];
    int n = 0;
    if (o->failure != NULL) {
        http_answer_failure(x, o->failure);
        return;
    }
    n += snprintf(text, sizeof(text), "{\"accepted\":%zu", b->count);
    if (b->producer.id[0] != '\0')
        n += snprintf(text + n, sizeof(text) - (size_t)n, ",\"duplicates\":%zu", o->duplicates);
    if (o->gap > 0)
        n += snprintf(text + n, sizeof(text) - (size_t)n, ",\"gap\":%" PRId64, o->gap);
    n += snprintf(text + n, sizeof(text) - (size_t)n, "}");
    http_answer(x, &(struct http_response){
                       .status = 200, .content_type = HTTP_JSON_TYPE, .body = {text, (size_t)n}});
}

static void on_gone(void *arg)
{
    store_forget(arg);
}

static bool fill(struct api *a, struct store_batch *b, enum ingest_format format, struct span body,
                 struct failure *f)
{
    const struct ingest in = {
        .max_records = a->max_records,
        .max_message = a->max_message,
        .now_ms = timestamp_now_ms(),
        .args = &b->args,
        .lines = a->echo != NULL ? &a->lines : NULL,
    };
    buf_clear(&a->lines);
    /* Most records grow a little on their way; what does not fit makes the buffer double. */
    buf_reserve(&b->args, body.n + body.n / 2);
    b->count = ingest_body(&in, format, body, f);
    return b->count > 0 && producer_takes(&b->producer, b->count, f);
}

static bool post(struct api *a, struct http_exchange *x, const struct http_request *r,
                 struct failure *f)
{
    enum ingest_format format;
    struct producer producer;
    const char *const *own = r->head.own;
    if (!media_format(&r->head, &format, f) ||
        !producer_parse(&producer, own[LOG_PRODUCER], own[LOG_SEQUENCE], own[LOG_SKIP], f) ||
        !store_open(a->store, f))
        return false;
    struct store_batch *b = store_batch(a->store);
    if (b == NULL) {
        failure_set_unavailable(f, STORED_NOTHING, "logd is out of memory; try again later");
        return false;
    }
    b->producer = producer;
    if (!fill(a, b, format, r->body, f)) {
        store_discard(b);
        return false;
    }
    if (a->echo != NULL)
        echo_write(a->echo, a->lines.data, a->lines.len);
    if (!store_send(b, on_stored, x, f)) {
        store_discard(b);
        return false;
    }
    http_on_gone(x, on_gone, b);
    return true;
}

static void handle_log(struct http_exchange *x, const struct http_request *r, void *arg)
{
    struct failure f;
    if (!post(arg, x, r, &f))
        http_answer_failure(x, &f);
}

/* ---- The others ---- */

static void handle_health(struct http_exchange *x, const struct http_request *r, void *arg)
{
    (void)r, (void)arg;
    http_answer_status(x, NULL, "ok");
}

static void handle_ready(struct http_exchange *x, const struct http_request *r, void *arg)
{
    (void)r;
    const struct api *a = arg;
    http_answer_status(x, store_trouble(a->store), "ready");
}

static void handle_metrics(struct http_exchange *x, const struct http_request *r, void *arg)
{
    (void)r;
    const struct api *a = arg;
    struct buf text = {0};
    stats_write(a->stats, http_stats(x), &text);
    http_answer_buf(x, METRICS_CONTENT_TYPE, &text);
    buf_free(&text);
}

void api_handle(struct http_exchange *x, const struct http_request *r, void *arg)
{
    static const struct http_route routes[] = {
        {"/api/log", HTTP_POST, handle_log},
        {"/healthz", HTTP_GET, handle_health},
        {"/readyz", HTTP_GET, handle_ready},
        {"/metrics", HTTP_GET, handle_metrics},
    };
    http_route(routes, sizeof(routes) / sizeof(routes[0]), "records go to POST /api/log", x, r,
               arg);
}

void api_free(struct api *a)
{
    buf_free(&a->lines);
}
