/* test_setup.c: the stream, its group and its lineage are made where they are missing. */
#include "tests/unit/common/redis/redis-world.h"

#include "worker/setup.h"

static char lineage_key[] = "s:lineage";
static const struct config config = {.stream = "s", .group = "g", .lineage_key = lineage_key};

/* The reply as expect_reply() has it: "string 0123…". */
static struct seen send_setup(struct world *w)
{
    struct seen seen = {0};
    assert_true(setup_send(w->link, &config, on_seen, &seen));
    run_until(w, &seen.count, 1);
    return seen;
}

static void test_all_is_made_once(void **state)
{
    struct world *w = *state;
    open_ready(w);
    struct seen first = send_setup(w), again = send_setup(w);
    assert_int_equal(strlen(first.text), strlen("string ") + 32);
    assert_string_equal(first.text, again.text);
    expect_reply(w, "GET s:lineage", first.text);
    expect_reply(w, "XLEN s", "integer 0");
    expect_reply(w, "XGROUP CREATE s g 0", "error BUSYGROUP Consumer Group name already exists");
}

static void test_lineage_that_is_there_is_kept(void **state)
{
    struct world *w = *state;
    open_ready(w);
    expect_reply(w, "SET s:lineage ours", "status OK");
    assert_string_equal(send_setup(w).text, "string ours");
}

static void test_stream_of_another_type_is_an_error(void **state)
{
    struct world *w = *state;
    open_ready(w);
    expect_reply(w, "SET s text", "status OK");
    assert_non_null(strstr(send_setup(w).text, "error WRONGTYPE"));
}

/* A worker must be able to start on a full Redis, to empty it. */
static void test_full_redis_is_set_up(void **state)
{
    struct world *w = *state;
    open_ready(w);
    expect_reply(w, "CONFIG SET maxmemory 1", "status OK");
    assert_int_equal(strlen(send_setup(w).text), strlen("string ") + 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_all_is_made_once),
        WITH_SERVER(test_lineage_that_is_there_is_kept),
        WITH_SERVER(test_stream_of_another_type_is_an_error),
        WITH_SERVER(test_full_redis_is_set_up),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("worker/setup", tests, NULL, NULL);
}
