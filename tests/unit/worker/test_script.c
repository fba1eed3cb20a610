/* test_script.c: what the scripts do in Redis: the lease, the commit, the account, and what one log
 * has of another's. */
#include "tests/unit/common/redis/redis-world.h"

#include "worker/scripts.h"

static char dead_key[] = "s:dead", owner_key[] = "s:owner", account_key[] = "s:account";
static const struct config config = {
    .stream = "s", .dead_key = dead_key, .owner_key = owner_key, .account_key = account_key};
static const struct scripts scripts; /* sent whole */

static int set_up(void **state)
{
    setup_server(state);
    open_ready(*state);
    return 0;
}

/* Calls a script; its arguments are split at spaces, "_" is an empty one. */
static void call(struct world *w, enum script script, const char *arguments, const char *expected)
{
    char copy[256];
    const char *words[32];
    struct seen seen = {0};
    size_t count = 0;
    snprintf(copy, sizeof(copy), "%s", arguments);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        words[count++] = strcmp(word, "_") == 0 ? "" : word;
    scripts_begin(&scripts, script, &config, count, &w->command);
    resp_words(&w->command, words, count);
    assert_true(redis_link_send_buf(w->link, &w->command, on_seen, &seen));
    run_until(w, &seen.count, 1);
    assert_string_equal(seen.text, expected);
}

/* The log of this token opens the stream, without a batch in hand. */
static void open_by(struct world *w, const char *token)
{
    char arguments[64];
    struct seen seen = {0};
    snprintf(arguments, sizeof(arguments), "%s-lease", token);
    scripts_begin(&scripts, SCRIPT_OPEN, &config, 6, &w->command);
    resp_words(&w->command, RESP_WORDS(token, arguments, "60000", "0-0", "0", "none"));
    assert_true(redis_link_send_buf(w->link, &w->command, on_seen, &seen));
    run_until(w, &seen.count, 1);
    assert_int_equal(strncmp(seen.text, "array [string open, ", 20), 0);
}

static void end_lease(struct world *w)
{
    expect_reply(w, "DEL s:owner", "integer 1");
}

/* Entries first-0 to last-0. */
static void add(struct world *w, unsigned first, unsigned last)
{
    for (unsigned i = first; i <= last; i++) {
        char command[64], expected[32];
        snprintf(command, sizeof(command), "XADD s %u-0 a b", i);
        snprintf(expected, sizeof(expected), "string %u-0", i);
        expect_reply(w, command, expected);
    }
}

#define COMMITTED(length, added, written, filtered, dead)                                          \
    "array [integer " #length ", integer " #added ", integer " #written ", integer " #filtered     \
    ", integer " #dead "]"

/* ---- The opening ---- */

static void test_an_opening_makes_stream_lease_and_account(void **state)
{
    struct world *w = *state;
    call(w, SCRIPT_OPEN, "A A-lease 60000 0-0 0 none",
         "array [string open, string, string 0-0, integer 0, integer 0, integer 0, integer 0, "
         "integer 0, integer 0]");
    expect_reply(w, "TYPE s", "status stream");
    expect_reply(w, "XLEN s", "integer 0");
    expect_reply(w, "XINFO GROUPS s", "array");
    expect_reply(w, "GET s:owner", "string A-lease");
    expect_reply(w, "EVAL return(redis.call('PTTL','s:owner')>50000) 0", "integer 1");
    expect_reply(w, "HMGET s:account written filtered dead token claims",
                 "array [string 0, string 0, string 0, string A, string]");
}

static void test_another_logs_lease_is_left_alone(void **state)
{
    struct world *w = *state;
    expect_reply(w, "SET s:owner B-lease", "status OK");
    call(w, SCRIPT_OPEN, "A A-lease 60000 9-0 0 none", "array [string standby, string B-lease]");
    expect_reply(w, "EXISTS s s:account", "integer 0");
    expect_reply(w, "GET s:owner", "string B-lease");
}

static void test_a_lease_of_the_own_token_is_replaced(void **state)
{
    struct world *w = *state;
    expect_reply(w, "SET s:owner A-before", "status OK");
    call(w, SCRIPT_OPEN, "A A-lease 60000 0-0 1 none", "array [string standby, string A-before]");
    expect_reply(w, "GET s:owner", "string A-before");
    open_by(w, "A");
    expect_reply(w, "GET s:owner", "string A-lease");
}

