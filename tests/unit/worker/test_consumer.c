/* test_consumer.c: what the consumer reads from a private Redis, and in which order it hands it on.
 * Committer and sink are made here; nothing is acknowledged. */
#include "tests/unit/worker/run-until.h"

#include "worker/consumer.h"
#include "worker/state.h"

#define FIELDS  "service s level warn message m timestamp 2026-11-24T02:35:02.123Z"
#define LINEAGE "00112233445566778899aabbccddeeff"
#define OTHER   "ffffffffffffffffffffffffffffffff"

static struct {
    struct world *world; /* its own link looks at Redis from beside the consumer */
    struct config config;
    struct worker_stats stats;
    struct consumer *consumer;
    unsigned finished;

    struct commit_events events;
    void *arg;                  /* of them */
    struct stream_batch *batch; /* in hand */
    unsigned begun, stale, stopped;
    bool ready, unanswered;
    const char *stuck;

    struct stream_id id;
    char lineage[STATE_TOKEN_LEN + 1];
} lab;

/* ---- The committer ---- */

struct committer *commit_new(struct event_base *base, const struct config *config,
                             struct sink *sink, struct worker_stats *stats,
                             const struct commit_events *events, void *arg)
{
    (void)base, (void)config, (void)sink, (void)stats;
    lab.events = *events;
    lab.arg = arg;
    return (struct committer *)&lab;
}

bool commit_ready(const struct committer *c)
{
    (void)c;
    return lab.ready;
}

