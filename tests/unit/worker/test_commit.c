/* test_commit.c: batches that are committed, refused, or given up. */
#include "tests/unit/worker/commit-lab.h"

/* ---- Batches that are committed ---- */

static void test_a_batch_is_written_and_committed(void **state)
{
    (void)state;
    begin_good();
    assert_int_equal(lab.sink.writes, 0); /* nothing but the loop goes on with it */
    run_until_done(COMMIT_DONE);
    assert_int_equal(log_lines(), 2);
    assert_int_equal(lab.sink.last.first.ms, 1);
    assert_int_equal(lab.sink.last.last.ms, 2);
    assert_int_equal(lab.sink.last.class, ENTRY_NEW);
    assert_int_equal(lab.sink.confirms, 1);
    assert_int_equal(lab.stats.written, 2);
    assert_int_equal(lab.stats.batches, 1);
    assert_int_equal(lab.account.added, 2);
    assert_int_equal(lab.account.length, 0);
    assert_int_equal(lab.account.written, 2);
    expect("XLEN s", "integer 0");
    expect("HGET s:account written", "string 2");
}

static void test_a_batch_without_lines_is_only_committed(void **state)
{
    (void)state;
    lab.config.level = LEVEL_FATAL;
    begin_good();
    run_until_done(COMMIT_DONE);
    assert_int_equal(lab.sink.writes, 0);
    assert_int_equal(lab.stats.filtered, 2);
    assert_int_equal(lab.stats.written, 0);
    expect("XLEN s", "integer 0");
    expect("HGET s:account filtered", "string 2");
}

/* In Redis they are written; here, they are found. */
static void test_records_that_stood_in_the_log_are_counted(void **state)
{
    (void)state;
    add(ENTRY " one");
    add(ENTRY " two");
    read_batch(&lab.batch, "-", "+");
    lab.batch.found = 1;
    lab.batch.lined = 1;
    lab.batch.unplaced = 1;
    begin();
    run_until_done(COMMIT_DONE);
    assert_int_equal(lab.stats.found, 1);
    assert_int_equal(lab.stats.written, 1);
    assert_int_equal(lab.stats.unplaced, 1);
    expect("HGET s:account written", "string 2");
}

static void test_malformed_entries_are_moved(void **state)
{
    (void)state;
    begin_malformed();
    run_until_done(COMMIT_DONE);
    assert_int_equal(lab.stats.dead, 1);
    assert_int_equal(lab.stats.written, 1);
    assert_int_equal(log_lines(), 1);
    expect("XLEN s", "integer 0");
    expect("XLEN s:dead", "integer 1");
    expect("HGET s:account dead", "string 1");
}

static void test_the_largest_id_is_committed(void **state)
{
    (void)state;
    expect("XADD s 18446744073709551615-18446744073709551615 " ENTRY " one",
           "string 18446744073709551615-18446744073709551615");
    read_batch(&lab.batch, "-", "+");
    begin();
    run_until_done(COMMIT_DONE);
    expect("XLEN s", "integer 0");
}

static void test_entries_behind_the_batch_stay(void **state)
{
    (void)state;
    add(ENTRY " one");
    add(ENTRY " two");
    add(ENTRY " three");
    read_batch(&lab.batch, "1-0", "2-0");
    begin();
    run_until_done(COMMIT_DONE);
    expect("XLEN s", "integer 1");
    assert_int_equal(lab.account.length, 1);
}

static void test_done_may_begin_with_the_next_batch(void **state)
{
    (void)state;
    add(ENTRY " one");
    add(ENTRY " two");
    read_batch(&lab.batch, "1-0", "1-0");
    read_batch(&lab.next, "2-0", "2-0");
    lab.chain = true;
    begin();
    run_until(lab.world, &lab.done, 2);
    assert_int_equal(lab.result, COMMIT_DONE);
    assert_int_equal(log_lines(), 2);
    expect("XLEN s", "integer 0");
}

/* ---- Commits that are refused ---- */

static void test_without_the_lease_it_is_refused(void **state)
{
    (void)state;
    expect("SET s:owner another", "status OK");
    begin_good();
    run_until_done(COMMIT_NO_LEASE);
    assert_int_equal(lab.stats.written, 0);
    expect("XLEN s", "integer 2");
}

static void test_a_stream_that_begins_otherwise_is_refused(void **state)
{
    (void)state;
    add(ENTRY " one");
    add(ENTRY " two");
    read_batch(&lab.batch, "-", "+");
    expect("XDEL s 1-0", "integer 1");
    begin();
    run_until_done(COMMIT_NO_BATCH);
    expect("XLEN s", "integer 1");
}

