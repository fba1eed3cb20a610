/* test_commit.c: the committer, with a private Redis and a sink that fails when it is told to. */
#include "tests/unit/worker/run-until.h"

#include "worker/commit.h"

#define ENTRY "service s level warn timestamp 2026-11-24T02:35:02.123Z message"

/* ---- The sink ---- */

struct sink {
    int error;        /* sink_commit() fails with it; 0: works */
    int reopen_error; /* so does sink_reopen() */
    bool reopen_heals;
    unsigned commits, reopens; /* calls */
    struct buf log;
    struct stream_id id;
    uint64_t dead; /* dead letters that had been moved at the last commit */
    bool again;    /* what sink_settle() was told */
};

static struct {
    struct world *world; /* its own link looks at Redis from beside the committer */
    struct config config;
    struct sink sink;
    struct worker_stats stats;
    struct committer *committer;
    struct stream_batch batch, next;
    bool inside;    /* a call into the committer is on the stack */
    bool chain;     /* `done` begins with the next batch */
    bool written;   /* what `done` said last */
    unsigned done;  /* completions */
    unsigned reads; /* batches filled */
    unsigned replays;
} lab;

bool sink_settle(struct sink *s, bool again)
{
    s->again = again;
    return true;
}

bool sink_commit(struct sink *s, const struct buf *lines, struct stream_id id)
{
    s->commits++;
    s->dead = lab.stats.dead;
    errno = s->error;
    if (s->error != 0)
        return false;
    buf_add(&s->log, lines->data, lines->len);
    s->id = id;
    return true;
}

bool sink_reopen(struct sink *s)
{
    s->reopens++;
    errno = s->reopen_error;
    if (s->reopen_error == 0 && s->reopen_heals)
        s->error = 0;
    return s->reopen_error == 0;
}

/* ---- The lab ---- */

#define CALL(call)                                                                                 \
    do {                                                                                           \
        lab.inside = true;                                                                         \
        call;                                                                                      \
        lab.inside = false;                                                                        \
    } while (0)

static void on_done(bool written, void *arg)
{
    (void)arg;
    assert_false(lab.inside);
    lab.done++;
    lab.written = written;
    if (lab.chain) {
        lab.chain = false;
        CALL(commit_begin(lab.committer, &lab.next));
        assert_int_equal(lab.done, 1);
    }
}

static void on_changed(void *arg)
{
    (void)arg;
    assert_false(lab.inside);
}

static void on_replay(void *arg)
{
    (void)arg;
    assert_false(lab.inside);
    lab.replays++;
}

static int set_up(void **state)
{
    static char dead_key[] = "s:dead";
    static const struct commit_events events = {
        .done = on_done, .changed = on_changed, .replay = on_replay};
    char err[256];
    setup_server(state);
    memset(&lab, 0, sizeof(lab));
    lab.world = *state;
    lab.config = (struct config){.stream = "s",
                                 .group = "g",
                                 .consumer = "c",
                                 .output = "app.log",
                                 .dead_key = dead_key,
                                 .level = LEVEL_WARN,
                                 .redis_timeout_ms = 5000};
    open_ready(lab.world);
    expect_reply(lab.world, "XGROUP CREATE s g 0 MKSTREAM", "status OK");
    assert_true(redis_url_parse(&lab.config.redis, lab.world->server.url, err, sizeof(err)));
    lab.committer = commit_new(lab.world->base, &lab.config, &lab.sink, &lab.stats, &events, NULL);
    assert_non_null(lab.committer);
    RUN_UNTIL(lab.world->base, commit_ready(lab.committer));
    return 0;
}

static int tear_down(void **state)
{
    CALL(commit_free(lab.committer));
    batch_free(&lab.batch);
    batch_free(&lab.next);
    buf_free(&lab.sink.log);
    redis_url_free(&lab.config.redis);
    return teardown(state);
}

static void add(const char *entry)
{
    char command[256];
    unsigned replies = lab.world->replies + 1;
    snprintf(command, sizeof(command), "XADD s * %s", entry);
    must_send(lab.world, command);
    run_until(lab.world, &lab.world->replies, replies);
}

static void on_read(const struct redis_reply *reply, void *arg)
{
    const char *why;
    assert_int_equal(reply_type(reply), REPLY_ARRAY);
    assert_true(batch_read(arg, &lab.config, reply_at(reply_at(reply, 0), 1),
                           (struct stream_id){0, 0}, &why));
    lab.reads++;
}

/* Fills the batch with up to two entries that were not delivered before. */
static void read_batch(struct stream_batch *b)
{
    unsigned reads = lab.reads + 1;
    assert_true(send_words(lab.world, "XREADGROUP GROUP g c COUNT 2 STREAMS s >", on_read, b));
    run_until(lab.world, &lab.reads, reads);
}

static void begin(void)
{
    CALL(commit_begin(lab.committer, &lab.batch));
    assert_int_equal(lab.done, 0);
}

/* A batch of two good entries, or of a malformed and a good one. */
static void begin_good(void)
{
    add(ENTRY " one");
    add(ENTRY " two");
    read_batch(&lab.batch);
    begin();
}

