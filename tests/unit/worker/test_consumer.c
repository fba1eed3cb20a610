/* test_consumer.c: what the consumer reads, in which order it hands it on, and how it ends. */
#include "tests/unit/worker/consumer-lab.h"

/* ---- Order ---- */

static void test_one_batch_at_a_time_and_one_ahead(void **state)
{
    (void)state;
    add(1, 7);
    start();
    expect_batch(1, 1); /* nobody knows yet what entries weigh */
    RUN_UNTIL(lab.world->base, lab.stats.read == 3);
    run_for_nothing();
    assert_int_equal(lab.stats.read, 3);
    assert_int_equal(lab.begun, 1);
    commit();
    expect_batch(2, 3);
    commit();
    expect_batch(4, 5);
    commit();
    expect_batch(6, 7);
    commit();
    run_for_nothing();
    assert_null(lab.batch);
    assert_int_equal(lab.stats.openings, 1);
    assert_int_equal(lab.stats.dropped, 0);
}

static void test_new_entries_are_waited_for(void **state)
{
    (void)state;
    start();
    run_until_reading();
    add(1, 1);
    expect_batch(1, 1);
    commit();
    add(2, 2);
    expect_batch(2, 2);
}

static void test_the_batch_in_hand_comes_first_as_a_whole(void **state)
{
    (void)state;
    lab.first = (struct stream_id){1, 0};
    lab.last = (struct stream_id){5, 0};
    add(1, 8);
    start();
    expect_batch(1, 5);
    assert_int_equal(lab.batch->class, ENTRY_IN_HAND);
    commit();
    expect_batch(6, 7);
    assert_int_equal(lab.batch->class, ENTRY_NEW);
    assert_false(lab.batch->noting);
}

/* The log that owned the stream before may have had a batch in hand. */
static void test_lines_are_noted_for_another_log(void **state)
{
    (void)state;
    expect("HSET s:account token B written 0", "integer 2");
    add(1, 1);
    start();
    expect_batch(1, 1);
    assert_true(lab.batch->noting);
    assert_int_equal(lab.batch->notes.len, strlen("1-0:0123456789abcdef "));
    commit();
    expect("HGET s:account claims", "string B");
}

static void test_a_batch_in_hand_that_is_not_there_is_not_asked_for(void **state)
{
    (void)state;
    lab.first = (struct stream_id){1, 0};
    lab.last = (struct stream_id){5, 0};
    add(6, 7);
    start();
    expect_batch(6, 6);
}

/* The opening has seen it; then it was trimmed. */
static void test_a_batch_in_hand_that_goes_meanwhile_opens_again(void **state)
{
    (void)state;
    lab.first = (struct stream_id){1, 0};
    lab.last = (struct stream_id){5, 0};
    lab.at_begin = "XTRIM s MINID 6-0\r\n";
    add(1, 7);
    start();
    expect_batch(6, 6);
    assert_int_equal(lab.openings, 2);
}

/* Two of them in memory would be too many. */
static void test_nothing_is_read_beside_a_heavy_batch(void **state)
{
    static char message[12001];
    struct seen seen = {0};
    (void)state;
    memset(message, 'x', sizeof(message) - 1);
    assert_true(redis_link_send_words(lab.world->link,
                                      RESP_WORDS("XADD", "s", "1-0", "service", "s", "level",
                                                 "warn", "message", message, "timestamp",
                                                 "2026-11-24T02:35:02.123Z"),
                                      on_seen, &seen));
    run_until(lab.world, &seen.count, 1);
    add(2, 3);
    start();
    expect_batch(1, 1);
    run_for_nothing();
    assert_int_equal(lab.stats.read, 1);
    commit();
    expect_batch(2, 2);
}

/* ---- Standing by ---- */

static void test_another_owner_is_stood_by(void **state)
{
    struct seen seen = {0};
    (void)state;
    add(1, 1);
    assert_true(redis_link_send_words(lab.world->link, RESP_WORDS("SET", "s:owner", OTHER), on_seen,
                                      &seen));
    run_until(lab.world, &seen.count, 1);
    start();
    RUN_UNTIL(lab.world->base, has_problem("standing by: the stream is owned by host=there pid=7"));
    run_for_nothing();
    assert_int_equal(lab.stats.read, 0);
    expect("DEL s:owner", "integer 1");
    expect_batch(1, 1);
    assert_null(consumer_problem(lab.consumer));
}

/* ---- Problems ---- */

static void test_problems_are_told(void **state)
{
    (void)state;
    start();
    assert_false(consumer_connected(lab.consumer));
    assert_true(has_problem("Redis does not answer"));
    run_until_reading();
    assert_true(consumer_connected(lab.consumer));
    lab.stuck = "No space left on device";
    assert_true(has_problem(lab.stuck));
}