static void test_entries_that_others_have_removed_refuse_it(void **state)
{
    (void)state;
    add(ENTRY " one");
    add(ENTRY " two");
    read_batch(&lab.batch, "-", "+");
    expect("XDEL s 2-0", "integer 1");
    begin();
    run_until_done(COMMIT_NO_BATCH);
    expect("XLEN s", "integer 1");
}

static void test_what_others_have_removed_before_is_known(void **state)
{
    (void)state;
    add(ENTRY " zero");
    expect("XDEL s 1-0", "integer 1");
    lab.account.removed = 1;
    begin_good();
    run_until_done(COMMIT_DONE);
    expect("XLEN s", "integer 0");
}

static void test_an_error_keeps_the_batch_and_sends_it_again(void **state)
{
    (void)state;
    expect("SET s:account text", "status OK");
    begin_good();
    RUN_UNTIL(lab.world->base, commit_stuck(lab.committer) != NULL);
    assert_non_null(strstr(commit_stuck(lab.committer), "Redis refuses the commit: "));
    assert_int_equal(lab.done, 0);
    expect("DEL s:account", "integer 1");
    run_until_done(COMMIT_DONE);
    assert_null(commit_stuck(lab.committer));
    assert_int_equal(lab.sink.writes, 1);
    assert_int_equal(log_lines(), 2);
    expect("XLEN s", "integer 0");
}

static void test_a_refused_batch_may_be_left(void **state)
{
    (void)state;
    expect("SET s:account text", "status OK");
    begin_good();
    RUN_UNTIL(lab.world->base, commit_stuck(lab.committer) != NULL);
    CALL(commit_leave(lab.committer));
    run_until_done(COMMIT_UNKNOWN);
    assert_null(commit_stuck(lab.committer));
    expect("XLEN s", "integer 2");
}

/* ---- Connections that break ---- */

static void test_a_broken_connection_leaves_the_outcome_unknown(void **state)
{
    (void)state;
    begin_good();
    run_until_sent();
    CALL(redis_link_reset(lab.mine.link, "the test wants it"));
    run_until_done(COMMIT_UNKNOWN);
    assert_int_equal(log_lines(), 2);
    assert_int_equal(lab.sink.confirms, 0);
    assert_int_equal(lab.stats.written, 0);
}

static void test_without_a_connection_it_is_unknown_too(void **state)
{
    (void)state;
    begin_good();
    CALL(redis_link_reset(lab.mine.link, "the test wants it"));
    run_until_done(COMMIT_UNKNOWN);
    expect("XLEN s", "integer 2");
}

static void test_a_batch_that_was_sent_is_not_left(void **state)
{
    (void)state;
    begin_good();
    run_until_sent();
    CALL(commit_leave(lab.committer));
    run_until_done(COMMIT_DONE);
}

static void test_a_batch_that_was_not_sent_is_left(void **state)
{
    (void)state;
    begin_good();
    CALL(commit_leave(lab.committer));
    assert_int_equal(lab.done, 0);
    run_until_done(COMMIT_UNKNOWN);
    assert_int_equal(lab.sink.writes, 0);
    CALL(commit_leave(lab.committer)); /* there is none */
    run_briefly(lab.world);
    assert_int_equal(lab.done, 1);
}

static void test_a_batch_in_hand_has_no_completion_after_the_end(void **state)
{
    (void)state;
    begin_good();
    CALL(commit_free(lab.committer));
    lab.committer = NULL;
    run_briefly(lab.world);
    assert_int_equal(lab.done, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_batch_is_written_and_committed),
        TEST(test_a_batch_without_lines_is_only_committed),
        TEST(test_records_that_stood_in_the_log_are_counted),
        TEST(test_malformed_entries_are_moved),
        TEST(test_the_largest_id_is_committed),
        TEST(test_entries_behind_the_batch_stay),
        TEST(test_done_may_begin_with_the_next_batch),
        TEST(test_without_the_lease_it_is_refused),
        TEST(test_a_stream_that_begins_otherwise_is_refused),
        TEST(test_entries_that_others_have_removed_refuse_it),
        TEST(test_what_others_have_removed_before_is_known),
        TEST(test_an_error_keeps_the_batch_and_sends_it_again),
        TEST(test_a_refused_batch_may_be_left),
        TEST(test_a_broken_connection_leaves_the_outcome_unknown),
        TEST(test_without_a_connection_it_is_unknown_too),
        TEST(test_a_batch_that_was_sent_is_not_left),
        TEST(test_a_batch_that_was_not_sent_is_left),
        TEST(test_a_batch_in_hand_has_no_completion_after_the_end),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("worker/commit", tests, NULL, NULL);
}
