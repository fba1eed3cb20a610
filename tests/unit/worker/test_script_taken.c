/* test_script_taken.c: what the scripts note for a log from which another one has taken the
 * stream. */
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

static void call(struct world *w, enum script script, const char *const *words, size_t count,
                 struct seen *seen)
{
    *seen = (struct seen){0};
    scripts_begin(&scripts, script, &config, count, &w->command);
    resp_words(&w->command, words, count);
    assert_true(redis_link_send_buf(w->link, &w->command, on_seen, seen));
    run_until(w, &seen->count, 1);
}

/* The log of this token opens the stream; `hand` says how many bytes of notes it has looked at for
 * a batch in hand. */
static void open_with(struct world *w, const char *token, const char *hand, const char *expected)
{
    char lease[64];
    struct seen seen;
    snprintf(lease, sizeof(lease), "%s-lease", token);
    call(w, SCRIPT_OPEN, RESP_WORDS(token, lease, "60000", "0-0", "0", hand), &seen);
    if (strncmp(seen.text, "array [string ", 14) != 0 ||
        strncmp(seen.text + 14, expected, strlen(expected)) != 0)
        fail_msg("%s, not %s", seen.text, expected);
}

/* Without a batch in hand; `noting` is what it says of its commits. */
static void open_idle(struct world *w, const char *token, const char *noting)
{
    char lease[64];
    struct seen seen;
    snprintf(lease, sizeof(lease), "%s-lease", token);
    call(w, SCRIPT_OPEN, RESP_WORDS(token, lease, "60000", "0-0", "0", "none"), &seen);
    assert_int_equal(strncmp(seen.text, "array [string open, ", 20), 0);
    assert_string_equal(strrchr(seen.text, ',') + 1, noting);
}

/* The owner of this token commits a batch of one entry, with these notes. */
static void commit(struct world *w, const char *token, unsigned i, const char *notes)
{
    char lease[64], first[16], next[16];
    struct seen seen;
    snprintf(lease, sizeof(lease), "%s-lease", token);
    snprintf(first, sizeof(first), "%u-0", i);
    snprintf(next, sizeof(next), "%u-1", i);
    call(w, SCRIPT_COMMIT, RESP_WORDS(lease, "60000", first, next, notes, "0", "1", "0"), &seen);
    assert_int_equal(strncmp(seen.text, "array [integer ", 15), 0);
}

static void add(struct world *w, unsigned first, unsigned last)
{
    for (unsigned i = first; i <= last; i++) {
        char command[64], expected[32];
        snprintf(command, sizeof(command), "XADD s %u-0 a b", i);
        snprintf(expected, sizeof(expected), "string %u-0", i);
        expect_reply(w, command, expected);
    }
}

/* The owner has died, or was cut off for long. */
static void end_lease(struct world *w)
{
    expect_reply(w, "DEL s:owner", "integer 1");
}

#define NOT_NOTING " integer 0]"
#define NOTING     " integer 1]"

/* A owned the stream of eight entries; B has it now. */
static void take_over(struct world *w)
{
    open_idle(w, "A", NOT_NOTING);
    add(w, 1, 8);
    end_lease(w);
    open_idle(w, "B", NOTING);
}

static void test_commits_are_noted_for_the_log_before(void **state)
{
    struct world *w = *state;
    take_over(w);
    commit(w, "B", 1, "one ");
    commit(w, "B", 2, "two ");
    expect_reply(w, "GET s:taken:A", "string one two ");
    expect_reply(w, "HMGET s:account token claims", "array [string B, string A]");
    expect_reply(w, "EXISTS s:taken:B", "integer 0");
    expect_reply(w, "EVAL return(redis.call('TTL','s:taken:A')>600000) 0", "integer 1");
}

static void test_a_batch_without_lines_notes_nothing(void **state)
{
    struct world *w = *state;
    take_over(w);
    commit(w, "B", 1, "");
    expect_reply(w, "EXISTS s:taken:A", "integer 0");
    expect_reply(w, "HGET s:account claims", "string A");
}

