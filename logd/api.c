#include "logd/api.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/metrics.h"
#include "common/timestamp.h"
#include "logd/ingest.h"

#define JSON_TYPE "application/json"

static void answer(struct http_exchange *x, int status, const char *type, const struct buf *body)
{
    struct failure f;
    if (body->failed) {
        failure_set_unavailable(&f, STORED_UNSAID, "logd is out of memory; try again later");
        http_answer_failure(x, &f);
        return;
    }
    http_answer(x, &(struct http_response){
                       .status = status,
                       .content_type = type,
                       .body = {body->data, body->len},
                   });
}

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
                       .status = 200, .content_type = JSON_TYPE, .body = {text, (size_t)n}});
}

static void on_gone(void *arg)
{
    store_forget(arg);
}

static bool fill(struct api *a, struct store_batch *b, enum head_media media, struct span body,
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
    b->count = ingest_body(&in, media == MEDIA_LINES ? INGEST_LINES : INGEST_JSON, body, f);
    return b->count > 0 && producer_takes(&b->producer, b->count, f);
}

static bool post(struct api *a, struct http_exchange *x, const struct http_request *r,
                 struct failure *f)
{
    enum head_media media;
    struct producer producer;
    if (!head_media(&r->head, &media, f) ||
        !producer_parse(&producer, r->head.value[HEAD_LOG_PRODUCER],
                        r->head.value[HEAD_LOG_SEQUENCE], r->head.value[HEAD_LOG_SKIP], f) ||
        !store_open(a->store, f))
        return false;
    struct store_batch *b = store_batch(a->store);
    if (b == NULL) {
        failure_set_unavailable(f, STORED_NOTHING, "logd is out of memory; try again later");
        return false;
    }
    b->producer = producer;
    if (!fill(a, b, media, r->body, f)) {
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

static void handle_log(struct api *a, struct http_exchange *x, const struct http_request *r)
{
    struct failure f;
    if (!post(a, x, r, &f))
        http_answer_failure(x, &f);
}

/* ---- The others ---- */

static void handle_health(struct api *a, struct http_exchange *x, const struct http_request *r)
{
    (void)r;
    buf_clear(&a->out);
    buf_add_lit(&a->out, "{\"status\":\"ok\"}");
    answer(x, 200, JSON_TYPE, &a->out);
}

static void handle_ready(struct api *a, struct http_exchange *x, const struct http_request *r)
{
    (void)r;
    const char *trouble = store_trouble(a->store);
    const char *status = trouble != NULL ? trouble : "ready";
    buf_clear(&a->out);
    buf_add_lit(&a->out, "{\"status\":");
    failure_add_string(&a->out, status);
    buf_add_char(&a->out, '}');
    answer(x, trouble != NULL ? 503 : 200, JSON_TYPE, &a->out);
}

static void handle_metrics(struct api *a, struct http_exchange *x, const struct http_request *r)
{
    (void)r;
    buf_clear(&a->out);
    stats_write(a->stats, &a->out);
    answer(x, 200, METRICS_CONTENT_TYPE, &a->out);
}

static const struct route {
    const char *path;
    enum http_method method; /* HTTP_GET takes HEAD, too */
    void (*handle)(struct api *a, struct http_exchange *x, const struct http_request *r);
} routes[] = {
    {"/api/log", HTTP_POST, handle_log},
    {"/healthz", HTTP_GET, handle_health},
    {"/readyz", HTTP_GET, handle_ready},
    {"/metrics", HTTP_GET, handle_metrics},
};

static void refuse_method(struct http_exchange *x, const struct route *route)
{
    struct failure f;
    struct buf body = {0};
    const char *allow = route->method == HTTP_POST ? "POST" : "GET, HEAD";
    failure_set(&f, 405, "%s takes %s only", route->path, allow);
    failure_write(&f, &body);
    http_answer(x, &(struct http_response){.status = f.status,
                                           .content_type = JSON_TYPE,
                                           .allow = allow,
                                           .body = {body.data, body.len}});
    buf_free(&body);
}

void api_handle(struct http_exchange *x, const struct http_request *r, void *arg)
{
    struct api *a = arg;
    struct failure f;
    char shown[FAILURE_SHOWN_MAX];
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        const struct route *route = &routes[i];
        if (strcmp(r->path, route->path) != 0)
            continue;
        if (r->method == route->method || (r->method == HTTP_HEAD && route->method == HTTP_GET))
            route->handle(a, x, r);
        else
            refuse_method(x, route);
        return;
    }
    failure_set(&f, 404, "there is nothing at %s: records go to POST /api/log",
                failure_show(shown, r->path, strlen(r->path)));
    http_answer_failure(x, &f);
}

void api_free(struct api *a)
{
    buf_free(&a->lines);
    buf_free(&a->out);
}