static void test_the_last_id_is_raised(void **state)
{
    struct world *w = *state;
    add(w, 3, 4);
    call(w, SCRIPT_OPEN, "A A-lease 60000 10-7 0 none",
         "array [string open, string 3-0, string 4-0, integer 2, integer 2, integer 0, integer 0, "
         "integer 0, integer 0]");
    expect_reply(
        w, "XADD s 10-7 a b",
        "error ERR The ID specified in XADD is equal or smaller than the target stream top "
        "item");
    expect_reply(w, "XADD s 10-8 a b", "string 10-8");
    expect_reply(w, "XLEN s", "integer 3");
}

/* Numbers are compared, not texts. */
static void test_the_last_id_is_never_lowered(void **state)
{
    static const char *const smaller[] = {"9-0", "9-99", "10-0", "10-2", "0-0"};
    struct world *w = *state;
    expect_reply(w, "XADD s 10-10 a b", "string 10-10");
    for (size_t i = 0; i < sizeof(smaller) / sizeof(smaller[0]); i++) {
        char arguments[64];
        snprintf(arguments, sizeof(arguments), "A A-lease 60000 %s 0 none", smaller[i]);
        call(w, SCRIPT_OPEN, arguments,
             "array [string open, string 10-10, string 10-10, integer 1, integer 1, integer 0, "
             "integer 0, integer 0, integer 0]");
    }
    expect_reply(w, "XADD s 10-11 a b", "string 10-11");
    call(w, SCRIPT_OPEN, "A A-lease 60000 18446744073709551615-3 0 none",
         "array [string open, string 10-10, string 10-11, integer 2, integer 2, integer 0, "
         "integer 0, integer 0, integer 0]");
    expect_reply(w, "XADD s 18446744073709551615-4 a b", "string 18446744073709551615-4");
}

/* ---- The account ---- */

static void test_an_account_begins_with_what_is_there(void **state)
{
    struct world *w = *state;
    add(w, 1, 3);
    expect_reply(w, "XDEL s 2-0", "integer 1");
    call(w, SCRIPT_OPEN, "A A-lease 60000 0-0 0 none",
         "array [string open, string 1-0, string 3-0, integer 2, integer 2, integer 0, integer 0, "
         "integer 0, integer 0]");
    call(w, SCRIPT_LOOK, "A-lease 60000 0",
         "array [integer 1, integer 2, integer 2, integer 0, integer 0, integer 0, integer 0, "
         "string 1-0, integer 0]");
}

static void test_what_others_remove_stays_a_difference(void **state)
{
    struct world *w = *state;
    open_by(w, "A");
    add(w, 1, 3);
    expect_reply(w, "XDEL s 1-0", "integer 1");
    open_by(w, "A");
    call(w, SCRIPT_LOOK, "A-lease 60000 0",
         "array [integer 1, integer 2, integer 3, integer 0, integer 0, integer 0, integer 0, "
         "string 2-0, integer 0]");
}

static void test_a_stream_that_was_made_anew_is_counted_on(void **state)
{
    struct world *w = *state;
    open_by(w, "A");
    add(w, 1, 5);
    call(w, SCRIPT_COMMIT, "A-lease 60000 1-0 5-1 _ 0 3 2", COMMITTED(0, 5, 3, 2, 0));
    expect_reply(w, "DEL s", "integer 1");
    add(w, 1, 1);
    call(w, SCRIPT_OPEN, "A A-lease 60000 5-0 0 none",
         "array [string open, string 1-0, string 1-0, integer 1, integer 1, integer 3, integer 2, "
         "integer 0, integer 0]");
    call(w, SCRIPT_LOOK, "A-lease 60000 0",
         "array [integer 1, integer 1, integer 6, integer 3, integer 2, integer 0, integer 0, "
         "string 1-0, integer 0]");
    expect_reply(w, "XADD s 5-1 a b", "string 5-1");
}

/* ---- The commit ---- */

static void test_a_commit_trims_and_counts(void **state)
{
    struct world *w = *state;
    open_by(w, "A");
    add(w, 1, 4);
    expect_reply(w, "PEXPIRE s:owner 10000", "integer 1");
    call(w, SCRIPT_COMMIT, "A-lease 60000 1-0 3-1 _ 0 2 1", COMMITTED(1, 4, 2, 1, 0));
    expect_reply(w, "EVAL return(redis.call('PTTL','s:owner')>50000) 0", "integer 1");
    expect_reply(w, "XRANGE s - +", "array [array [string 4-0, array [string a, string b]]]");
    call(w, SCRIPT_COMMIT, "A-lease 60000 4-0 4-1 _ 0 1 0", COMMITTED(0, 4, 3, 1, 0));
    expect_reply(w, "HMGET s:account written filtered dead",
                 "array [string 3, string 1, string 0]");
}