static void test_notes_come_before_anything_else(void **state)
{
    struct world *w = *state;
    take_over(w);
    commit(w, "B", 1, "one ");
    open_with(w, "A", "0", "taken, string one ]");
    open_with(w, "A", "4", "standby, string B-lease]");
    expect_reply(w, "GET s:taken:A", "string one ");
    end_lease(w);
    open_with(w, "A", "0", "taken, string one ]");
    expect_reply(w, "EXISTS s:owner", "integer 0");
    open_with(w, "A", "4", "open, string 2-0, ");
    expect_reply(w, "EXISTS s:taken:A", "integer 0");
    expect_reply(w, "HMGET s:account token claims", "array [string A, string B]");
}

static void test_without_notes_a_batch_in_hand_is_opened_with(void **state)
{
    struct world *w = *state;
    take_over(w);
    open_with(w, "A", "0", "standby, string B-lease]");
    end_lease(w);
    open_with(w, "A", "0", "open, string 1-0, ");
}

static void test_without_a_batch_in_hand_there_is_nothing_to_tell(void **state)
{
    struct world *w = *state;
    take_over(w);
    commit(w, "B", 1, "one ");
    open_with(w, "A", "none", "standby, string B-lease]");
    expect_reply(w, "EXISTS s:taken:A", "integer 0");
    expect_reply(w, "HGET s:account claims", "string");
    commit(w, "B", 2, "two ");
    expect_reply(w, "EXISTS s:taken:A", "integer 0");
}

/* Else they would be taken for those of a later batch. */
static void test_an_opening_ends_the_notes(void **state)
{
    struct world *w = *state;
    take_over(w);
    commit(w, "B", 1, "one ");
    end_lease(w);
    open_idle(w, "A", NOTING);
    commit(w, "A", 2, "two ");
    open_with(w, "A", "0", "open, string 3-0, ");
    expect_reply(w, "MGET s:taken:A s:taken:B", "array [nil, string two ]");
    expect_reply(w, "HGET s:account claims", "string B");
}

static void test_several_logs_are_told(void **state)
{
    struct world *w = *state;
    take_over(w);
    end_lease(w);
    open_idle(w, "C", NOTING);
    expect_reply(w, "HGET s:account claims", "string A B");
    commit(w, "C", 1, "one ");
    expect_reply(w, "MGET s:taken:A s:taken:B s:taken:C", "array [string one , string one , nil]");
    end_lease(w);
    open_with(w, "B", "4", "open, ");
    commit(w, "B", 2, "two ");
    expect_reply(w, "MGET s:taken:A s:taken:B s:taken:C",
                 "array [string one two , nil, string two ]");
}

/* A log that never comes again does not fill Redis. */
static void test_a_log_is_told_for_a_while_only(void **state)
{
    struct world *w = *state;
    take_over(w);
    expect_reply(w, "EVAL return(redis.call('SET','s:taken:A',string.rep('x',499990))) 0",
                 "status OK");
    commit(w, "B", 1, "12345 ");
    expect_reply(w, "HGET s:account claims", "string A");
    commit(w, "B", 2, "12345 ");
    expect_reply(w, "HGET s:account claims", "string");
    commit(w, "B", 3, "12345 ");
    expect_reply(w, "STRLEN s:taken:A", "integer 500002");
}

static void test_the_own_opening_claims_nothing(void **state)
{
    struct world *w = *state;
    open_idle(w, "A", NOT_NOTING);
    add(w, 1, 4);
    open_with(w, "A", "0", "open, string 1-0, ");
    commit(w, "A", 1, "one ");
    open_with(w, "A", "0", "open, string 2-0, ");
    expect_reply(w, "EXISTS s:taken:A", "integer 0");
    expect_reply(w, "HGET s:account claims", "string");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_commits_are_noted_for_the_log_before),
        TEST(test_a_batch_without_lines_notes_nothing),
        TEST(test_notes_come_before_anything_else),
        TEST(test_without_notes_a_batch_in_hand_is_opened_with),
        TEST(test_without_a_batch_in_hand_there_is_nothing_to_tell),
        TEST(test_an_opening_ends_the_notes),
        TEST(test_several_logs_are_told),
        TEST(test_a_log_is_told_for_a_while_only),
        TEST(test_the_own_opening_claims_nothing),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("worker/script taken", tests, NULL, NULL);
}