static void begin_malformed(void)
{
    add("x y");
    add(ENTRY " one");
    read_batch(&lab.batch);
    begin();
}

static void run_until_done(bool written)
{
    run_until(lab.world, &lab.done, 1);
    assert_int_equal(lab.written, written);
    RUN_UNTIL(lab.world->base, !commit_unanswered(lab.committer));
    run_briefly(lab.world);
    assert_int_equal(lab.done, 1);
}

static bool is_moving(void)
{
    return redis_link_pending(commit_link(lab.committer)) > 0;
}

static void assert_stream(const char *length, const char *pending)
{
    char expected[64];
    expect_reply(lab.world, "XLEN s", length);
    snprintf(expected, sizeof(expected), "array [%s, ", pending);
    struct seen seen = {0};
    assert_true(send_words(lab.world, "XPENDING s g", on_seen, &seen));
    run_until(lab.world, &seen.count, 1);
    assert_int_equal(strncmp(seen.text, expected, strlen(expected)), 0);
}

static size_t log_lines(void)
{
    size_t n = 0;
    for (size_t i = 0; i < lab.sink.log.len; i++)
        n += lab.sink.log.data[i] == '\n';
    return n;
}

static void get_stuck(void)
{
    lab.sink.error = ENOSPC;
    begin_good();
    RUN_UNTIL(lab.world->base, commit_stuck(lab.committer) != NULL);
    assert_string_equal(commit_stuck(lab.committer), strerror(ENOSPC));
    assert_int_equal(lab.stats.write_errors, 1);
}

/* ---- Batches that are written ---- */

static void test_a_batch_is_written_and_acknowledged(void **state)
{
    (void)state;
    begin_good();
    assert_int_equal(lab.sink.commits, 0); /* nothing but the loop goes on with it */
    run_until_done(true);
    assert_int_equal(log_lines(), 2);
    assert_int_equal(lab.sink.id.ms, lab.batch.last.ms);
    assert_int_equal(lab.stats.written, 2);
    assert_int_equal(lab.stats.batches, 1);
    assert_stream("integer 0", "integer 0");
}

static void test_a_batch_that_is_old_is_only_acknowledged(void **state)
{
    (void)state;
    add(ENTRY " one");
    read_batch(&lab.batch);
    lab.batch.fresh = false;
    begin();
    run_until_done(true);
    assert_int_equal(lab.sink.commits, 0);
    assert_stream("integer 0", "integer 0");
}

static void test_the_sink_is_told_of_replayed_entries(void **state)
{
    (void)state;
    add(ENTRY " one");
    read_batch(&lab.batch);
    lab.batch.replayed = true;
    begin();
    run_until_done(true);
    assert_true(lab.sink.again);
}

static void test_done_may_begin_with_the_next_batch(void **state)
{
    (void)state;
    add(ENTRY " one");
    read_batch(&lab.batch);
    add(ENTRY " two");
    read_batch(&lab.next);
    lab.chain = true;
    begin();
    run_until(lab.world, &lab.done, 2);
    assert_true(lab.written);
    assert_int_equal(log_lines(), 2);
}

static void test_dead_letters_are_moved_before_the_rest_is_written(void **state)
{
    (void)state;
    begin_malformed();
    run_until_done(true);
    assert_int_equal(lab.stats.dead, 1);
    assert_int_equal(lab.sink.dead, 1);
    assert_int_equal(log_lines(), 1);
    assert_stream("integer 0", "integer 0");
    expect_reply(lab.world, "XLEN s:dead", "integer 1");
}

static void test_an_acknowledgement_that_is_refused_asks_for_a_replay(void **state)
{
    (void)state;
    begin_good();
    expect_reply(lab.world, "SET s other", "status OK");
    run_until_done(true);
    run_until(lab.world, &lab.replays, 1);
    assert_int_equal(log_lines(), 2);
}

/* ---- A disk that is full ---- */

static void test_a_full_disk_keeps_the_batch(void **state)
{
    (void)state;
    get_stuck();
    assert_stream("integer 2", "integer 2");
    lab.sink.error = 0;
    run_until_done(true);
    assert_int_equal(lab.sink.commits, 2);
    assert_int_equal(log_lines(), 2);
    assert_null(commit_stuck(lab.committer));
    assert_stream("integer 0", "integer 0");
}

static void test_a_stale_batch_on_a_full_disk_is_written_but_not_acknowledged(void **state)
{
    (void)state;
    get_stuck();
    CALL(commit_stale(lab.committer));
    run_until(lab.world, &lab.sink.commits, 2); /* still full */
    lab.sink.error = 0;
    run_until_done(true);
    assert_int_equal(log_lines(), 2);
    assert_stream("integer 2", "integer 2");
}

static void test_a_stop_waits_for_a_full_disk(void **state)
{
    (void)state;
    get_stuck();
    CALL(commit_stop(lab.committer));
    lab.sink.error = 0;
    run_until_done(true);
    assert_stream("integer 0", "integer 0");
}

/* ---- Reopening ---- */