static void test_a_commit_without_the_lease_does_nothing(void **state)
{
    struct world *w = *state;
    open_by(w, "A");
    add(w, 1, 1);
    call(w, SCRIPT_COMMIT, "A-before 60000 1-0 1-1 _ 0 1 0", "string lease");
    end_lease(w);
    call(w, SCRIPT_COMMIT, "A-lease 60000 1-0 1-1 _ 0 1 0", "string lease");
    expect_reply(w, "XLEN s", "integer 1");
    expect_reply(w, "HGET s:account written", "string 0");
}

static void test_a_commit_of_another_beginning_does_nothing(void **state)
{
    struct world *w = *state;
    open_by(w, "A");
    call(w, SCRIPT_COMMIT, "A-lease 60000 1-0 1-1 _ 0 1 0", "string stream"); /* empty */
    add(w, 2, 3);
    call(w, SCRIPT_COMMIT, "A-lease 60000 1-0 3-1 _ 0 3 0", "string stream");
    call(w, SCRIPT_COMMIT, "A-lease 60000 3-0 3-1 _ 0 1 0", "string stream");
    expect_reply(w, "XLEN s", "integer 2");
    expect_reply(w, "DEL s", "integer 1");
    call(w, SCRIPT_COMMIT, "A-lease 60000 2-0 3-1 _ 0 2 0", "string stream");
    expect_reply(w, "EXISTS s", "integer 0");
}

/* One within the batch was removed: it would be counted as written. */
static void test_a_commit_after_others_have_removed_does_nothing(void **state)
{
    struct world *w = *state;
    open_by(w, "A");
    add(w, 1, 3);
    expect_reply(w, "XDEL s 2-0", "integer 1");
    call(w, SCRIPT_COMMIT, "A-lease 60000 1-0 3-1 _ 0 3 0", "string stream");
    expect_reply(w, "XLEN s", "integer 2");
    call(w, SCRIPT_COMMIT, "A-lease 60000 1-0 3-1 _ 1 2 0", COMMITTED(0, 3, 2, 0, 0));
}

/* There is none after it. */
static void test_the_largest_id_is_committed(void **state)
{
    struct world *w = *state;
    open_by(w, "A");
    add(w, 1, 1);
    expect_reply(w, "XADD s 18446744073709551615-18446744073709551615 a b",
                 "string 18446744073709551615-18446744073709551615");
    call(w, SCRIPT_COMMIT, "A-lease 60000 1-0 1-1 _ 0 1 0", COMMITTED(1, 2, 1, 0, 0));
    call(w, SCRIPT_COMMIT, "A-lease 60000 18446744073709551615-18446744073709551615 _ _ 0 1 0",
         COMMITTED(0, 2, 2, 0, 0));
    expect_reply(w, "XLEN s", "integer 0");
}

static void test_malformed_entries_are_moved(void **state)
{
    struct world *w = *state;
    open_by(w, "A");
    add(w, 1, 3);
    call(w, SCRIPT_COMMIT, "A-lease 60000 1-0 3-1 _ 0 1 0 1-0 odd 3-0 even",
         COMMITTED(0, 3, 1, 0, 2));
    expect_reply(w, "XLEN s:dead", "integer 2");
    expect_reply(w, "EVAL return(redis.call('XRANGE','s:dead','-','+')[1][2]) 0",
                 "array [string reason, string odd, string id, string 1-0, string a, string b]");
    expect_reply(w, "EVAL return(redis.call('XRANGE','s:dead','-','+')[2][2][4]) 0", "string 3-0");
}

/* Lua's stack holds so many; the entry has 4,000 fields. */
static void test_a_dead_letter_is_cut_at_3500_fields(void **state)
{
    struct world *w = *state;
    open_by(w, "A");
    buf_clear(&w->command);
    resp_begin(&w->command, 3 + 8000);
    resp_words(&w->command, RESP_WORDS("XADD", "s", "1-0"));
    for (int i = 0; i < 8000; i++)
        resp_arg_str(&w->command, "x");
    struct seen seen = {0};
    assert_true(redis_link_send_buf(w->link, &w->command, on_seen, &seen));
    run_until(w, &seen.count, 1);
    assert_string_equal(seen.text, "string 1-0");
    call(w, SCRIPT_COMMIT, "A-lease 60000 1-0 1-1 _ 0 0 0 1-0 long", COMMITTED(0, 1, 0, 0, 1));
    expect_reply(w, "EVAL return(#redis.call('XRANGE','s:dead','-','+')[1][2]) 0", "integer 7004");
}

