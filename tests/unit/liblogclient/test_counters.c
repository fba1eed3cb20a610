/* test_counters.c: each counter against what is seen outside of the library, and the law that joins
 * them. A fake stands in the place of the HTTP client: it refuses each record that says "bad". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "common/timer.h"
#include "common/timestamp.h"
#include "liblogclient/client-internal.h"
#include "liblogclient/http-internal.h"
#include "liblogclient/ring-write-internal.h"

#define WAIT_MS 60000
#define THREADS 3

static char dir[] = "/tmp/test-counters-XXXXXX";

/* ---- The outside ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool held;                       /* answers wait */
    _Atomic uint64_t taken, refused; /* records */
    _Atomic uint64_t calls, failed;
} outside = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

struct lc_http {
    struct event *answer;
    lc_http_done *done;
    void *arg;
    size_t count; /* records of the post */
    size_t bad;   /* the first bad one; `count` when there is none */
};

static void hold(bool held)
{
    pthread_mutex_lock(&outside.lock);
    outside.held = held;
    pthread_cond_broadcast(&outside.changed);
    pthread_mutex_unlock(&outside.lock);
}

static void on_answer(evutil_socket_t fd, short what, void *arg)
{
    struct lc_http *http = arg;
    struct lc_http_answer answer = {.status = 200, .retry_after_ms = -1};
    char body[64];
    (void)fd, (void)what;
    pthread_mutex_lock(&outside.lock);
    while (outside.held)
        pthread_cond_wait(&outside.changed, &outside.lock);
    pthread_mutex_unlock(&outside.lock);
    if (http->bad < http->count) {
        answer.status = 400;
        snprintf(body, sizeof(body), "{\"error\":\"bad\",\"index\":%zu}", http->bad);
        outside.refused++;
    } else {
        snprintf(body, sizeof(body), "{\"accepted\":%zu}", http->count);
        outside.taken += http->count;
    }
    answer.body = body;
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

void lc_http_post(struct lc_http *http, const struct lc_http_request *r)
{
    struct timeval now = timer_timeval(0);
    const char *at = r->body->data, *end = at + r->body->len;
    http->count = 0;
    http->bad = SIZE_MAX;
    for (const char *newline; at < end; at = newline + 1, http->count++) {
        newline = memchr(at, '\n', (size_t)(end - at));
        if (http->bad == SIZE_MAX && memmem(at, (size_t)(newline - at), "bad", 3) != NULL)
            http->bad = http->count;
    }
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

static logclient_t *new_client(const char *ring_dir, const char *on_full)
{
    const char *const settings[][2] = {
        {"ring_dir", ring_dir}, {"ring_bytes", "1m"},     {"on_full", on_full},
        {"linger_ms", "1"},     {"exit_timeout_ms", "0"}, {"block_ms", "50"},
    };
    char why[300];
    logclient_options_t *o = logclient_options_new();
    assert_non_null(o);
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        if (logclient_options_set(o, settings[i][0], settings[i][1], why, sizeof(why)) !=
            LOGCLIENT_OK)
            fail_msg("%s", why);
    logclient_t *c = logclient_new(o, why, sizeof(why));
    if (c == NULL)
        fail_msg("%s", why);
    logclient_options_free(o);
    return c;
}

static int send_one(logclient_t *c, const char *message)
{
    int result = logclient_send(c, "svc", "info", message);
    outside.calls++;
    if (result != 0)
        outside.failed++;
    return result;
}

/* Each counter, when nothing moves. */
static void check_all(logclient_t *c, uint64_t queued)
{
    uint64_t delivered = logclient_stat(c, LOGCLIENT_STAT_DELIVERED);
    uint64_t rejected = logclient_stat(c, LOGCLIENT_STAT_REJECTED);
    uint64_t dropped = logclient_stat(c, LOGCLIENT_STAT_DROPPED);
    uint64_t logged = logclient_stat(c, LOGCLIENT_STAT_LOGGED);
    assert_int_equal(logged, outside.calls);
    assert_int_equal(delivered, outside.taken);
    assert_int_equal(rejected, outside.refused);
    assert_int_equal(dropped, outside.failed);
    assert_int_equal(logclient_stat(c, LOGCLIENT_STAT_QUEUED), queued);
    assert_int_equal(logged, delivered + rejected + dropped + queued);
}

static void wait_for(logclient_t *c, logclient_stat_t stat, uint64_t value)
{
    int64_t end = monotonic_now_ms() + WAIT_MS;
    while (logclient_stat(c, stat) != value) {
        if (monotonic_now_ms() > end)
            fail_msg("counter %d is %llu instead of %llu", (int)stat,
                     (unsigned long long)logclient_stat(c, stat), (unsigned long long)value);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
}

static int reset(void **state)
{
    (void)state;
    outside.held = false;
    outside.taken = outside.refused = outside.calls = outside.failed = 0;
    return 0;
}

/* ---- Tests ---- */

static void queue_deliver_and_overflow(const char *ring_dir, const char *on_full)
{
    static char large[30001];
    logclient_t *c = new_client(ring_dir, on_full);
    memset(large, 'x', sizeof(large) - 1);
    check_all(c, 0);
    hold(true);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(send_one(c, i % 100 == 7 ? "bad" : "good"), 0);
    check_all(c, 1000);
    hold(false);
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    check_all(c, 0);
    assert_int_equal(outside.refused, 10);
    hold(true);
    while (outside.failed < 5)
        send_one(c, large);
    assert_int_equal(errno, EAGAIN);
    check_all(c, outside.calls - outside.failed - outside.taken - outside.refused);
    hold(false);
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    check_all(c, 0);
    logclient_free(c);
}

static void test_each_counter_is_right_with_a_ring_file(void **state)
{
    (void)state;
    queue_deliver_and_overflow(dir, "drop");
}

static void test_each_counter_is_right_in_memory(void **state)
{
    (void)state;
    queue_deliver_and_overflow("off", "drop");
}

static void test_each_counter_is_right_when_calls_block(void **state)
{
    (void)state;
    queue_deliver_and_overflow("off", "block");
}

static void test_adopted_records_are_counted_apart(void **state)
{
    struct lc_ring ring;
    char name[LC_RING_NAME_MAX], why[200];
    (void)state;
    int fd = lc_ringdir_open(dir, why, sizeof(why));
    assert_true(fd >= 0);
    assert_int_equal(lc_ringdir_create(fd, &ring, LC_RING_MIN_BYTES, name), 0);
    for (int i = 0; i < 50; i++) {
        struct lc_record r = {.service = SPAN_LIT("svc"),
                              .message = {i % 10 == 3 ? "bad" : "old", 3},
                              .level = LEVEL_INFO};
        assert_int_equal(lc_ring_write(&ring, &r), 0);
    }
    lc_ring_close(&ring);
    close(fd);
    logclient_t *c = new_client(dir, "drop");
    wait_for(c, LOGCLIENT_STAT_ADOPTED, 45);
    wait_for(c, LOGCLIENT_STAT_ADOPTED_REJECTED, 5);
    assert_int_equal(outside.taken, 45);
    assert_int_equal(outside.refused, 5);
    outside.taken = outside.refused = 0;
    check_all(c, 0);
    assert_int_equal(send_one(c, "bad"), 0);
    assert_int_equal(send_one(c, "own"), 0);
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    check_all(c, 0);
    assert_int_equal(logclient_stat(c, LOGCLIENT_STAT_ADOPTED), 45);
    assert_int_equal(logclient_stat(c, LOGCLIENT_STAT_ADOPTED_REJECTED), 5);
    logclient_free(c);
}

/* ---- At any moment ---- */

static _Atomic bool over;

static void *send_many(void *arg)
{
    for (int i = 0; i < 20000; i++)
        send_one(arg, i % 1000 == 7 ? "bad" : "a record of some length, so that the ring is full");
    return NULL;
}

/* Returns NULL when what is counted was once more than what was logged. */
static void *watch(void *arg)
{
    logclient_t *c = arg;
    bool right = true;
    while (!over) {
        uint64_t sum = logclient_stat(c, LOGCLIENT_STAT_DELIVERED);
        sum += logclient_stat(c, LOGCLIENT_STAT_REJECTED);
        sum += logclient_stat(c, LOGCLIENT_STAT_DROPPED);
        sum += logclient_stat(c, LOGCLIENT_STAT_QUEUED);
        right = right && sum <= logclient_stat(c, LOGCLIENT_STAT_LOGGED);
    }
    return right ? arg : NULL;
}

static void test_nothing_is_counted_twice_while_all_is_moving(void **state)
{
    pthread_t threads[THREADS], watcher;
    void *result;
    (void)state;
    logclient_t *c = new_client("off", "drop");
    over = false;
    assert_int_equal(pthread_create(&watcher, NULL, watch, c), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_many, c), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(logclient_flush(c, WAIT_MS), LOGCLIENT_OK);
    over = true;
    pthread_join(watcher, &result);
    assert_non_null(result);
    check_all(c, 0);
    logclient_free(c);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    char command[64] = "rm -rf ";
    (void)state;
    return system(strcat(command, dir));
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup(f, reset)
    const struct CMUnitTest tests[] = {
        CASE(test_each_counter_is_right_with_a_ring_file),
        CASE(test_each_counter_is_right_in_memory),
        CASE(test_each_counter_is_right_when_calls_block),
        CASE(test_adopted_records_are_counted_apart),
        CASE(test_nothing_is_counted_twice_while_all_is_moving),
    };
    return cmocka_run_group_tests_name("counters", tests, set_up, tear_down);
}
