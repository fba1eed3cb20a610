/* test_commit_log.c: the committer beside a log that cannot be written, or is rotated. */
#include "tests/unit/worker/commit-lab.h"

/* ---- A disk that is full ---- */

static void test_a_full_disk_keeps_the_batch(void **state)
{
    (void)state;
    get_stuck();
    expect("XLEN s", "integer 2");
    lab.sink.error = 0;
    run_until_done(COMMIT_DONE);
    assert_int_equal(lab.sink.writes, 2);
    assert_int_equal(log_lines(), 2);
    assert_null(commit_stuck(lab.committer));
    expect("XLEN s", "integer 0");
}

static void test_a_batch_on_a_full_disk_is_left(void **state)
{
    (void)state;
    get_stuck();
    CALL(commit_leave(lab.committer));
    run_until_done(COMMIT_UNKNOWN);
    assert_int_equal(lab.sink.writes, 1);
    expect("XLEN s", "integer 2");
}

/* ---- Reopening ---- */

static void test_reopening_is_tried_until_it_works(void **state)
{
    (void)state;
    lab.sink.reopen_error = EMFILE;
    CALL(commit_reopen(lab.committer));
    assert_string_equal(commit_stuck(lab.committer), strerror(EMFILE));
    begin_good(); /* to the old file */
    run_until_done(COMMIT_DONE);
    assert_non_null(commit_stuck(lab.committer));
    lab.sink.reopen_error = 0;
    RUN_UNTIL(lab.world->base, commit_stuck(lab.committer) == NULL);
    unsigned reopens = lab.sink.reopens;
    CALL(commit_reopen(lab.committer));
    assert_int_equal(lab.sink.reopens, reopens + 1);
}

/* The new file may lie on another disk. */
static void test_reopening_frees_a_stuck_batch(void **state)
{
    (void)state;
    get_stuck();
    lab.sink.reopen_heals = true;
    CALL(commit_reopen(lab.committer));
    assert_int_equal(lab.sink.writes, 1);
    run_briefly(lab.world); /* less than the second of a retry */
    assert_int_equal(lab.sink.writes, 2);
    run_until_done(COMMIT_DONE);
}

/* It would take back what Redis may have been told of. */
static void test_reopening_waits_for_the_answer(void **state)
{
    (void)state;
    begin_good();
    run_until_sent();
    CALL(commit_reopen(lab.committer));
    assert_int_equal(lab.sink.reopens, 0);
    run_until_done(COMMIT_DONE);
    assert_int_equal(lab.reopens_at_done, 1);
}

static void test_reopening_waits_for_an_answer_that_never_comes(void **state)
{
    (void)state;
    begin_good();
    run_until_sent();
    CALL(commit_reopen(lab.committer));
    CALL(redis_link_reset(lab.mine.link, "the test wants it"));
    run_until_done(COMMIT_UNKNOWN);
    RUN_UNTIL(lab.world->base, lab.sink.reopens == 1);
}

static void test_reopening_waits_for_a_batch_that_is_refused(void **state)
{
    (void)state;
    expect("SET s:account text", "status OK");
    begin_good();
    RUN_UNTIL(lab.world->base, commit_stuck(lab.committer) != NULL);
    CALL(commit_reopen(lab.committer));
    assert_int_equal(lab.sink.reopens, 0);
    expect("DEL s:account", "integer 1");
    run_until_done(COMMIT_DONE);
    assert_int_equal(lab.reopens_at_done, 1);
}

static void test_reopening_while_nothing_is_in_hand(void **state)
{
    (void)state;
    CALL(commit_reopen(lab.committer));
    assert_int_equal(lab.sink.reopens, 1);
    assert_null(commit_stuck(lab.committer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_full_disk_keeps_the_batch),
        TEST(test_a_batch_on_a_full_disk_is_left),
        TEST(test_reopening_is_tried_until_it_works),
        TEST(test_reopening_frees_a_stuck_batch),
        TEST(test_reopening_waits_for_the_answer),
        TEST(test_reopening_waits_for_an_answer_that_never_comes),
        TEST(test_reopening_waits_for_a_batch_that_is_refused),
        TEST(test_reopening_while_nothing_is_in_hand),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("worker/commit log", tests, NULL, NULL);
}
