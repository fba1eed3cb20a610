/* test_api.c: what logd answers, without Redis and without HTTP: the store and the answers are
 * fakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "common/http/answer.h"
#include "common/metrics.h"
#include "logd/api.h"

#define RECORD "{\"service\":\"s\",\"level\":\"info\",\"message\":\"m\"}"
#define ID     "0123456789abcdef0123456789abcdef"

/* ---- The answers ---- */

struct http_exchange {
    unsigned answers;
    int status;
    char type[64];
    char body[8192];
    struct failure failure; /* when the answer was one */
    void (*gone)(void *arg);
    void *gone_arg;
    struct http_stats stats;
};

void http_answer(struct http_exchange *x, const struct http_response *r)
{
    x->answers++;
    x->status = r->status;
    snprintf(x->type, sizeof(x->type), "%s", r->content_type);
    snprintf(x->body, sizeof(x->body), "%.*s", (int)r->body.n, r->body.p);
}

void http_answer_failure(struct http_exchange *x, const struct failure *f)
{
    x->answers++;
    x->status = f->status;
    x->failure = *f;
}

void http_answer_buf(struct http_exchange *x, const char *content_type, const struct buf *body)
{
    http_answer(x, &(struct http_response){.status = 200,
                                           .content_type = content_type,
                                           .body = {body->data, body->len}});
}

void http_answer_status(struct http_exchange *x, const char *problem, const char *good)
{
    x->answers++;
    x->status = problem != NULL ? 503 : 200;
    snprintf(x->body, sizeof(x->body), "%s", problem != NULL ? problem : good);
}

void http_on_gone(struct http_exchange *x, void (*gone)(void *arg), void *arg)
{
    x->gone = gone;
    x->gone_arg = arg;
}

const struct http_stats *http_stats(const struct http_exchange *x)
{
    return &x->stats;
}

/* ---- The store ---- */

static struct {
    bool closed, without_memory, full;
    const char *trouble;
    unsigned batches; /* handed out and not given back */
    struct store_batch *sent;
    store_done_cb *done;
    void *done_arg;
    struct store_batch *forgotten;
} fake;

bool store_open(struct store *s, struct failure *f)
{
    (void)s;
    if (fake.closed)
        failure_set_unavailable(f, STORED_NOTHING, "closed");
    return !fake.closed;
}

struct store_batch *store_batch(struct store *s)
{
    (void)s;
    if (fake.without_memory)
        return NULL;
    fake.batches++;
    return calloc(1, sizeof(struct store_batch));
}

void store_discard(struct store_batch *b)
{
    fake.batches--;
    buf_free(&b->args);
    free(b);
}

bool store_send(struct store_batch *b, store_done_cb *done, void *arg, struct failure *f)
{
    if (fake.full) {
        failure_set_unavailable(f, STORED_NOTHING, "full");
        return false;
    }
    fake.sent = b;
    fake.done = done;
    fake.done_arg = arg;
    return true;
}

void store_forget(struct store_batch *b)
{
    fake.forgotten = b;
}

const char *store_trouble(const struct store *s)
{
    (void)s;
    return fake.trouble;
}

/* The store is done with the batch that was sent. */
static void finish(const struct store_outcome *o)
{
    struct store_batch *b = fake.sent;
    fake.sent = NULL;
    fake.done(fake.done_arg, b, o);
    store_discard(b);
}

/* ---- Requests ---- */

static struct logd_stats stats;
static struct api api;

static int set_up(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof(fake));
    stats = (struct logd_stats){.accepted = 42};
    api = (struct api){.stats = &stats, .max_records = 3, .max_message = 100};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    api_free(&api);
    return fake.batches == 0 ? 0 : -1;
}

static struct http_request post_of(const char *body)
{
    return (struct http_request){
        .method = HTTP_POST, .path = "/api/log", .body = {body, strlen(body)}};
}

static struct http_exchange handle(const struct http_request *r)
{
    struct http_exchange x = {0};
    api_handle(&x, r, &api);
    return x;
}