static void test_reopening_is_tried_until_it_works(void **state)
{
    (void)state;
    lab.sink.reopen_error = EMFILE;
    CALL(commit_reopen(lab.committer));
    assert_string_equal(commit_stuck(lab.committer), strerror(EMFILE));
    begin_good(); /* to the old file */
    run_until_done(true);
    assert_non_null(commit_stuck(lab.committer));
    lab.sink.reopen_error = 0;
    run_until(lab.world, &lab.sink.reopens, 2);
    assert_null(commit_stuck(lab.committer));
    CALL(commit_reopen(lab.committer));
    assert_int_equal(lab.sink.reopens, 3);
}

/* The new file may lie on another disk. */
static void test_reopening_frees_a_stuck_batch(void **state)
{
    (void)state;
    get_stuck();
    lab.sink.reopen_heals = true;
    CALL(commit_reopen(lab.committer));
    assert_int_equal(lab.sink.commits, 1);
    run_briefly(lab.world); /* less than the second of a retry */
    assert_int_equal(lab.done, 1);
    assert_true(lab.written);
}

/* ---- Batches that are dropped ---- */

static void assert_dropped(uint64_t dropped)
{
    run_until_done(false);
    assert_int_equal(lab.sink.commits, 0);
    assert_int_equal(lab.stats.dropped, dropped);
    assert_int_equal(lab.batch.read, lab.stats.dropped + lab.stats.dead);
}

static void test_a_stale_batch_is_dropped_before_it_is_written(void **state)
{
    (void)state;
    begin_good();
    CALL(commit_stale(lab.committer));
    assert_dropped(2);
    assert_stream("integer 2", "integer 2");
}

static void test_a_stale_batch_is_dropped_after_the_letter_on_its_way(void **state)
{
    (void)state;
    begin_malformed();
    RUN_UNTIL(lab.world->base, is_moving());
    CALL(commit_stale(lab.committer));
    assert_dropped(1);
    expect_reply(lab.world, "XLEN s:dead", "integer 1");
    assert_stream("integer 1", "integer 1");
}

static void test_a_broken_link_drops_a_batch_with_dead_letters(void **state)
{
    (void)state;
    begin_malformed();
    RUN_UNTIL(lab.world->base, is_moving());
    CALL(redis_link_reset(commit_link(lab.committer), "the test wants it"));
    assert_dropped(2);
}

static void test_without_a_link_a_batch_with_dead_letters_is_dropped(void **state)
{
    (void)state;
    CALL(redis_link_reset(commit_link(lab.committer), "the test wants it"));
    assert_false(commit_ready(lab.committer));
    begin_malformed();
    assert_dropped(2);
}

static void begin_refused(void)
{
    expect_reply(lab.world, "SET s:dead other", "status OK");
    begin_malformed();
    RUN_UNTIL(lab.world->base, is_moving());
    RUN_UNTIL(lab.world->base, !is_moving());
    assert_int_equal(lab.done, 0);
}

static void test_a_dead_letter_that_is_refused_is_tried_again(void **state)
{
    (void)state;
    begin_refused();
    expect_reply(lab.world, "DEL s:dead", "integer 1");
    run_until_done(true);
    assert_int_equal(lab.stats.dead, 1);
    assert_int_equal(log_lines(), 1);
}

static void test_a_stop_drops_what_redis_refuses(void **state)
{
    (void)state;
    begin_refused();
    CALL(commit_stop(lab.committer));
    assert_dropped(2);
}

static void test_a_batch_in_hand_has_no_completion_after_the_end(void **state)
{
    (void)state;
    begin_malformed();
    RUN_UNTIL(lab.world->base, is_moving());
    CALL(commit_free(lab.committer));
    lab.committer = NULL;
    run_briefly(lab.world);
    assert_int_equal(lab.done, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_batch_is_written_and_acknowledged),
        TEST(test_a_batch_that_is_old_is_only_acknowledged),
        TEST(test_the_sink_is_told_of_replayed_entries),
        TEST(test_done_may_begin_with_the_next_batch),
        TEST(test_dead_letters_are_moved_before_the_rest_is_written),
        TEST(test_an_acknowledgement_that_is_refused_asks_for_a_replay),
        TEST(test_a_full_disk_keeps_the_batch),
        TEST(test_a_stale_batch_on_a_full_disk_is_written_but_not_acknowledged),
        TEST(test_a_stop_waits_for_a_full_disk),
        TEST(test_reopening_is_tried_until_it_works),
        TEST(test_reopening_frees_a_stuck_batch),
        TEST(test_a_stale_batch_is_dropped_before_it_is_written),
        TEST(test_a_stale_batch_is_dropped_after_the_letter_on_its_way),
        TEST(test_a_broken_link_drops_a_batch_with_dead_letters),
        TEST(test_without_a_link_a_batch_with_dead_letters_is_dropped),
        TEST(test_a_dead_letter_that_is_refused_is_tried_again),
        TEST(test_a_stop_drops_what_redis_refuses),
        TEST(test_a_batch_in_hand_has_no_completion_after_the_end),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("worker/commit", tests, NULL, NULL);
}