static void test_an_opening_that_is_refused_is_tried_again(void **state)
{
    (void)state;
    expect("SET s:account text", "status OK");
    add(1, 1);
    start();
    RUN_UNTIL(lab.world->base, has_problem("WRONGTYPE"));
    expect("DEL s:account", "integer 1");
    expect_batch(1, 1);
}

static void test_a_read_that_is_refused_is_tried_again(void **state)
{
    (void)state;
    expect("ACL SETUSER default -xread", "status OK");
    add(1, 1);
    start();
    RUN_UNTIL(lab.world->base, has_problem("Redis refuses to deliver entries"));
    assert_int_equal(lab.stats.read, 0);
    expect("ACL SETUSER default +xread", "status OK");
    expect_batch(1, 1);
    assert_null(consumer_problem(lab.consumer));
}

static void test_a_log_that_cannot_be_compared_is_tried_again(void **state)
{
    (void)state;
    lab.last = (struct stream_id){9, 0};
    lab.find_error = EIO;
    add(1, 1);
    start();
    RUN_UNTIL(lab.world->base, has_problem("the log cannot be compared"));
    assert_null(lab.batch);
    lab.find_error = 0;
    expect_batch(1, 1);
}

/* ---- The end ---- */

static void test_a_stop_waits_for_the_batch_and_gives_the_stream_back(void **state)
{
    (void)state;
    add(1, 3);
    start();
    expect_batch(1, 1);
    RUN_UNTIL(lab.world->base, lab.stats.read == 3);
    consumer_stop(lab.consumer);
    assert_true(has_problem("stopping"));
    assert_int_equal(lab.stats.dropped, 2);
    run_for_nothing();
    assert_int_equal(lab.finished, 0);
    commit();
    run_until(lab.world, &lab.finished, 1);
    assert_int_equal(lab.begun, 1);
    expect("EXISTS s:owner", "integer 0");
    expect("XLEN s", "integer 2");
}

static void test_a_stop_gives_an_idle_stream_back(void **state)
{
    (void)state;
    start();
    run_until_reading();
    consumer_stop(lab.consumer);
    run_until(lab.world, &lab.finished, 1);
    expect("EXISTS s:owner", "integer 0");
}

static void test_a_stop_while_reading_pauses_gives_it_back(void **state)
{
    (void)state;
    expect("ACL SETUSER default -xread", "status OK");
    start();
    RUN_UNTIL(lab.world->base, has_problem("Redis refuses to deliver entries"));
    consumer_stop(lab.consumer);
    run_until(lab.world, &lab.finished, 1);
    expect("EXISTS s:owner", "integer 0");
}

static void test_a_stop_leaves_another_owner_alone(void **state)
{
    struct seen seen = {0};
    (void)state;
    assert_true(redis_link_send_words(lab.world->link, RESP_WORDS("SET", "s:owner", OTHER), on_seen,
                                      &seen));
    run_until(lab.world, &seen.count, 1);
    start();
    RUN_UNTIL(lab.world->base, has_problem("standing by"));
    consumer_stop(lab.consumer);
    run_until(lab.world, &lab.finished, 1);
    expect("GET s:owner", "string " OTHER);
}

static void test_a_stop_without_a_connection_finishes_at_once(void **state)
{
    (void)state;
    start();
    consumer_stop(lab.consumer);
    assert_int_equal(lab.finished, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_batch_at_a_time_and_one_ahead),
        TEST(test_new_entries_are_waited_for),
        TEST(test_the_batch_in_hand_comes_first_as_a_whole),
        TEST(test_lines_are_noted_for_another_log),
        TEST(test_a_batch_in_hand_that_is_not_there_is_not_asked_for),
        TEST(test_a_batch_in_hand_that_goes_meanwhile_opens_again),
        TEST(test_nothing_is_read_beside_a_heavy_batch),
        TEST(test_another_owner_is_stood_by),
        TEST(test_problems_are_told),
        TEST(test_an_opening_that_is_refused_is_tried_again),
        TEST(test_a_read_that_is_refused_is_tried_again),
        TEST(test_a_log_that_cannot_be_compared_is_tried_again),
        TEST(test_a_stop_waits_for_the_batch_and_gives_the_stream_back),
        TEST(test_a_stop_gives_an_idle_stream_back),
        TEST(test_a_stop_while_reading_pauses_gives_it_back),
        TEST(test_a_stop_leaves_another_owner_alone),
        TEST(test_a_stop_without_a_connection_finishes_at_once),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("worker/consumer", tests, NULL, NULL);
}