static struct http_exchange get(const char *path)
{
    return handle(&(struct http_request){.method = HTTP_GET, .path = path});
}

static void assert_refused(const struct http_request *r, int status, enum failure_stored stored)
{
    struct http_exchange x = handle(r);
    assert_null(fake.sent);
    assert_int_equal(x.answers, 1);
    assert_int_equal(x.status, status);
    assert_int_equal(x.failure.stored, stored);
    assert_null(x.gone);
    assert_int_equal(fake.batches, 0);
}

/* ---- POST /api/log ---- */

static void test_records_are_answered_when_they_are_stored(void **state)
{
    struct http_request r = post_of("[" RECORD "," RECORD "]");
    struct http_exchange x = {0};
    (void)state;
    api_handle(&x, &r, &api);
    assert_int_equal(x.answers, 0);
    assert_non_null(fake.sent);
    assert_int_equal(fake.sent->count, 2);
    assert_string_equal(fake.sent->producer.id, "");
    assert_true(fake.sent->args.len > 0);
    finish(&(struct store_outcome){.failure = NULL});
    assert_int_equal(x.answers, 1);
    assert_int_equal(x.status, 200);
    assert_string_equal(x.type, "application/json");
    assert_string_equal(x.body, "{\"accepted\":2}");
}

static void test_lines_are_told_from_an_object_by_their_type(void **state)
{
    struct http_request r = post_of(RECORD "\n" RECORD "\n" RECORD "\n");
    struct http_exchange x = {0};
    (void)state;
    assert_refused(&r, 400, STORED_UNSAID);
    r.head.value[HEAD_CONTENT_TYPE] = "application/x-ndjson";
    api_handle(&x, &r, &api);
    assert_int_equal(fake.sent->count, 3);
    finish(&(struct store_outcome){.failure = NULL});
    assert_string_equal(x.body, "{\"accepted\":3}");
}

/* The names of api_headers are in the order in which api.c reads their values. */
static void test_a_producer_is_told_of_duplicates_and_gaps(void **state)
{
    struct http_request r = post_of(RECORD);
    struct http_exchange x = {0};
    (void)state;
    for (size_t i = 0; api_headers[i] != NULL; i++) {
        if (strcmp(api_headers[i], "Log-Producer") == 0)
            r.head.own[i] = ID;
        if (strcmp(api_headers[i], "Log-Sequence") == 0)
            r.head.own[i] = "9";
        if (strcmp(api_headers[i], "Log-Skip") == 0)
            r.head.own[i] = "2";
    }
    api_handle(&x, &r, &api);
    assert_string_equal(fake.sent->producer.id, ID);
    assert_int_equal(fake.sent->producer.first, 9);
    assert_int_equal(fake.sent->producer.skip, 2);
    finish(&(struct store_outcome){.duplicates = 1, .gap = 5});
    assert_string_equal(x.body, "{\"accepted\":1,\"duplicates\":1,\"gap\":5}");
    api_handle(&x, &r, &api);
    finish(&(struct store_outcome){.duplicates = 0});
    assert_string_equal(x.body, "{\"accepted\":1,\"duplicates\":0}");
}

static void test_a_failure_of_the_store_is_the_answer(void **state)
{
    struct http_request r = post_of(RECORD);
    struct http_exchange x = {0};
    struct failure f;
    (void)state;
    api_handle(&x, &r, &api);
    failure_set_unavailable(&f, STORED_UNKNOWN, "Redis is gone");
    finish(&(struct store_outcome){.failure = &f});
    assert_int_equal(x.status, 503);
    assert_int_equal(x.failure.stored, STORED_UNKNOWN);
}

static void test_a_batch_whose_client_is_gone_is_forgotten(void **state)
{
    struct http_request r = post_of(RECORD);
    struct http_exchange x = {0};
    (void)state;
    api_handle(&x, &r, &api);
    assert_non_null(x.gone);
    x.gone(x.gone_arg);
    assert_ptr_equal(fake.forgotten, fake.sent);
    store_discard(fake.sent);
}

