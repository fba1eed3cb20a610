/* test_groups.c: consumer groups on the stream: the one of version 0.1.0 goes, others are warned
 * of. */
#include "tests/unit/worker/run-until.h"

#include "tests/unit/common/child.h"
#include "worker/groups.h"

static const struct config config = {.stream = "s"};
static struct groups groups;

static int set_up(void **state)
{
    memset(&groups, 0, sizeof(groups));
    setup_server(state);
    open_ready(*state);
    return 0;
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

/* A group that has three of five entries pending. */
static void make_group(struct world *w, const char *name)
{
    char command[96];
    unsigned replies = w->replies + 1;
    snprintf(command, sizeof(command), "XGROUP CREATE s %s 0", name);
    expect_reply(w, command, "status OK");
    snprintf(command, sizeof(command), "XREADGROUP GROUP %s c COUNT 3 STREAMS s >", name);
    must_send(w, command);
    run_until(w, &w->replies, replies);
}

/* One look at a stream that begins with entry `first`, until all that it asks is answered. */
static void look(struct world *w, uint64_t first, int64_t count)
{
    const struct account account = {.groups = count, .first = {first, 0}};
    groups_look(&groups, w->link, &config, &account);
    while (redis_link_pending(w->link) > 0)
        assert_int_equal(event_base_loop(w->base, EVLOOP_ONCE), 0);
}

static void assert_groups(struct world *w, const char *count)
{
    char expected[32];
    snprintf(expected, sizeof(expected), "integer %s", count);
    expect_reply(w, "EVAL return(#redis.call('XINFO','GROUPS','s')) 0", expected);
}

static void test_the_old_group_goes_when_nothing_is_pending(void **state)
{
    struct world *w = *state;
    add(w, 1, 5);
    make_group(w, "logworkers");
    look(w, 1, 1);
    assert_groups(w, "1");
    expect_reply(w, "XTRIM s MINID 3", "integer 2");
    look(w, 3, 1);
    assert_groups(w, "1"); /* 3-0 is there */
    expect_reply(w, "XTRIM s MINID 4", "integer 1");
    look(w, 4, 1);
    assert_groups(w, "0");
}

static void test_an_empty_stream_has_nothing_pending(void **state)
{
    struct world *w = *state;
    add(w, 1, 5);
    make_group(w, "logworkers");
    expect_reply(w, "XTRIM s MAXLEN 0", "integer 5");
    look(w, 0, 1);
    assert_groups(w, "0");
}

static void test_an_old_group_that_has_read_nothing_goes_at_once(void **state)
{
    struct world *w = *state;
    add(w, 1, 5);
    expect_reply(w, "XGROUP CREATE s logworkers 0", "status OK");
    look(w, 1, 1);
    assert_groups(w, "0");
}

static void test_other_groups_stay(void **state)
{
    struct world *w = *state;
    add(w, 1, 5);
    make_group(w, "others");
    make_group(w, "logworkers");
    expect_reply(w, "XTRIM s MAXLEN 0", "integer 5");
    look(w, 0, 2);
    assert_groups(w, "1");
    assert_true(groups.warned);
    expect_reply(w, "XGROUP DESTROY s others", "integer 1");
}

static void test_without_groups_nothing_is_asked(void **state)
{
    struct world *w = *state;
    const struct account account = {.groups = 0};
    groups_look(&groups, w->link, &config, &account);
    assert_int_equal(redis_link_pending(w->link), 0);
    assert_false(groups.asking);
}

static void test_one_question_at_a_time(void **state)
{
    struct world *w = *state;
    const struct account account = {.groups = 1};
    add(w, 1, 1);
    groups_look(&groups, w->link, &config, &account);
    groups_look(&groups, w->link, &config, &account);
    assert_int_equal(redis_link_pending(w->link), 1);
    redis_link_reset(w->link, "the test wants it");
    run_until(w, &w->ready, 2);
    groups_look(&groups, w->link, &config, &account);
    assert_int_equal(redis_link_pending(w->link), 1);
}

/* Two looks at a stream with two groups of others, with a Redis of its own. */
static void look_twice(const void *unused)
{
    void *state = NULL;
    (void)unused;
    set_up(&state);
    struct world *w = state;
    add(w, 1, 1);
    make_group(w, "others");
    make_group(w, "more");
    look(w, 1, 2);
    look(w, 1, 2);
    teardown(&state);
}

static void test_a_warning_comes_once(void **state)
{
    static const char warning[] = "has the consumer group ";
    static char text[8192];
    (void)state;
    assert_int_equal(run_child(look_twice, NULL, text, sizeof(text)), 200);
    const char *first = strstr(text, warning);
    assert_non_null(first);
    assert_null(strstr(first + 1, warning));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_old_group_goes_when_nothing_is_pending),
        TEST(test_an_empty_stream_has_nothing_pending),
        TEST(test_an_old_group_that_has_read_nothing_goes_at_once),
        TEST(test_other_groups_stay),
        TEST(test_without_groups_nothing_is_asked),
        TEST(test_one_question_at_a_time),
        cmocka_unit_test(test_a_warning_comes_once),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("worker/groups", tests, NULL, NULL);
}
