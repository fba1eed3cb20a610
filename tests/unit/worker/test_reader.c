/* test_reader.c: reads of the stream, from a private Redis. */
#include "tests/unit/worker/run-until.h"

#include "worker/reader.h"

static struct {
    struct world *world; /* its own link looks at Redis from beside the reader */
    struct config config;
    struct reader *reader;
    unsigned ready, down, entries, none, refused;
    uint64_t first, last; /* of the entries that came last */
    size_t count;
    char why[256];
    bool inside; /* a call into the reader is on the stack */
} lab;

static void on_reader_ready(void *arg)
{
    (void)arg;
    assert_true(reader_ready(lab.reader));
    lab.ready++;
}

static void on_reader_down(void *arg)
{
    (void)arg;
    assert_false(reader_ready(lab.reader));
    assert_false(reader_busy(lab.reader));
    lab.down++;
}

static uint64_t id_of(const struct redis_reply *entries, size_t i)
{
    struct span text = reply_span(reply_at(reply_at(entries, i), 0));
    struct stream_id id = {0};
    assert_true(stream_id_parse(&id, text.p, text.n));
    return id.ms;
}

static void on_entries(const struct redis_reply *entries, void *arg)
{
    (void)arg;
    assert_false(lab.inside || reader_busy(lab.reader));
    lab.count = reply_count(entries);
    assert_true(lab.count > 0);
    lab.first = id_of(entries, 0);
    lab.last = id_of(entries, lab.count - 1);
    lab.entries++;
}

static void on_none(void *arg)
{
    (void)arg;
    lab.none++;
}

static void on_refused(const char *why, void *arg)
{
    (void)arg;
    assert_false(lab.inside);
    snprintf(lab.why, sizeof(lab.why), "%s", why);
    lab.refused++;
}

static int set_up(void **state)
{
    static const struct reader_events events = {.ready = on_reader_ready,
                                                .down = on_reader_down,
                                                .entries = on_entries,
                                                .none = on_none,
                                                .refused = on_refused};
    char err[256];
    setup_server(state);
    memset(&lab, 0, sizeof(lab));
    lab.world = *state;
    open_ready(lab.world);
    lab.config = (struct config){.stream = "s", .batch_bytes = 4096, .redis_timeout_ms = 5000};
    assert_true(redis_url_parse(&lab.config.redis, lab.world->server.url, err, sizeof(err)));
    lab.reader = reader_new(lab.world->base, &lab.config, &events, NULL);
    assert_non_null(lab.reader);
    assert_false(reader_read(lab.reader, (struct stream_id){0, 0}, 1));
    assert_false(reader_busy(lab.reader));
    run_until(lab.world, &lab.ready, 1);
    return 0;
}

static int tear_down(void **state)
{
    reader_free(lab.reader);
    redis_url_free(&lab.config.redis);
    return teardown(state);
}

static void add(unsigned first, unsigned last)
{
    for (unsigned i = first; i <= last; i++) {
        char command[64], expected[32];
        snprintf(command, sizeof(command), "XADD s %u-0 a b", i);
        snprintf(expected, sizeof(expected), "string %u-0", i);
        expect_reply(lab.world, command, expected);
    }
}

/* An entry of about so many bytes. */
static void add_large(size_t bytes)
{
    char *value = malloc(bytes + 1);
    struct seen seen = {0};
    assert_non_null(value);
    memset(value, 'x', bytes);
    value[bytes] = '\0';
    assert_true(redis_link_send_words(lab.world->link, RESP_WORDS("XADD", "s", "*", "a", value),
                                      on_seen, &seen));
    run_until(lab.world, &seen.count, 1);
    free(value);
}

static void read_after(uint64_t ms, int64_t count)
{
    lab.inside = true;
    assert_true(reader_read(lab.reader, (struct stream_id){ms, 0}, count));
    assert_true(reader_busy(lab.reader));
    lab.inside = false;
}

static void assert_entries(uint64_t first, uint64_t last)
{
    assert_int_equal(lab.first, first);
    assert_int_equal(lab.last, last);
    assert_int_equal(lab.count, last - first + 1);
}

static void test_entries_behind_a_position(void **state)
{
    (void)state;
    add(1, 5);
    read_after(0, 2);
    run_until(lab.world, &lab.entries, 1);
    assert_entries(1, 2);
    read_after(2, 100);
    run_until(lab.world, &lab.entries, 2);
    assert_entries(3, 5);
}

