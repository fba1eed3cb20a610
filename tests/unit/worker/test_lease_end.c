/* test_lease_end.c: leases that another worker has, and that are given back. */
#include "tests/unit/worker/lease-lab.h"

/* ---- Twins ---- */

static void set_twin(void)
{
    set_owner(TOKEN " 0011223344556677 host=there pid=7 log=/copy/app.log");
}

static void test_a_twin_takes_a_new_token(void **state)
{
    (void)state;
    open_stream();
    set_twin();
    run_until(lab.world, &lab.lost, 1);
    open_to(&lab.standby);
    assert_string_equal(lab.sink.token, OTHER);
    assert_true(owner_has("host=there"));
    open_to(&lab.standby);
    expect("DEL s:owner", "integer 1");
    open_stream();
    assert_true(owner_has(OTHER));
}

static void test_a_commit_finds_the_twin(void **state)
{
    (void)state;
    open_stream();
    set_twin();
    lease_close(lab.lease, true);
    open_to(&lab.standby);
    assert_string_equal(lab.sink.token, OTHER);
}

static void test_a_twin_that_cannot_write_its_token(void **state)
{
    (void)state;
    open_stream();
    set_twin();
    lease_close(lab.lease, true);
    lab.sink.token_error = EIO;
    open_to(&lab.failed);
    assert_string_equal(lab.why, strerror(EIO));
    assert_string_equal(lab.sink.token, TOKEN);
}

/* Redis carried out an opening of an earlier connection only now. */
static void test_a_late_opening_of_the_own_log_is_no_twin(void **state)
{
    char owner[256], host[65] = "";
    (void)state;
    gethostname(host, sizeof(host) - 1);
    open_stream();
    snprintf(owner, sizeof(owner), TOKEN " 0011223344556677 host=%s pid=7 log=%s", host,
             lab.config.output);
    set_owner(owner);
    run_until(lab.world, &lab.lost, 1);
    open_to(&lab.standby);
    assert_string_equal(lab.sink.token, TOKEN);
    open_stream();
}

/* ---- The end ---- */

static void test_the_stream_is_given_back(void **state)
{
    (void)state;
    open_stream();
    assert_true(lease_give_back(lab.lease));
    run_until(lab.world, &lab.given_back, 1);
    expect("EXISTS s:owner", "integer 0");
    expect("HEXISTS s:account token", "integer 0");
}

static void test_with_a_batch_in_hand_it_is_remembered(void **state)
{
    (void)state;
    open_stream();
    lab.sink.in_hand = true;
    assert_true(lease_give_back(lab.lease));
    run_until(lab.world, &lab.given_back, 1);
    expect("EXISTS s:owner", "integer 0");
    expect("HGET s:account token", "string " TOKEN);
}

static void test_it_is_given_back_while_it_is_opened(void **state)
{
    (void)state;
    open_stream();
    lease_close(lab.lease, false);
    send_open();
    assert_true(lease_give_back(lab.lease));
    run_until(lab.world, &lab.given_back, 1);
    expect("EXISTS s:owner", "integer 0");
}

static void test_what_is_anothers_is_not_given_back(void **state)
{
    (void)state;
    open_stream();
    set_owner(OTHER " 0011223344556677 host=there pid=7 log=/var/log/app.log");
    assert_true(lease_give_back(lab.lease));
    run_until(lab.world, &lab.given_back, 1);
    assert_true(owner_has(OTHER));
}

static void test_without_a_connection_it_is_not_given_back(void **state)
{
    (void)state;
    open_stream();
    redis_link_reset(lab.mine.link, "the test wants it");
    assert_false(lease_give_back(lab.lease));
    run_briefly(lab.world);
    assert_int_equal(lab.given_back, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_twin_takes_a_new_token),
        TEST(test_a_commit_finds_the_twin),
        TEST(test_a_twin_that_cannot_write_its_token),
        TEST(test_a_late_opening_of_the_own_log_is_no_twin),
        TEST(test_the_stream_is_given_back),
        TEST(test_with_a_batch_in_hand_it_is_remembered),
        TEST(test_it_is_given_back_while_it_is_opened),
        TEST(test_what_is_anothers_is_not_given_back),
        TEST(test_without_a_connection_it_is_not_given_back),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("worker/lease end", tests, NULL, NULL);
}