/* Only removing can make room again. */
static void test_a_full_redis_is_emptied(void **state)
{
    struct world *w = *state;
    add(w, 1, 3);
    expect_reply(w, "CONFIG SET maxmemory 1", "status OK");
    open_by(w, "A");
    call(w, SCRIPT_COMMIT, "A-lease 60000 1-0 2-1 _ 0 1 0 1-0 odd", COMMITTED(1, 3, 1, 0, 1));
    expect_reply(w, "XLEN s:dead", "integer 1");
    call(w, SCRIPT_LOOK, "A-lease 60000 0",
         "array [integer 1, integer 1, integer 3, integer 1, integer 0, integer 1, integer 0, "
         "string 3-0, integer 1]");
}

/* ---- Looks ---- */

static void test_a_look_renews_and_gives_back(void **state)
{
    struct world *w = *state;
    open_by(w, "A");
    expect_reply(w, "PEXPIRE s:owner 10000", "integer 1");
    call(w, SCRIPT_LOOK, "A-lease 60000 0",
         "array [integer 1, integer 0, integer 0, integer 0, integer 0, integer 0, integer 0, "
         "string, integer 0]");
    expect_reply(w, "EVAL return(redis.call('PTTL','s:owner')>50000) 0", "integer 1");
    call(w, SCRIPT_LOOK, "A-before 0 0",
         "array [integer 0, integer 0, integer 0, integer 0, integer 0, integer 0, integer 0, "
         "string, integer 0]");
    expect_reply(w, "GET s:owner", "string A-lease");
    call(w, SCRIPT_LOOK, "A-lease 0 0",
         "array [integer 1, integer 0, integer 0, integer 0, integer 0, integer 0, integer 0, "
         "string, integer 0]");
    expect_reply(w, "EXISTS s:owner", "integer 0");
    expect_reply(w, "HGET s:account token", "string A");
}

/* Then it has nothing that another log could have, too. */
static void test_a_look_gives_back_for_good(void **state)
{
    struct world *w = *state;
    open_by(w, "A");
    call(w, SCRIPT_LOOK, "A-lease 0 1",
         "array [integer 1, integer 0, integer 0, integer 0, integer 0, integer 0, integer 0, "
         "string, integer 0]");
    expect_reply(w, "EXISTS s:owner", "integer 0");
    open_by(w, "B");
    expect_reply(w, "HMGET s:account token claims", "array [string B, string]");
    call(w, SCRIPT_LOOK, "A-lease 0 1",
         "array [integer 0, integer 0, integer 0, integer 0, integer 0, integer 0, integer 0, "
         "string, integer 0]");
    expect_reply(w, "HGET s:account token", "string B");
}

static void test_a_look_counts_groups(void **state)
{
    struct world *w = *state;
    open_by(w, "A");
    expect_reply(w, "XGROUP CREATE s g 0", "status OK");
    call(w, SCRIPT_LOOK, "A-lease 60000 0",
         "array [integer 1, integer 0, integer 0, integer 0, integer 0, integer 0, integer 1, "
         "string, integer 0]");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_opening_makes_stream_lease_and_account),
        TEST(test_another_logs_lease_is_left_alone),
        TEST(test_a_lease_of_the_own_token_is_replaced),
        TEST(test_the_last_id_is_raised),
        TEST(test_the_last_id_is_never_lowered),
        TEST(test_an_account_begins_with_what_is_there),
        TEST(test_what_others_remove_stays_a_difference),
        TEST(test_a_stream_that_was_made_anew_is_counted_on),
        TEST(test_a_commit_trims_and_counts),
        TEST(test_a_commit_without_the_lease_does_nothing),
        TEST(test_a_commit_of_another_beginning_does_nothing),
        TEST(test_a_commit_after_others_have_removed_does_nothing),
        TEST(test_the_largest_id_is_committed),
        TEST(test_malformed_entries_are_moved),
        TEST(test_a_dead_letter_is_cut_at_3500_fields),
        TEST(test_a_full_redis_is_emptied),
        TEST(test_a_look_renews_and_gives_back),
        TEST(test_a_look_gives_back_for_good),
        TEST(test_a_look_counts_groups),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("worker/script", tests, NULL, NULL);
}
