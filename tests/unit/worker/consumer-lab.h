/* consumer-lab.h: a consumer that reads from a private Redis, for its tests. Committer and sink are
 * made here; lease and reader are the real ones. */
#ifndef TESTS_UNIT_WORKER_CONSUMER_LAB_H
#define TESTS_UNIT_WORKER_CONSUMER_LAB_H

#include "tests/unit/worker/run-until.h"

#include "worker/consumer.h"

#define FIELDS "service s level warn message m timestamp 2026-11-24T02:35:02.123Z"
#define TOKEN  "00112233445566778899aabbccddeeff"
#define OTHER  "ffffffffffffffffffffffffffffffff 0011223344556677 host=there pid=7 log=/app.log"

static struct {
    struct world *world; /* its own link looks at Redis from beside the consumer */
    struct config config;
    struct worker_stats stats;
    struct consumer *consumer;
    unsigned finished;

    commit_done_cb *done;
    void *arg;                  /* of done */
    struct stream_batch *batch; /* in hand */
    unsigned begun, left;
    const char *stuck;

    struct stream_id first; /* of the batch in hand, which ends with `last`; 0-0: none is */
    struct stream_id last;  /* that the state knows */
    unsigned openings;
    int find_error;
    const char *at_begin; /* sent to Redis by sink_begin() */
} lab;

/* ---- The committer ---- */

struct committer *commit_new(struct event_base *base, const struct config *config,
                             struct sink *sink, struct redis_link *link, struct lease *lease,
                             struct worker_stats *stats, commit_done_cb *done, void *arg)
{
    (void)base, (void)config, (void)sink, (void)link, (void)lease, (void)stats;
    lab.done = done;
    lab.arg = arg;
    return (struct committer *)&lab;
}

bool commit_idle(const struct committer *c)
{
    (void)c;
    return lab.batch == NULL;
}

const char *commit_stuck(const struct committer *c)
{
    (void)c;
    return lab.stuck;
}

void commit_begin(struct committer *c, struct stream_batch *batch)
{
    (void)c;
    assert_null(lab.batch);
    lab.batch = batch;
    lab.begun++;
}

void commit_leave(struct committer *c)
{
    (void)c;
    lab.left++;
}

void commit_free(struct committer *c)
{
    (void)c;
}

/* ---- The sink ---- */

const char *sink_token(const struct sink *s)
{
    (void)s;
    return TOKEN;
}

bool sink_new_token(struct sink *s)
{
    (void)s;
    return true;
}

struct stream_id sink_last(const struct sink *s)
{
    (void)s;
    return lab.last;
}

bool sink_in_hand(const struct sink *s, struct stream_id *first, struct stream_id *last)
{
    (void)s;
    *first = lab.first;
    *last = lab.last;
    return lab.first.ms > 0;
}

/* A command that Redis carries out before the opening goes on. */
static inline void send_inline(const char *command)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    char answer[64];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    strcpy(sa.sun_path, lab.world->server.socket);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(write(fd, command, strlen(command)), strlen(command));
    assert_true(read(fd, answer, sizeof(answer)) > 0);
    close(fd);
}

bool sink_begin(struct sink *s, const struct stream_id *first, struct stream_id last)
{
    (void)s, (void)first, (void)last;
    lab.openings++;
    if (lab.at_begin != NULL)
        send_inline(lab.at_begin);
    lab.at_begin = NULL;
    return true;
}

bool sink_surrender(struct sink *s, struct span notes)
{
    (void)s, (void)notes;
    return true;
}

enum entry_class sink_class(const struct sink *s, struct stream_id id)
{
    (void)s;
    return stream_id_after(id, lab.last) ? ENTRY_NEW : ENTRY_IN_HAND;
}

enum line_found sink_find(struct sink *s, enum entry_class class, const char *line, size_t n)
{
    (void)s, (void)class, (void)line, (void)n;
    errno = lab.find_error;
    return lab.find_error != 0 ? LINE_ERROR : LINE_MISSING;
}

/* ---- The lab ---- */

static inline int set_up(void **state)
{
    static char dead_key[] = "s:dead", owner_key[] = "s:owner", account_key[] = "s:account";
    char err[256];
    setup_server(state);
    memset(&lab, 0, sizeof(lab));
    lab.world = *state;
    lab.config = (struct config){.stream = "s",
                                 .output = "app.log",
                                 .dead_key = dead_key,
                                 .owner_key = owner_key,
                                 .account_key = account_key,
                                 .level = LEVEL_WARN,
                                 .batch = 2,
                                 .batch_bytes = 4096,
                                 .lease_ms = 30000,
                                 .redis_timeout_ms = 5000};
    open_ready(lab.world);
    assert_true(redis_url_parse(&lab.config.redis, lab.world->server.url, err, sizeof(err)));
    return 0;
}

static inline int tear_down(void **state)
{
    consumer_free(lab.consumer);
    redis_url_free(&lab.config.redis);
    return teardown(state);
}

static inline void on_finished(void *arg)
{
    (void)arg;
    lab.finished++;
}

static inline void start(void)
{
    lab.consumer = consumer_new(lab.world->base, &lab.config, NULL, &lab.stats, on_finished, NULL);
    assert_non_null(lab.consumer);
}

static inline void expect(const char *command, const char *expected)
{
    expect_reply(lab.world, command, expected);
}

/* Entries first-0 to last-0. Several at a time only before the start: a read that waits returns
 * with the first one. */
static inline void add(unsigned first, unsigned last)
{
    for (unsigned i = first; i <= last; i++) {
        char command[256], expected[32];
        snprintf(command, sizeof(command), "XADD s %u-0 %s", i, FIELDS);
        snprintf(expected, sizeof(expected), "string %u-0", i);
        expect(command, expected);
    }
}

/* Waits for the next batch, which holds just the entries first-0 to last-0. */
static inline void expect_batch(unsigned first, unsigned last)
{
    RUN_UNTIL(lab.world->base, lab.batch != NULL);
    if (lab.batch->first.ms != first || lab.batch->last.ms != last)
        fail_msg("the batch holds %llu to %llu, not %u to %u",
                 (unsigned long long)lab.batch->first.ms, (unsigned long long)lab.batch->last.ms,
                 first, last);
    assert_int_equal(lab.batch->read, last - first + 1);
}

/* The committer's answer, which comes from the loop. */
static inline void complete(enum commit_result result)
{
    assert_non_null(lab.batch);
    lab.batch = NULL;
    lab.done(result, lab.arg);
}

/* What the commit script does, and its answer. */
static inline void commit(void)
{
    char command[256];
    snprintf(command, sizeof(command),
             "EVAL redis.call('XTRIM','s','MINID','%llu-1');"
             "return(redis.call('HINCRBY','s:account','written',%llu)) 0",
             (unsigned long long)lab.batch->last.ms, (unsigned long long)lab.batch->read);
    struct seen seen = {0};
    assert_true(send_words(lab.world, command, on_seen, &seen));
    run_until(lab.world, &seen.count, 1);
    assert_int_equal(strncmp(seen.text, "integer", 7), 0);
    complete(COMMIT_DONE);
}

static inline bool has_problem(const char *part)
{
    const char *problem = consumer_problem(lab.consumer);
    return problem != NULL && strstr(problem, part) != NULL;
}

static inline void run_until_reading(void)
{
    RUN_UNTIL(lab.world->base, consumer_problem(lab.consumer) == NULL);
}

/* Round trips for something that must not happen. */
static inline void run_for_nothing(void)
{
    for (int i = 0; i < 50; i++)
        expect("PING", "status PONG");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

#endif
