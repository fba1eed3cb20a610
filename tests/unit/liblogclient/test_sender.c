/* test_sender.c: the sender against an HTTP client that is a script: what it posts, and what it
 * makes of each answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event2/event.h>

#include "common/timer.h"
#include "common/timestamp.h"
#include "liblogclient/client-internal.h"
#include "liblogclient/http-internal.h"

#define WAIT_MS   20000
#define POSTS_MAX 64

/* ---- The fake of http.c ---- */

struct post {
    char url[64];
    char producer[40];
    char messages[200]; /* of the records, separated by spaces */
    size_t count;       /* of the records */
    uint64_t sequence, skip;
    int64_t at_ms;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct lc_http_answer script[POSTS_MAX]; /* by number of the post; status -1: 200, all taken */
    struct post posts[POSTS_MAX];
    int count;
    bool held; /* answers wait until release_answers() */
    char reports[8][400];
    int report_count;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

struct lc_http {
    struct event *answer;
    lc_http_done *done;
    void *arg;
};

static void on_answer(evutil_socket_t fd, short what, void *arg)
{
    struct lc_http *http = arg;
    char body[64];
    (void)fd, (void)what;
    pthread_mutex_lock(&fake.lock);
    while (fake.held)
        pthread_cond_wait(&fake.changed, &fake.lock);
    struct lc_http_answer answer = fake.script[fake.count - 1];
    snprintf(body, sizeof(body), "{\"accepted\":%zu}", fake.posts[fake.count - 1].count);
    pthread_mutex_unlock(&fake.lock);
    if (answer.status < 0)
        answer = (struct lc_http_answer){.status = 200, .body = body, .retry_after_ms = -1};
    http->done(&answer, http->arg);
}

struct lc_http *lc_http_new(struct event_base *base, lc_http_done *done, void *arg)
{
    struct lc_http *http = calloc(1, sizeof(*http));
    assert_non_null(http);
    http->answer = evtimer_new(base, on_answer, http);
    http->done = done;
    http->arg = arg;
    return http;
}

static void note_record(struct post *p, const char *line, size_t n)
{
    const char *message = memmem(line, n, "\"message\":\"", 11);
    size_t used = strlen(p->messages);
    if (message != NULL)
        snprintf(p->messages + used, sizeof(p->messages) - used, "%s%.*s", used > 0 ? " " : "",
                 (int)strcspn(message + 11, "\""), message + 11);
    p->count++;
}

void lc_http_post(struct lc_http *http, const struct lc_http_request *r)
{
    struct timeval now = timer_timeval(0);
    const char *at = r->body->data, *end = at + r->body->len;
    pthread_mutex_lock(&fake.lock);
    if (fake.count == POSTS_MAX)
        abort();
    struct post *p = &fake.posts[fake.count++];
    *p = (struct post){.sequence = r->sequence, .skip = r->skip, .at_ms = monotonic_now_ms()};
    snprintf(p->url, sizeof(p->url), "%s", r->url->text);
    snprintf(p->producer, sizeof(p->producer), "%s", r->producer);
    for (const char *newline; at < end; at = newline + 1) {
        newline = memchr(at, '\n', (size_t)(end - at));
        note_record(p, at, (size_t)(newline - at));
    }
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
    event_add(http->answer, &now);
}

void lc_http_free(struct lc_http *http)
{
    if (http == NULL)
        return;
    event_free(http->answer);
    free(http);
}

/* ---- What the tests do ---- */

static void hold_answers(void)
{
    pthread_mutex_lock(&fake.lock);
    fake.held = true;
    pthread_mutex_unlock(&fake.lock);
}

static void release_answers(void)
{
    pthread_mutex_lock(&fake.lock);
    fake.held = false;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

/* The number-th post, from 1 on, as soon as it is there. */
static struct post wait_for_post(int number)
{
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += WAIT_MS / 1000;
    pthread_mutex_lock(&fake.lock);
    int error = 0;
    while (fake.count < number && error == 0)
        error = pthread_cond_timedwait(&fake.changed, &fake.lock, &deadline);
    struct post p = fake.posts[number - 1];
    pthread_mutex_unlock(&fake.lock);
    if (error != 0)
        fail_msg("%d posts instead of %d", fake.count, number);
    return p;
}

static void check_post(int number, uint64_t sequence, uint64_t skip, const char *messages)
{
    struct post p = wait_for_post(number);
    if (p.sequence != sequence || p.skip != skip || strcmp(p.messages, messages) != 0)
        fail_msg("post %d is %llu skip %llu: %s", number, (unsigned long long)p.sequence,
                 (unsigned long long)p.skip, p.messages);
}

static void on_error(logclient_t *client, logclient_status_t status, const char *text, void *arg)
{
    (void)client, (void)arg;
    pthread_mutex_lock(&fake.lock);
    if (fake.report_count < 8)
        snprintf(fake.reports[fake.report_count++], sizeof(fake.reports[0]), "%d %s", (int)status,
                 text);
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

static void check_report(int index, logclient_status_t status, const char *part)
{
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += WAIT_MS / 1000;
    pthread_mutex_lock(&fake.lock);
    int error = 0;
    while (fake.report_count <= index && error == 0)
        error = pthread_cond_timedwait(&fake.changed, &fake.lock, &deadline);
    bool right = index < fake.report_count && atoi(fake.reports[index]) == (int)status &&
                 strstr(fake.reports[index], part) != NULL;
    pthread_mutex_unlock(&fake.lock);
    if (!right)
        fail_msg("report %d of %d is: %s", index, fake.report_count, fake.reports[index]);
}

/* A client with these settings, "name=value name=value". */
static logclient_t *new_client(const char *settings)
{
    char text[300], why[300], *save = NULL;
    logclient_options_t *o = logclient_options_new();
    assert_non_null(o);
    snprintf(text, sizeof(text), "ring_dir=off ring_bytes=1m url=http://a:1 exit_timeout_ms=0 %s",
             settings);
    for (char *s = strtok_r(text, " ", &save); s != NULL; s = strtok_r(NULL, " ", &save)) {
        char *value = strchr(s, '=');
        *value++ = '\0';
        if (logclient_options_set(o, s, value, why, sizeof(why)) != LOGCLIENT_OK)
            fail_msg("%s", why);
    }
    logclient_options_set_error_cb(o, on_error, NULL);
    logclient_t *c = logclient_new(o, why, sizeof(why));
    if (c == NULL)
        fail_msg("%s", why);
    logclient_options_free(o);
    return c;
}

static void send_words(logclient_t *c, const char *words)
{
    char text[200], *save = NULL;
    snprintf(text, sizeof(text), "%s", words);
    for (char *s = strtok_r(text, " ", &save); s != NULL; s = strtok_r(NULL, " ", &save))
        assert_int_equal(logclient_send(c, "svc", "info", s), 0);
}

/* Posts "first", and has these words waiting for the next batch when its answer comes. */
static void send_behind_first(logclient_t *c, const char *words)
{
    hold_answers();
    send_words(c, "first");
    check_post(1, 1, 0, "first");
    send_words(c, words);
    release_answers();
}

static void expect_stat(logclient_t *c, logclient_stat_t stat, uint64_t value)
{
    assert_int_equal(logclient_stat(c, stat), value);
}

static int reset(void **state)
{
    (void)state;
    fake.count = fake.report_count = 0;
    fake.held = false;
    for (int i = 0; i < POSTS_MAX; i++)
        fake.script[i] = (struct lc_http_answer){.status = -1};
    return 0;
}

static struct lc_http_answer answer(int status, const char *body)
{
    return (struct lc_http_answer){
        .status = status, .body = body, .error = "no answer", .retry_after_ms = -1};
}

/* ---- Tests ---- */

static void test_a_batch_is_taken_and_counted(void **state)
{
    logclient_t *c = new_client("linger_ms=1");
    (void)state;
    send_behind_first(c, "a b c");
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    check_post(2, 2, 0, "a b c");
    expect_stat(c, LOGCLIENT_STAT_DELIVERED, 4);
    expect_stat(c, LOGCLIENT_STAT_BATCHES, 2);
    expect_stat(c, LOGCLIENT_STAT_QUEUED, 0);
    assert_int_equal(strlen(fake.posts[0].producer), 32);
    assert_string_equal(fake.posts[0].producer, fake.posts[1].producer);
    logclient_free(c);
}

static void test_a_refused_record_is_dropped_behind_those_before_it(void **state)
{
    logclient_t *c = new_client("linger_ms=1");
    (void)state;
    fake.script[1] = answer(400, "{\"error\":\"bad level\",\"index\":2,\"field\":\"level\"}");
    send_behind_first(c, "a b bad d");
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    check_post(2, 2, 0, "a b bad d");
    check_post(3, 2, 0, "a b");
    check_post(4, 5, 1, "d");
    assert_int_equal(fake.count, 4);
    expect_stat(c, LOGCLIENT_STAT_DELIVERED, 4);
    expect_stat(c, LOGCLIENT_STAT_REJECTED, 1);
    expect_stat(c, LOGCLIENT_STAT_RETRIES, 0);
    check_report(0, LOGCLIENT_BAD_RECORD, "http://a:1 refused a record with status 400");
    assert_int_equal(fake.report_count, 1);
    logclient_free(c);
}

static void test_a_refused_first_record_is_dropped_at_once(void **state)
{
    logclient_t *c = new_client("linger_ms=1");
    (void)state;
    fake.script[1] = answer(400, "{\"error\":\"bad level\",\"index\":0,\"field\":\"level\"}");
    send_behind_first(c, "bad b");
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    check_post(3, 3, 1, "b");
    expect_stat(c, LOGCLIENT_STAT_REJECTED, 1);
    logclient_free(c);
}

static void test_a_batch_that_is_too_large_is_halved_and_a_record_refused(void **state)
{
    logclient_t *c = new_client("linger_ms=1");
    (void)state;
    fake.script[1] = answer(413, "{\"error\":\"too large\"}");
    fake.script[2] = answer(413, "{\"error\":\"too large\"}");
    fake.script[3] = answer(413, "{\"error\":\"too large\"}");
    send_behind_first(c, "a b c d");
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    check_post(2, 2, 0, "a b c d");
    check_post(3, 2, 0, "a b");
    check_post(4, 2, 0, "a");
    check_post(5, 3, 1, "b"); /* one at a time still, for a while */
    check_post(6, 4, 0, "c d");
    expect_stat(c, LOGCLIENT_STAT_DELIVERED, 4);
    expect_stat(c, LOGCLIENT_STAT_REJECTED, 1);
    logclient_free(c);
}

static void test_a_late_answer_halves_the_batch_and_success_lets_it_grow(void **state)
{
    logclient_t *c = new_client("linger_ms=1 backoff_min_ms=1");
    (void)state;
    fake.script[1] = answer(0, "");
    fake.script[1].late = true;
    fake.script[2] = answer(408, "{\"error\":\"too slow\"}");
    send_behind_first(c, "a b c d e f g h");
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    check_post(2, 2, 0, "a b c d e f g h");
    check_post(3, 2, 0, "a b c d");
    check_post(4, 2, 0, "a b");
    check_post(5, 4, 0, "c d e");
    check_post(6, 7, 0, "f g h");
    expect_stat(c, LOGCLIENT_STAT_RETRIES, 2);
    expect_stat(c, LOGCLIENT_STAT_DELIVERED, 9);
    logclient_free(c);
}

static void test_a_busy_logd_gets_the_time_that_it_asks_for(void **state)
{
    logclient_t *c = new_client("linger_ms=1 backoff_min_ms=1");
    (void)state;
    fake.script[0] = answer(503, "{\"error\":\"Redis is down\",\"stored\":false}");
    fake.script[0].retry_after_ms = 300;
    send_behind_first(c, "b"); /* does not shorten it, nor does a flush */
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    check_post(2, 1, 0, "first b");
    assert_true(fake.posts[1].at_ms - fake.posts[0].at_ms >= 299); /* the clocks round */
    expect_stat(c, LOGCLIENT_STAT_RETRIES, 1);
    check_report(0, LOGCLIENT_UNREACHABLE, "http://a:1 answered 503: {\"error\":\"Redis is down\"");
    logclient_free(c);
}

static void test_each_url_is_tried_before_the_sender_waits(void **state)
{
    logclient_t *c = new_client("url=http://a:1,http://b:2,http://c:3 linger_ms=1 "
                                "backoff_min_ms=2000 backoff_max_ms=2000");
    (void)state;
    for (int i = 0; i < 4; i++)
        fake.script[i] = answer(0, "");
    /* Counts only when there is no other URL. */
    fake.script[0].retry_after_ms = 60000;
    send_words(c, "a");
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    static const char *const urls[] = {"http://a:1", "http://b:2", "http://c:3", "http://a:1",
                                       "http://b:2"};
    for (int i = 0; i < 5; i++) {
        check_post(i + 1, 1, 0, "a");
        assert_string_equal(fake.posts[i].url, urls[i]);
    }
    assert_true(fake.posts[2].at_ms - fake.posts[0].at_ms < 1000);
    assert_true(fake.posts[3].at_ms - fake.posts[2].at_ms >= 999); /* half of it is chance */
    assert_true(fake.posts[4].at_ms - fake.posts[3].at_ms < 1000);
    expect_stat(c, LOGCLIENT_STAT_RETRIES, 4);
    /* What works is kept. */
    send_words(c, "b");
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    assert_string_equal(fake.posts[5].url, "http://b:2");
    logclient_free(c);
}

static void test_the_same_failure_is_reported_once(void **state)
{
    logclient_t *c = new_client("linger_ms=1 backoff_min_ms=1 backoff_max_ms=1");
    (void)state;
    for (int i = 0; i < 3; i++)
        fake.script[i] = answer(502, "gateway");
    fake.script[3] = answer(0, "");
    fake.script[5] = answer(0, "");
    send_words(c, "a");
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    send_words(c, "b");
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    check_report(0, LOGCLIENT_UNREACHABLE, "answered 502");
    check_report(1, LOGCLIENT_UNREACHABLE, "no answer");
    check_report(2, LOGCLIENT_UNREACHABLE, "no answer"); /* again, after a success */
    assert_int_equal(fake.report_count, 3);
    logclient_free(c);
}

static void test_records_linger_to_share_a_batch(void **state)
{
    logclient_t *c = new_client("linger_ms=200");
    (void)state;
    send_behind_first(c, "a b");
    check_post(2, 2, 0, "a b");
    assert_true(fake.posts[1].at_ms - fake.posts[0].at_ms >= 199);
    logclient_free(c);
}

static void test_a_flush_and_a_full_batch_end_the_linger(void **state)
{
    logclient_t *c = new_client("linger_ms=60000 batch_bytes=1k");
    (void)state;
    send_words(c, "a");
    check_post(1, 1, 0, "a");
    send_words(c, "b");
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    check_post(2, 2, 0, "b");
    send_words(c, "c");
    char large[1100];
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    assert_int_equal(logclient_send(c, "svc", "info", large), 0);
    struct post third = wait_for_post(3);
    assert_int_equal(third.count, 2);
    logclient_free(c);
}

static void test_a_sleeping_sender_is_woken_by_a_record(void **state)
{
    logclient_t *c = new_client("linger_ms=1");
    (void)state;
    int64_t end = monotonic_now_ms() + WAIT_MS;
    while (atomic_load(&c->signal) != LC_SIGNAL_ASLEEP) {
        assert_true(monotonic_now_ms() < end);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    send_words(c, "a");
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    check_post(1, 1, 0, "a");
    logclient_free(c);
}

static void test_what_is_not_delivered_times_out(void **state)
{
    logclient_t *c = new_client("linger_ms=1");
    (void)state;
    hold_answers();
    send_words(c, "a");
    wait_for_post(1);
    assert_int_equal(logclient_flush(c, 20), LOGCLIENT_TIMED_OUT);
    expect_stat(c, LOGCLIENT_STAT_QUEUED, 1);
    release_answers();
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    logclient_free(c);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup(f, reset)
    const struct CMUnitTest tests[] = {
        CASE(test_a_batch_is_taken_and_counted),
        CASE(test_a_refused_record_is_dropped_behind_those_before_it),
        CASE(test_a_refused_first_record_is_dropped_at_once),
        CASE(test_a_batch_that_is_too_large_is_halved_and_a_record_refused),
        CASE(test_a_late_answer_halves_the_batch_and_success_lets_it_grow),
        CASE(test_a_busy_logd_gets_the_time_that_it_asks_for),
        CASE(test_each_url_is_tried_before_the_sender_waits),
        CASE(test_the_same_failure_is_reported_once),
        CASE(test_records_linger_to_share_a_batch),
        CASE(test_a_flush_and_a_full_batch_end_the_linger),
        CASE(test_a_sleeping_sender_is_woken_by_a_record),
        CASE(test_what_is_not_delivered_times_out),
    };
    return cmocka_run_group_tests_name("sender", tests, NULL, NULL);
}
