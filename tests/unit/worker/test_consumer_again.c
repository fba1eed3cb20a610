/* test_consumer_again.c: when the consumer opens the stream again, and what it reads then. */
#include "tests/unit/worker/consumer-lab.h"

/* Entry 1 is with the committer, 2 and 3 are read ahead. */
static void begin_three(void)
{
    add(1, 3);
    start();
    expect_batch(1, 1);
    RUN_UNTIL(lab.world->base, lab.stats.read == 3);
}

/* The batch in hand goes first: nothing is opened before the committer has let go of it. */
static void assert_opened_after_the_batch(void)
{
    run_for_nothing();
    assert_int_equal(lab.openings, 1);
    assert_int_equal(lab.begun, 1);
    assert_int_equal(lab.stats.dropped, 2);
}

static void test_a_dropped_batch_is_read_again(void **state)
{
    (void)state;
    begin_three();
    complete(COMMIT_UNKNOWN);
    assert_null(lab.batch); /* what was read ahead must not overtake it */
    assert_int_equal(lab.stats.dropped, 2);
    expect_batch(1, 1);
    commit();
    expect_batch(2, 3);
    assert_int_equal(lab.openings, 2);
}

static void test_a_stream_that_begins_otherwise_is_read_again(void **state)
{
    (void)state;
    begin_three();
    expect("XDEL s 1-0", "integer 1");
    complete(COMMIT_NO_BATCH);
    expect_batch(2, 2);
    commit();
    expect_batch(3, 3);
}

static void test_after_a_commit_without_the_lease_it_stands_by(void **state)
{
    struct seen seen = {0};
    (void)state;
    begin_three();
    assert_true(redis_link_send_words(lab.world->link, RESP_WORDS("SET", "s:owner", OTHER), on_seen,
                                      &seen));
    run_until(lab.world, &seen.count, 1);
    complete(COMMIT_NO_LEASE);
    RUN_UNTIL(lab.world->base, has_problem("standing by"));
    assert_null(lab.batch);
    expect("DEL s:owner", "integer 1");
    expect_batch(1, 1);
}

static void test_a_lease_that_has_ended_ends_the_reading(void **state)
{
    (void)state;
    begin_three();
    expect("DEL s:owner", "integer 1");
    RUN_UNTIL(lab.world->base, lab.left > 0);
    assert_opened_after_the_batch();
    complete(COMMIT_NO_LEASE);
    expect_batch(1, 1);
    assert_int_equal(lab.openings, 2);
}

static void test_connections_that_break_end_the_reading(void **state)
{
    (void)state;
    begin_three();
    expect("CLIENT KILL TYPE normal SKIPME yes", "integer 2");
    RUN_UNTIL(lab.world->base, lab.left > 0);
    assert_opened_after_the_batch();
    complete(COMMIT_UNKNOWN);
    expect_batch(1, 1);
    assert_int_equal(lab.openings, 2);
}

static void test_a_commit_that_took_place_is_not_read_again(void **state)
{
    (void)state;
    begin_three();
    expect("CLIENT KILL TYPE normal SKIPME yes", "integer 2");
    RUN_UNTIL(lab.world->base, lab.left > 0);
    expect("EVAL redis.call('XTRIM','s','MINID','1-1');"
           "return(redis.call('HINCRBY','s:account','written',1)) 0",
           "integer 1");
    complete(COMMIT_UNKNOWN);
    expect_batch(2, 2);
}

static void test_redis_goes_and_comes(void **state)
{
    (void)state;
    add(1, 1);
    start();
    expect_batch(1, 1);
    commit();
    redis_server_kill(&lab.world->server);
    RUN_UNTIL(lab.world->base, has_problem("Redis does not answer"));
    redis_server_start(&lab.world->server);
    run_until(lab.world, &lab.world->ready, 2);
    add(2, 2); /* it has forgotten all else */
    expect_batch(2, 2);
}

/* A read blocks behind a position that the stream has left. */
static void test_ids_that_run_backwards_are_noticed(void **state)
{
    (void)state;
    add(5, 5);
    start();
    expect_batch(5, 5);
    commit();
    expect("XSETID s 1-0", "status OK");
    add(2, 2);
    expect_batch(2, 2);
    assert_int_equal(lab.openings, 2);
}

static void test_a_stream_that_is_made_anew_is_read(void **state)
{
    (void)state;
    add(5, 5);
    start();
    expect_batch(5, 5);
    commit();
    expect("DEL s", "integer 1");
    add(2, 2);
    expect_batch(2, 2);
}

/* Nobody has read them: they must not be passed over. */
static void test_entries_behind_the_one_in_hand_wait_for_it(void **state)
{
    (void)state;
    add(1, 1);
    start();
    expect_batch(1, 1);
    add(2, 2);
    add(3, 3);
    RUN_UNTIL(lab.world->base, lab.stats.read == 2);
    RUN_UNTIL(lab.world->base, consumer_account(lab.consumer)->length == 3);
    assert_int_equal(lab.openings, 1);
    commit();
    expect_batch(2, 2);
    commit();
    expect_batch(3, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_dropped_batch_is_read_again),
        TEST(test_a_stream_that_begins_otherwise_is_read_again),
        TEST(test_after_a_commit_without_the_lease_it_stands_by),
        TEST(test_a_lease_that_has_ended_ends_the_reading),
        TEST(test_connections_that_break_end_the_reading),
        TEST(test_a_commit_that_took_place_is_not_read_again),
        TEST(test_redis_goes_and_comes),
        TEST(test_ids_that_run_backwards_are_noticed),
        TEST(test_a_stream_that_is_made_anew_is_read),
        TEST(test_entries_behind_the_one_in_hand_wait_for_it),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("worker/consumer again", tests, NULL, NULL);
}