static void test_a_read_waits_for_entries(void **state)
{
    (void)state;
    add(1, 1);
    read_after(1, 10);
    add(2, 2);
    run_until(lab.world, &lab.entries, 1);
    assert_entries(2, 2);
    assert_int_equal(lab.none, 0);
}

static void test_a_read_does_not_wait_for_ever(void **state)
{
    (void)state;
    read_after(0, 10);
    run_until(lab.world, &lab.none, 1);
    assert_false(reader_busy(lab.reader));
    assert_int_equal(lab.down, 0);
}

static void test_a_range(void **state)
{
    (void)state;
    add(1, 5);
    assert_true(reader_range(lab.reader, (struct stream_id){2, 0}, (struct stream_id){4, 0}));
    assert_true(reader_busy(lab.reader));
    run_until(lab.world, &lab.entries, 1);
    assert_entries(2, 4);
    assert_true(reader_range(lab.reader, (struct stream_id){6, 0}, (struct stream_id){9, 0}));
    run_until(lab.world, &lab.none, 1);
}

static void test_redis_refuses(void **state)
{
    (void)state;
    expect_reply(lab.world, "SET s text", "status OK");
    read_after(0, 1);
    run_until(lab.world, &lab.refused, 1);
    assert_non_null(strstr(lab.why, "WRONGTYPE"));
    assert_false(reader_busy(lab.reader));
    assert_true(reader_range(lab.reader, (struct stream_id){1, 0}, (struct stream_id){2, 0}));
    run_until(lab.world, &lab.refused, 2);
}

/* Whoever asked for several of them can ask for fewer. */
static void test_entries_that_are_far_too_large(void **state)
{
    (void)state;
    add_large(20000);
    add_large(20000);
    read_after(0, 2);
    run_until(lab.world, &lab.down, 1);
    assert_int_equal(lab.none, 1);
    assert_int_equal(lab.entries, 0);
    run_until(lab.world, &lab.ready, 2);
    read_after(0, 1);
    run_until(lab.world, &lab.entries, 1);
    assert_int_equal(lab.count, 1);
    assert_int_equal(lab.down, 1);
}

static void test_a_range_may_be_large(void **state)
{
    (void)state;
    add_large(20000);
    add_large(20000);
    add_large(20000);
    read_after(0, 1);
    run_until(lab.world, &lab.entries, 1);
    assert_true(
        reader_range(lab.reader, (struct stream_id){0, 0}, (struct stream_id){UINT64_MAX, 0}));
    run_until(lab.world, &lab.entries, 2);
    assert_int_equal(lab.count, 3);
}

static void test_renewing_ends_a_read(void **state)
{
    (void)state;
    read_after(0, 1);
    lab.inside = true;
    reader_renew(lab.reader);
    lab.inside = false;
    assert_int_equal(lab.none, 0);
    run_until(lab.world, &lab.down, 1);
    assert_int_equal(lab.none, 1);
    run_until(lab.world, &lab.ready, 2);
    add(1, 1);
    read_after(0, 1);
    run_until(lab.world, &lab.entries, 1);
}

static void test_a_connection_that_breaks_ends_a_read(void **state)
{
    (void)state;
    read_after(0, 1);
    expect_reply(lab.world, "CLIENT KILL TYPE normal SKIPME yes", "integer 1");
    run_until(lab.world, &lab.down, 1);
    assert_int_equal(lab.none, 1);
    run_until(lab.world, &lab.ready, 2);
}

static void test_the_end_completes_a_read(void **state)
{
    (void)state;
    read_after(0, 1);
    reader_free(lab.reader);
    lab.reader = NULL;
    assert_int_equal(lab.none, 1);
    assert_int_equal(lab.down, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_entries_behind_a_position),
        TEST(test_a_read_waits_for_entries),
        TEST(test_a_read_does_not_wait_for_ever),
        TEST(test_a_range),
        TEST(test_redis_refuses),
        TEST(test_entries_that_are_far_too_large),
        TEST(test_a_range_may_be_large),
        TEST(test_renewing_ends_a_read),
        TEST(test_a_connection_that_breaks_ends_a_read),
        TEST(test_the_end_completes_a_read),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("worker/reader", tests, NULL, NULL);
}