bool commit_unanswered(const struct committer *c)
{
    (void)c;
    return lab.unanswered;
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

void commit_stale(struct committer *c)
{
    (void)c;
    lab.stale++;
}

void commit_stop(struct committer *c)
{
    (void)c;
    lab.stopped++;
}

struct redis_link *commit_link(struct committer *c)
{
    (void)c;
    return lab.world->link;
}

void commit_free(struct committer *c)
{
    (void)c;
}

/* ---- The sink ---- */

struct stream_id sink_id(const struct sink *s)
{
    (void)s;
    return lab.id;
}

const char *sink_lineage(const struct sink *s)
{
    (void)s;
    return lab.lineage;
}

bool sink_adopt(struct sink *s, const char *lineage)
{
    bool same = strcmp(lab.lineage, lineage) == 0;
    (void)s;
    if (!same)
        lab.id = (struct stream_id){0, 0};
    strcpy(lab.lineage, lineage);
    return same;
}

/* ---- The lab ---- */

static int set_up(void **state)
{
    static char dead_key[] = "s:dead", lineage_key[] = "s:lineage";
    char err[256];
    setup_server(state);
    memset(&lab, 0, sizeof(lab));
    lab.world = *state;
    lab.ready = true;
    lab.config = (struct config){.stream = "s",
                                 .group = "g",
                                 .consumer = "c",
                                 .output = "app.log",
                                 .dead_key = dead_key,
                                 .lineage_key = lineage_key,
                                 .level = LEVEL_WARN,
                                 .batch = 2,
                                 .redis_timeout_ms = 5000};
    open_ready(lab.world);
    assert_true(redis_url_parse(&lab.config.redis, lab.world->server.url, err, sizeof(err)));
    return 0;
}

static int tear_down(void **state)
{
    consumer_free(lab.consumer);
    redis_url_free(&lab.config.redis);
    return teardown(state);
}

static void on_finished(void *arg)
{
    (void)arg;
    lab.finished++;
}

static void start(void)
{
    lab.consumer = consumer_new(lab.world->base, &lab.config, NULL, &lab.stats, on_finished, NULL);
    assert_non_null(lab.consumer);
}

/* Entries first-0 to last-0. Several at a time only before the start: a read that waits returns
 * with the first one. */
static void add(unsigned first, unsigned last)
{
    for (unsigned i = first; i <= last; i++) {
        char command[256], expected[32];
        snprintf(command, sizeof(command), "XADD s %u-0 %s", i, FIELDS);
        snprintf(expected, sizeof(expected), "string %u-0", i);
        expect_reply(lab.world, command, expected);
    }
}

/* The committer's answer, which comes from the loop. */
static void complete(bool written)
{
    assert_non_null(lab.batch);
    lab.batch = NULL;
    lab.events.done(written, lab.arg);
}

/* Waits for the next batch, which holds just the entries first-0 to last-0. */
static void expect_batch(unsigned first, unsigned last, bool replayed)
{
    struct buf expected = {0};
    RUN_UNTIL(lab.world->base, lab.batch != NULL);
    for (unsigned i = first; i <= last; i++) {
        char id[16];
        resp_arg(&expected, id, (size_t)snprintf(id, sizeof(id), "%u-0", i));
    }
    if (lab.batch->ids.len != expected.len ||
        memcmp(lab.batch->ids.data, expected.data, expected.len) != 0)
        fail_msg("the batch holds %.*s, not %u to %u", (int)lab.batch->ids.len, lab.batch->ids.data,
                 first, last);
    assert_int_equal(lab.batch->replayed, replayed);
    buf_free(&expected);
}

static void kill_reader(void)
{
    RUN_UNTIL(lab.world->base, consumer_problem(lab.consumer) == NULL);
    expect_reply(lab.world, "CLIENT KILL TYPE normal SKIPME yes", "integer 1");
    RUN_UNTIL(lab.world->base, lab.stale == 1);
}

/* Redis has set the new connection up; the consumer waits for the batch in hand. The round trips
 * are more than the set-up takes. */
static void run_until_set_up(void)
{
    RUN_UNTIL(lab.world->base, consumer_problem(lab.consumer) != NULL &&
                                   strstr(consumer_problem(lab.consumer), "set up") != NULL);
    for (int i = 0; i < 50; i++)
        expect_reply(lab.world, "PING", "status PONG");
    assert_non_null(strstr(consumer_problem(lab.consumer), "set up"));
}

/* ---- Order ---- */

static void test_one_batch_at_a_time_and_one_ahead(void **state)
{
    (void)state;
    add(1, 7);
    start();
    expect_batch(1, 2, false);
    RUN_UNTIL(lab.world->base, lab.stats.read == 4);
    expect_reply(lab.world, "XLEN s", "integer 7"); /* a round trip for a read too many */
    run_briefly(lab.world);
    assert_int_equal(lab.stats.read, 4);
    assert_int_equal(lab.begun, 1);
    complete(true);
    expect_batch(3, 4, false);
    complete(true);
    expect_batch(5, 6, false);
    complete(true);
    expect_batch(7, 7, false);
}

static void test_pending_entries_come_before_new_ones(void **state)
{
    (void)state;
    add(1, 5);
    expect_reply(lab.world, "XGROUP CREATE s g 0", "status OK");
    must_send(lab.world, "XREADGROUP GROUP g c COUNT 3 STREAMS s >");
    run_until(lab.world, &lab.world->replies, 1);
    start();
    expect_batch(1, 2, true);
    complete(true);
    expect_batch(3, 3, true);
    complete(true);
    expect_batch(4, 5, false);
}

static void test_nothing_is_read_while_the_committer_is_not_ready(void **state)
{
    (void)state;
    lab.ready = false;
    add(1, 1);
    start();
    RUN_UNTIL(lab.world->base, consumer_problem(lab.consumer) == NULL);
    run_briefly(lab.world);
    assert_int_equal(lab.stats.read, 0);
    lab.ready = true;
    lab.events.changed(lab.arg);
    expect_batch(1, 1, false);
}

/* ---- What was committed before ---- */

static void test_what_the_sink_has_is_skipped(void **state)
{
    (void)state;
    expect_reply(lab.world, "SET s:lineage " LINEAGE, "status OK");
    strcpy(lab.lineage, LINEAGE);
    lab.id = (struct stream_id){2, 0};
    add(1, 3);
    start();
    expect_batch(1, 2, false);
    assert_false(lab.batch->fresh);
    assert_int_equal(lab.batch->skipped, 2);
    complete(true);
    expect_batch(3, 3, false);
    assert_true(lab.batch->fresh);
}

static void test_of_another_lineage_nothing_is_skipped(void **state)
{
    (void)state;
    expect_reply(lab.world, "SET s:lineage " LINEAGE, "status OK");
    strcpy(lab.lineage, OTHER);
    lab.id = (struct stream_id){2, 0};
    add(1, 2);
    start();
    expect_batch(1, 2, false);
    assert_string_equal(lab.lineage, LINEAGE);
    assert_int_equal(lab.batch->skipped, 0);
}

/* ---- Again ---- */

/* What was read ahead must not overtake a batch that was dropped: both are read again. */
static void test_a_dropped_batch_is_read_again(void **state)
{
    (void)state;
    add(1, 3);
    start();
    expect_batch(1, 2, false);
    RUN_UNTIL(lab.world->base, lab.stats.read == 3);
    complete(false);
    assert_null(lab.batch);
    assert_int_equal(lab.stats.dropped, 1);
    expect_batch(1, 2, true);
    complete(true);
    expect_batch(3, 3, true);
}

static void test_a_new_connection_waits_for_the_batch_in_hand(void **state)
{
    (void)state;
    add(1, 3);
    start();
    expect_batch(1, 2, false);
    RUN_UNTIL(lab.world->base, lab.stats.read == 3);
    kill_reader();
    assert_int_equal(lab.stats.dropped, 1);
    run_until_set_up();
    assert_int_equal(lab.begun, 1);
    lab.id = (struct stream_id){2, 0};
    complete(true);
    expect_batch(1, 2, true);
    assert_false(lab.batch->fresh);
    complete(true);
    expect_batch(3, 3, true);
    assert_true(lab.batch->fresh);
}

/* The reading has begun anew, so that nothing of the old connection can overtake the batch. */
static void test_a_batch_that_is_dropped_late_spares_the_new_connection(void **state)
{
    (void)state;
    add(1, 2);
    start();
    expect_batch(1, 2, false);
    kill_reader();
    run_until_set_up();
    complete(false);
    expect_batch(1, 2, true);
    assert_int_equal(lab.stale, 1);
}

static void test_a_replay_reads_pending_entries_again(void **state)
{
    (void)state;
    start();
    add(1, 1);
    expect_batch(1, 1, false);
    complete(true);
    lab.events.replay(lab.arg);
    add(2, 2);
    expect_batch(2, 2, false); /* by the read that was on its way */
    complete(true);
    expect_batch(1, 2, true);
    assert_int_equal(lab.batch->skipped, 2);
}

static void test_a_group_that_is_gone_is_made_again(void **state)
{
    (void)state;
    start();
    add(1, 1);
    expect_batch(1, 1, false);
    complete(true);
    expect_reply(lab.world, "XGROUP DESTROY s g", "integer 1");
    add(2, 2);
    lab.id = (struct stream_id){1, 0};
    expect_batch(1, 2, false); /* a new group begins at 0 */
    assert_int_equal(lab.batch->skipped, 1);
}

/* ---- The end ---- */

static void test_a_stop_waits_for_the_batch_and_its_acknowledgement(void **state)
{
    (void)state;
    add(1, 3);
    start();
    expect_batch(1, 2, false);
    RUN_UNTIL(lab.world->base, lab.stats.read == 3);
    consumer_stop(lab.consumer);
    assert_int_equal(lab.stopped, 1);
    assert_int_equal(lab.stats.dropped, 1);
    lab.unanswered = true;
    complete(true);
    assert_int_equal(lab.finished, 0);
    lab.unanswered = false;
    lab.events.changed(lab.arg);
    assert_int_equal(lab.finished, 1);
    assert_int_equal(lab.begun, 1);
}

static void test_a_stop_without_work_finishes_at_once(void **state)
{
    (void)state;
    start();
    assert_string_equal(consumer_problem(lab.consumer), "Redis does not answer");
    consumer_stop(lab.consumer);
    assert_int_equal(lab.finished, 1);
    assert_string_equal(consumer_problem(lab.consumer), "stopping");
}

static void test_problems_are_told(void **state)
{
    (void)state;
    start();
    RUN_UNTIL(lab.world->base, consumer_problem(lab.consumer) == NULL);
    lab.stuck = "No space left on device";
    assert_string_equal(consumer_problem(lab.consumer), lab.stuck);
    lab.stuck = NULL;
    redis_link_reset(lab.world->link, "the test wants it");
    assert_non_null(strstr(consumer_problem(lab.consumer), "second connection"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_batch_at_a_time_and_one_ahead),
        TEST(test_pending_entries_come_before_new_ones),
        TEST(test_nothing_is_read_while_the_committer_is_not_ready),
        TEST(test_what_the_sink_has_is_skipped),
        TEST(test_of_another_lineage_nothing_is_skipped),
        TEST(test_a_dropped_batch_is_read_again),
        TEST(test_a_new_connection_waits_for_the_batch_in_hand),
        TEST(test_a_batch_that_is_dropped_late_spares_the_new_connection),
        TEST(test_a_replay_reads_pending_entries_again),
        TEST(test_a_group_that_is_gone_is_made_again),
        TEST(test_a_stop_waits_for_the_batch_and_its_acknowledgement),
        TEST(test_a_stop_without_work_finishes_at_once),
        TEST(test_problems_are_told),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("worker/consumer", tests, NULL, NULL);
}
