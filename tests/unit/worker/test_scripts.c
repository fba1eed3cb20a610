/* test_scripts.c: how the scripts are called, whole or by their sum. */
#include "tests/unit/common/redis/redis-world.h"

#include "worker/scripts.h"

static char dead_key[] = "s:dead", owner_key[] = "s:owner", account_key[] = "s:account";
static const struct config config = {
    .stream = "s", .dead_key = dead_key, .owner_key = owner_key, .account_key = account_key};
static struct scripts scripts;

static int set_up(void **state)
{
    memset(&scripts, 0, sizeof(scripts));
    setup_server(state);
    open_ready(*state);
    return 0;
}

/* Calls the look; the reply as expect_reply() has it. */
static struct seen look(struct world *w)
{
    struct seen seen = {0};
    scripts_begin(&scripts, SCRIPT_LOOK, &config, 3, &w->command);
    resp_words(&w->command, RESP_WORDS("lease", "1000", "0"));
    assert_true(redis_link_send_buf(w->link, &w->command, on_seen, &seen));
    run_until(w, &seen.count, 1);
    return seen;
}

static bool calls(const struct world *w, const char *what)
{
    return memmem(w->command.data, w->command.len, what, strlen(what)) != NULL;
}

static void run_until_loaded(struct world *w)
{
    while (redis_link_pending(w->link) > 0)
        event_base_loop(w->base, EVLOOP_ONCE);
}

#define SAYS_NOTHING                                                                               \
    "array [integer 0, integer 0, integer 0, integer 0, integer 0, integer 0, integer 0, string, " \
    "integer 0]"

static void test_until_they_are_loaded_they_are_sent_whole(void **state)
{
    struct world *w = *state;
    assert_string_equal(look(w).text, SAYS_NOTHING);
    assert_true(calls(w, "\r\nEVAL\r\n"));
    assert_true(scripts_load(&scripts, w->link));
    scripts_begin(&scripts, SCRIPT_COMMIT, &config, 0, &w->command);
    assert_true(calls(w, "\r\nEVAL\r\n"));
    run_until_loaded(w);
    scripts_begin(&scripts, SCRIPT_COMMIT, &config, 0, &w->command);
    assert_true(calls(w, "\r\nEVALSHA\r\n"));
    assert_true(w->command.len < 200);
    assert_string_equal(look(w).text, SAYS_NOTHING);
    assert_true(calls(w, "\r\nEVALSHA\r\n"));
}

static void test_all_of_them_get_the_keys(void **state)
{
    struct world *w = *state;
    for (enum script s = 0; s < SCRIPTS; s++) {
        scripts_begin(&scripts, s, &config, 3, &w->command);
        assert_int_equal(memcmp(w->command.data, "*10\r\n$4\r\nEVAL\r\n", 15), 0);
        assert_true(calls(w, "\r\n$1\r\n4\r\n$1\r\ns\r\n$7\r\ns:owner\r\n$9\r\ns:account\r\n"
                             "$6\r\ns:dead\r\n"));
    }
}

static void test_what_redis_has_forgotten_is_told_and_loaded_again(void **state)
{
    struct world *w = *state;
    assert_true(scripts_load(&scripts, w->link));
    run_until_loaded(w);
    expect_reply(w, "SCRIPT FLUSH", "status OK");
    assert_non_null(strstr(look(w).text, "error NOSCRIPT"));
    assert_true(scripts_load(&scripts, w->link));
    scripts_begin(&scripts, SCRIPT_LOOK, &config, 2, &w->command);
    assert_true(calls(w, "\r\nEVAL\r\n"));
    run_until_loaded(w);
    assert_string_equal(look(w).text, SAYS_NOTHING);
    assert_true(calls(w, "\r\nEVALSHA\r\n"));
}

/* It is what follows when Redis has forgotten the others. */
static void test_the_opening_is_always_whole(void **state)
{
    struct world *w = *state;
    assert_true(scripts_load(&scripts, w->link));
    run_until_loaded(w);
    scripts_begin(&scripts, SCRIPT_OPEN, &config, 0, &w->command);
    assert_true(calls(w, "\r\nEVAL\r\n"));
}

static void test_an_account_that_may_not_load_sends_them_whole(void **state)
{
    struct world *w = *state;
    expect_reply(w, "ACL SETUSER default -script", "status OK");
    assert_true(scripts_load(&scripts, w->link));
    run_until_loaded(w);
    assert_string_equal(look(w).text, SAYS_NOTHING);
    assert_true(calls(w, "\r\nEVAL\r\n"));
}

static void test_without_a_connection_nothing_is_loaded(void **state)
{
    struct world *w = *state;
    redis_link_reset(w->link, "the test wants it");
    assert_false(scripts_load(&scripts, w->link));
    scripts_begin(&scripts, SCRIPT_COMMIT, &config, 0, &w->command);
    assert_true(calls(w, "\r\nEVAL\r\n"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_until_they_are_loaded_they_are_sent_whole),
        TEST(test_all_of_them_get_the_keys),
        TEST(test_what_redis_has_forgotten_is_told_and_loaded_again),
        TEST(test_the_opening_is_always_whole),
        TEST(test_an_account_that_may_not_load_sends_them_whole),
        TEST(test_without_a_connection_nothing_is_loaded),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("worker/scripts", tests, NULL, NULL);
}
