/* test_lease.c: the opening of the stream, and looks at it. */
#include "tests/unit/worker/lease-lab.h"

/* ---- The opening ---- */

static void test_an_empty_stream_is_opened(void **state)
{
    char pid[32];
    (void)state;
    open_stream();
    assert_true(lab.opening.empty);
    assert_int_equal(lab.sink.begun, 1);
    assert_true(lab.sink.empty);
    snprintf(pid, sizeof(pid), "pid=%ld ", (long)getpid());
    assert_true(owner_has("string " TOKEN " "));
    assert_true(owner_has(pid));
    assert_true(owner_has("log=/nonexistent/app.log"));
    assert_int_equal(lease_account(lab.lease)->removed, 0);
}

static void test_a_stream_with_entries_is_opened(void **state)
{
    (void)state;
    expect("XADD s 3-1 a b", "string 3-1");
    expect("XADD s 4-0 a b", "string 4-0");
    lab.sink.last = (struct stream_id){9, 0};
    open_stream();
    assert_false(lab.opening.empty);
    assert_int_equal(lab.opening.first.ms, 3);
    assert_int_equal(lab.opening.first.seq, 1);
    assert_false(lab.sink.empty);
    assert_int_equal(lab.sink.first.ms, 3);
    assert_int_equal(lab.sink.upto.ms, 4);
    assert_int_equal(lease_account(lab.lease)->length, 2);
    expect("XADD s 9-1 a b", "string 9-1"); /* it was raised to 9-0 */
}

static void test_each_opening_has_an_epoch_of_its_own(void **state)
{
    struct seen first = {0}, second = {0};
    (void)state;
    open_stream();
    assert_true(send_words(lab.world, "GET s:owner", on_seen, &first));
    run_until(lab.world, &first.count, 1);
    open_stream();
    assert_true(send_words(lab.world, "GET s:owner", on_seen, &second));
    run_until(lab.world, &second.count, 1);
    assert_string_not_equal(first.text, second.text);
    assert_int_equal(lab.standby, 0);
}

static void test_another_owner_is_stood_by(void **state)
{
    (void)state;
    set_owner(OTHER " 0011223344556677 host=there pid=7 log=/var/log/app.log");
    open_to(&lab.standby);
    assert_string_equal(lease_owner(lab.lease), "host=there pid=7 log=/var/log/app.log");
    assert_int_equal(lab.sink.begun, 0);
    expect("DEL s:owner", "integer 1");
    open_stream();
    assert_string_equal(lab.sink.token, TOKEN);
}

static void test_redis_refuses_the_opening(void **state)
{
    (void)state;
    expect("SET s text", "status OK");
    open_to(&lab.failed);
    assert_non_null(strstr(lab.why, "WRONGTYPE"));
    expect("DEL s", "integer 1");
    open_stream();
}

static void test_the_log_cannot_be_looked_at(void **state)
{
    (void)state;
    lab.sink.begin_error = EIO;
    open_to(&lab.failed);
    assert_string_equal(lab.why, strerror(EIO));
    lab.sink.begin_error = 0;
    open_stream();
}

static void test_the_connection_breaks_while_it_opens(void **state)
{
    (void)state;
    send_open();
    redis_link_reset(lab.mine.link, "the test wants it");
    run_until(lab.world, &lab.failed, 1);
    assert_string_equal(lab.why, "");
    assert_false(lease_open(lab.lease));
    run_until(&lab.mine, &lab.mine.ready, 2);
    open_stream(); /* whether the first one was carried out or not */
}

/* ---- Notes of other logs ---- */

static void take_batch_in_hand(bool covered)
{
    lab.sink.in_hand = true;
    lab.sink.covered = covered;
    expect("HSET s:account token B claims " TOKEN, "integer 2");
    expect("SET s:taken:" TOKEN " notes", "status OK");
    expect("XADD s 6-0 a b", "string 6-0");
}

static void test_a_batch_that_another_log_has_is_given_up(void **state)
{
    (void)state;
    take_batch_in_hand(true);
    open_stream();
    assert_string_equal(lab.sink.notes, "notes");
    assert_int_equal(lab.sink.cut, 1);
    assert_int_equal(lab.sink.begun, 1);
    assert_int_equal(lab.opening.first.ms, 6);
    expect("EXISTS s:taken:" TOKEN, "integer 0");
}

static void test_a_batch_that_another_log_has_not_is_kept(void **state)
{
    (void)state;
    take_batch_in_hand(false);
    open_stream();
    assert_string_equal(lab.sink.notes, "notes");
    assert_int_equal(lab.sink.cut, 0);
    assert_int_equal(lab.sink.begun, 1);
    assert_true(lab.sink.in_hand);
}

static void test_a_worker_that_stands_by_looks_each_time(void **state)
{
    (void)state;
    take_batch_in_hand(false);
    set_owner(OTHER " 0011223344556677 host=there pid=7 log=/var/log/app.log");
    open_to(&lab.standby);
    assert_int_equal(lab.sink.cut, 0);
    expect("APPEND s:taken:" TOKEN " more", "integer 9");
    lab.sink.covered = true;
    open_to(&lab.standby);
    assert_string_equal(lab.sink.notes, "notesmore");
    assert_int_equal(lab.sink.cut, 1);
    assert_int_equal(lab.sink.begun, 0);
    expect("EXISTS s:taken:" TOKEN, "integer 0");
}