static void test_bad_requests_are_not_stored(void **state)
{
    struct http_request r;
    (void)state;
    r = post_of("");
    assert_refused(&r, 400, STORED_UNSAID);
    r = post_of("[" RECORD ",{}]");
    assert_refused(&r, 400, STORED_UNSAID);
    r = post_of("[" RECORD "," RECORD "," RECORD "," RECORD "]");
    assert_refused(&r, 413, STORED_UNSAID);
    r = post_of(RECORD);
    r.head.value[HEAD_CONTENT_TYPE] = "text/plain";
    assert_refused(&r, 415, STORED_UNSAID);
    r = post_of(RECORD);
    r.head.own[0] = ID; /* without a sequence number */
    assert_refused(&r, 400, STORED_UNSAID);
}

static void test_nothing_is_stored_while_the_store_takes_none(void **state)
{
    struct http_request r = post_of(RECORD);
    (void)state;
    fake.closed = true;
    assert_refused(&r, 503, STORED_NOTHING);
    fake.closed = false;
    fake.without_memory = true;
    assert_refused(&r, 503, STORED_NOTHING);
    fake.without_memory = false;
    fake.full = true;
    assert_refused(&r, 503, STORED_NOTHING);
}

/* ---- The others ---- */

static void test_health_does_not_depend_on_redis(void **state)
{
    (void)state;
    fake.trouble = "Redis is down";
    struct http_exchange x = get("/healthz");
    assert_int_equal(x.status, 200);
    assert_string_equal(x.body, "ok");
}

static void test_readiness_says_what_the_store_says(void **state)
{
    (void)state;
    struct http_exchange x = get("/readyz");
    assert_int_equal(x.status, 200);
    assert_string_equal(x.body, "ready");
    fake.trouble = "Redis is down";
    x = get("/readyz");
    assert_int_equal(x.status, 503);
    assert_string_equal(x.body, "Redis is down");
}

static void test_metrics_are_of_logd_and_of_its_server(void **state)
{
    struct http_exchange x = {0};
    (void)state;
    x.stats.answered[404] = 3;
    x.stats.answered[503] = 5;
    x.stats.connections = 7;
    api_handle(&x, &(struct http_request){.method = HTTP_GET, .path = "/metrics"}, &api);
    assert_int_equal(x.status, 200);
    assert_string_equal(x.type, METRICS_CONTENT_TYPE);
    assert_non_null(strstr(x.body, "\nlogd_records_accepted_total 42\n"));
    assert_non_null(strstr(x.body, "\nlogd_requests_total{code=\"200\"} 0\n"));
    assert_non_null(strstr(x.body, "\nlogd_requests_total{code=\"404\"} 3\n"));
    assert_non_null(strstr(x.body, "\nlogd_requests_total{code=\"503\"} 5\n"));
    assert_non_null(strstr(x.body, "\nlogd_requests_bad_total 3\n"));
    assert_non_null(strstr(x.body, "\nlogd_connections 7\n"));
}

static void test_other_paths_and_methods_are_refused(void **state)
{
    (void)state;
    assert_int_equal(get("/").status, 404);
    assert_int_equal(get("/api/log").status, 405);
    struct http_request r = post_of(RECORD);
    r.path = "/metrics";
    assert_refused(&r, 405, STORED_UNSAID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_records_are_answered_when_they_are_stored, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_lines_are_told_from_an_object_by_their_type, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_producer_is_told_of_duplicates_and_gaps, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_failure_of_the_store_is_the_answer, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_batch_whose_client_is_gone_is_forgotten, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_bad_requests_are_not_stored, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_is_stored_while_the_store_takes_none, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_health_does_not_depend_on_redis, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_readiness_says_what_the_store_says, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_metrics_are_of_logd_and_of_its_server, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_other_paths_and_methods_are_refused, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests_name("logd/api", tests, NULL, NULL);
}