static void test_it_cannot_be_cut(void **state)
{
    (void)state;
    take_batch_in_hand(true);
    lab.sink.cut_error = EIO;
    open_to(&lab.failed);
    assert_string_equal(lab.why, strerror(EIO));
    assert_int_equal(lab.sink.begun, 0);
    lab.sink.cut_error = 0;
    open_stream();
    assert_int_equal(lab.sink.cut, 1);
}

static void test_commits_are_noted_for_those_that_owned_it_before(void **state)
{
    (void)state;
    open_stream();
    assert_false(lease_noting(lab.lease));
    expect("HSET s:account token B", "integer 0");
    open_stream();
    assert_true(lease_noting(lab.lease));
    expect("HSET s:account claims x", "integer 0");
    expect("HDEL s:account claims", "integer 1");
    open_stream();
    assert_false(lease_noting(lab.lease));
}

/* ---- Looks ---- */

static void test_a_look_tells_what_is_there(void **state)
{
    const struct account *a = lease_account(lab.lease);
    (void)state;
    open_stream();
    expect("XADD s 3-0 a b", "string 3-0");
    expect("XGROUP CREATE s g 0", "status OK");
    expect("XADD s:dead 1-0 a b", "string 1-0");
    expect("PEXPIRE s:owner 10000", "integer 1");
    run_until(lab.world, &lab.looked, lab.looked + 2); /* one may have been on its way */
    assert_int_equal(a->length, 1);
    assert_int_equal(a->added, 1);
    assert_int_equal(a->groups, 1);
    assert_int_equal(a->first.ms, 3);
    assert_int_equal(a->dead_letters, 1);
    expect("EVAL return(redis.call('PTTL','s:owner')>50000) 0", "integer 1");
}

static void test_a_look_finds_what_others_have_removed(void **state)
{
    (void)state;
    open_stream();
    expect("XADD s 3-0 a b", "string 3-0");
    expect("XDEL s 3-0", "integer 1");
    RUN_UNTIL(lab.world->base, lease_account(lab.lease)->removed == 1);
    assert_int_equal(lab.lost, 0);
}

static void test_a_look_finds_that_the_lease_has_ended(void **state)
{
    (void)state;
    open_stream();
    expect("DEL s:owner", "integer 1");
    run_until(lab.world, &lab.lost, 1);
    assert_string_equal(lab.why, "the lease has ended");
    unsigned looked = lab.looked;
    open_stream();
    run_until(lab.world, &lab.looked, looked + 1);
    assert_int_equal(lab.lost, 1);
}

static void test_a_look_finds_that_the_stream_was_removed(void **state)
{
    (void)state;
    open_stream();
    expect("HSET s:account written 5", "integer 0");
    run_until(lab.world, &lab.lost, 1);
    assert_string_equal(lab.why, "the stream was removed");
    open_stream();
    run_until(lab.world, &lab.looked, lab.looked + 2);
    assert_int_equal(lab.lost, 1);
    assert_int_equal(lease_account(lab.lease)->removed, 0);
}

static void test_scripts_that_redis_has_forgotten(void **state)
{
    (void)state;
    open_stream();
    run_until(lab.world, &lab.looked, 1);
    expect("SCRIPT FLUSH", "status OK");
    run_until(lab.world, &lab.lost, 1);
    open_stream();
    run_until(lab.world, &lab.looked, lab.looked + 1);
    assert_int_equal(lab.lost, 1);
}

static void test_nobody_is_told_of_looks_after_the_end(void **state)
{
    (void)state;
    open_stream();
    lease_close(lab.lease, false);
    expect("DEL s:owner", "integer 1");
    expect("XADD s 3-0 a b", "string 3-0");
    RUN_UNTIL(lab.world->base, lease_account(lab.lease)->length == 1);
    assert_int_equal(lab.lost, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_empty_stream_is_opened),
        TEST(test_a_stream_with_entries_is_opened),
        TEST(test_each_opening_has_an_epoch_of_its_own),
        TEST(test_another_owner_is_stood_by),
        TEST(test_redis_refuses_the_opening),
        TEST(test_the_log_cannot_be_looked_at),
        TEST(test_the_connection_breaks_while_it_opens),
        TEST(test_a_batch_that_another_log_has_is_given_up),
        TEST(test_a_batch_that_another_log_has_not_is_kept),
        TEST(test_a_worker_that_stands_by_looks_each_time),
        TEST(test_it_cannot_be_cut),
        TEST(test_commits_are_noted_for_those_that_owned_it_before),
        TEST(test_a_look_tells_what_is_there),
        TEST(test_a_look_finds_what_others_have_removed),
        TEST(test_a_look_finds_that_the_lease_has_ended),
        TEST(test_a_look_finds_that_the_stream_was_removed),
        TEST(test_scripts_that_redis_has_forgotten),
        TEST(test_nobody_is_told_of_looks_after_the_end),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("worker/lease", tests, NULL, NULL);
}
