/* test_store.c: batches on their way into a private Redis: what each of them is told, and what is
 * counted. */
#include "tests/unit/common/redis/redis-world.h"

#include "common/timestamp.h"
#include "logd/store.h"

#define LARGE     (200 << 10) /* bytes; two of these fill the window */
#define SLOTS_MAX 16
#define PRODUCER  "0123456789abcdef0123456789abcdef"

/* What a batch was told. */
struct slot {
    unsigned done;
    unsigned turn; /* the how-manieth it was */
    bool ok;
    enum failure_stored stored;
    char text[512];
    size_t duplicates;
    int64_t gap;
};

/* The store of the running test. The world's own link looks at Redis from beside it. */
static struct {
    struct world *world;
    struct redis_url url;
    struct logd_stats stats;
    struct store *store;
    struct slot slots[SLOTS_MAX];
    unsigned done; /* of all slots */
} lab;

/* ---- The lab ---- */

static void open_store(void **state, const char *url, size_t max_in_flight)
{
    char err[256];
    memset(&lab, 0, sizeof(lab));
    lab.world = *state;
    assert_true(redis_url_parse(&lab.url, url, err, sizeof(err)));
    lab.store = store_new(lab.world->base, &(struct store_config){.url = &lab.url,
                                                                  .stream = "s",
                                                                  .stats = &lab.stats,
                                                                  .reply_timeout_ms = 5000,
                                                                  .producer_ttl_ms = 60000,
                                                                  .max_in_flight = max_in_flight});
    assert_non_null(lab.store);
}

/* Runs the loop until the store has no trouble, or until it has. */
static void run_until_taken(bool taken)
{
    int64_t end = monotonic_now_ms() + PATIENCE_S * 1000;
    while ((store_trouble(lab.store) == NULL) != taken) {
        assert_true(monotonic_now_ms() < end);
        event_base_loop(lab.world->base, EVLOOP_ONCE);
    }
}

static void open_taken(void **state)
{
    struct world *w = *state;
    open_ready(w);
    open_store(state, w->server.url, 64 << 20);
    run_until_taken(true);
}

static int teardown_store(void **state)
{
    store_free(lab.store);
    redis_url_free(&lab.url);
    return teardown(state);
}

static void on_done(void *arg, const struct store_batch *b, const struct store_outcome *o)
{
    struct slot *slot = arg;
    (void)b;
    slot->done++;
    slot->turn = ++lab.done;
    slot->ok = o->failure == NULL;
    slot->duplicates = o->duplicates;
    slot->gap = o->gap;
    if (o->failure != NULL) {
        slot->stored = o->failure->stored;
        snprintf(slot->text, sizeof(slot->text), "%s", o->failure->text);
    }
}

/* A batch of `count` records, whose messages have `bytes` bytes. */
static struct store_batch *make_batch(size_t count, size_t bytes)
{
    struct store_batch *b = store_batch(lab.store);
    char *message = malloc(bytes);
    assert_non_null(b);
    assert_non_null(message);
    memset(message, 'm', bytes);
    for (size_t i = 0; i < count; i++) {
        resp_words(&b->args, RESP_WORDS("service", "info"));
        resp_arg(&b->args, message, bytes);
        resp_words(&b->args, RESP_WORDS("2026-11-24T02:35:02.123Z", ""));
    }
    free(message);
    b->count = count;
    return b;
}

static struct store_batch *make_producer_batch(size_t count, int64_t first, int64_t skip)
{
    struct store_batch *b = make_batch(count, 10);
    strcpy(b->producer.id, PRODUCER);
    b->producer.first = first;
    b->producer.skip = skip;
    return b;
}

static void send_batch(struct store_batch *b, unsigned slot)
{
    struct failure f;
    unsigned done = lab.done;
    assert_true(store_send(b, on_done, &lab.slots[slot], &f));
    assert_int_equal(lab.done, done);
}

/* Sends it, and waits until it is in Redis. */
static const struct slot *store_one(struct store_batch *b)
{
    lab.slots[0] = (struct slot){0};
    send_batch(b, 0);
    run_until(lab.world, &lab.slots[0].done, 1);
    return &lab.slots[0];
}

static void expect_length(const char *expected)
{
    expect_reply(lab.world, "XLEN s", expected);
}

struct calls {
    unsigned answered, eval, evalsha;
};

static unsigned count_after(struct span text, const char *name)
{
    const char *at = memmem(text.p, text.n, name, strlen(name));
    return at == NULL ? 0 : (unsigned)strtoul(at + strlen(name), NULL, 10);
}

static void on_calls(const struct redis_reply *reply, void *arg)
{
    struct calls *calls = arg;
    assert_non_null(reply);
    calls->eval = count_after(reply_span(reply), "cmdstat_eval:calls=");
    calls->evalsha = count_after(reply_span(reply), "cmdstat_evalsha:calls=");
    calls->answered++;
}

/* Commands with the whole script, and with its hash, since CONFIG RESETSTAT. */
static struct calls count_calls(void)
{
    struct calls calls = {0};
    assert_true(send_words(lab.world, "INFO commandstats", on_calls, &calls));
    run_until(lab.world, &calls.answered, 1);
    return calls;
}

/* ---- Outcomes ---- */

static void test_batch_is_confirmed(void **state)
{
    open_taken(state);
    send_batch(make_batch(3, 10), 0);
    assert_int_equal(lab.stats.in_flight_batches, 1);
    assert_true(lab.stats.in_flight_bytes > 0);
    run_until(lab.world, &lab.slots[0].done, 1);
    assert_true(lab.slots[0].ok);
    expect_length("integer 3");
    assert_int_equal(lab.stats.accepted, 3);
    assert_int_equal(lab.stats.in_flight_batches, 0);
    assert_int_equal(lab.stats.in_flight_bytes, 0);
}

static void test_duplicates_and_gap_are_counted(void **state)
{
    open_taken(state);
    const struct slot *slot = store_one(make_producer_batch(3, 1, 0));
    assert_int_equal(slot->duplicates + (size_t)slot->gap, 0);
    slot = store_one(make_producer_batch(3, 2, 0)); /* 2, 3 again, and 4 */
    assert_int_equal(slot->duplicates, 2);
    assert_int_equal(slot->gap, 0);
    slot = store_one(make_producer_batch(3, 10, 2)); /* 5, 6, 7 are missing */
    assert_int_equal(slot->duplicates, 0);
    assert_int_equal(slot->gap, 3);
    expect_length("integer 7");
    expect_reply(lab.world, "GET s:producer:" PRODUCER, "string 12");
    expect_reply(lab.world, "TTL s:producer:" PRODUCER, "integer 60");
    assert_int_equal(lab.stats.accepted, 7);
    assert_int_equal(lab.stats.duplicates, 2);
    assert_int_equal(lab.stats.gaps, 3);
}

static void test_missing_script_is_sent_whole(void **state)
{
    open_taken(state);
    assert_true(store_one(make_batch(1, 10))->ok); /* SCRIPT LOAD is answered before */
    expect_reply(lab.world, "SCRIPT FLUSH", "status OK");
    expect_reply(lab.world, "CONFIG RESETSTAT", "status OK");
    send_batch(make_producer_batch(2, 1, 0), 1);
    send_batch(make_batch(1, LARGE), 2);
    run_until(lab.world, &lab.done, 3);
    assert_true(lab.slots[1].ok && lab.slots[2].ok);
    expect_length("integer 4");
    struct calls calls = count_calls();
    assert_int_equal(calls.evalsha, 2);
    assert_int_equal(calls.eval, 2);
}

static void test_refusal_is_told_and_passes(void **state)
{
    struct failure f;
    open_taken(state);
    expect_reply(lab.world, "CONFIG SET maxmemory 1", "status OK");
    const struct slot *slot = store_one(make_batch(1, 10));
    assert_false(slot->ok);
    assert_int_equal(slot->stored, STORED_NOTHING);
    assert_non_null(strstr(slot->text, "Redis refused the batch for stream s: OOM"));
    assert_null(strstr(slot->text, " script: "));
    assert_string_equal(store_trouble(lab.store), slot->text);
    assert_false(lab.stats.redis_up);
    assert_true(store_open(lab.store, &f)); /* the next batch may have better luck */
    expect_reply(lab.world, "CONFIG SET maxmemory 0", "status OK");
    run_until_taken(true);
    assert_true(store_one(make_batch(1, 10))->ok);
    expect_length("integer 1");
}

static void test_forgotten_batch_is_stored(void **state)
{
    open_taken(state);
    struct store_batch *b = make_batch(1, 10);
    send_batch(b, 0);
    store_forget(b);
    send_batch(make_batch(1, 10), 1);
    run_until(lab.world, &lab.done, 1);
    assert_int_equal(lab.slots[0].done, 0);
    expect_length("integer 2");
    assert_int_equal(lab.stats.in_flight_batches, 0);
}

/* ---- Gathering ---- */

static void test_small_batches_share_a_command(void **state)
{
    open_taken(state);
    assert_true(store_one(make_batch(1, 10))->ok);
    expect_reply(lab.world, "CONFIG RESETSTAT", "status OK");
    for (unsigned i = 1; i <= 10; i++)
        send_batch(make_batch(i % 2 + 1, 10), i);
    run_until(lab.world, &lab.done, 11);
    for (unsigned i = 1; i <= 10; i++)
        assert_true(lab.slots[i].ok);
    assert_int_equal(count_calls().evalsha, 1);
    expect_length("integer 16");
    assert_int_equal(lab.stats.accepted, 16);
}

static void test_large_and_numbered_batches_go_alone(void **state)
{
    open_taken(state);
    assert_true(store_one(make_batch(1, 10))->ok);
    expect_reply(lab.world, "CONFIG RESETSTAT", "status OK");
    send_batch(make_batch(1, 10), 1);
    send_batch(make_batch(1, 5000), 2);
    send_batch(make_producer_batch(1, 1, 0), 3);
    send_batch(make_batch(1, 10), 4);
    run_until(lab.world, &lab.done, 5);
    assert_int_equal(count_calls().evalsha, 3);
    expect_length("integer 5");
}

/* ---- The window ---- */

static void test_waiting_batches_follow_in_order(void **state)
{
    open_taken(state);
    kill(lab.world->server.pid, SIGSTOP);
    for (unsigned i = 0; i < 6; i++)
        send_batch(make_batch(1, LARGE), i);
    kill(lab.world->server.pid, SIGCONT);
    run_until(lab.world, &lab.done, 6);
    for (unsigned i = 0; i < 6; i++) {
        assert_true(lab.slots[i].ok);
        assert_int_equal(lab.slots[i].turn, i + 1);
    }
    expect_length("integer 6");
}

/* Only what Redis may have got can be stored. */
static void test_killed_redis_leaves_sent_batches_unknown(void **state)
{
    struct world *w = *state;
    open_taken(state);
    kill(w->server.pid, SIGSTOP);
    for (unsigned i = 0; i < 4; i++)
        send_batch(make_batch(1, LARGE), i);
    redis_server_kill(&w->server);
    run_until(w, &lab.done, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_false(lab.slots[i].ok);
        assert_int_equal(lab.slots[i].turn, i + 1);
        assert_int_equal(lab.slots[i].stored, i < 2 ? STORED_UNKNOWN : STORED_NOTHING);
    }
    assert_int_equal(lab.stats.unknown, 2);
    assert_int_equal(lab.stats.accepted, 0);
    assert_int_equal(lab.stats.in_flight_bytes, 0);
    redis_server_start(&w->server);
    run_until_taken(true);
    assert_true(store_one(make_batch(1, LARGE))->ok);
    assert_int_equal(lab.stats.reconnects, 1);
}

static void test_too_much_in_flight_is_refused(void **state)
{
    struct world *w = *state;
    struct failure f;
    open_ready(w);
    open_store(state, w->server.url, LARGE / 2);
    run_until_taken(true);
    struct store_batch *more = make_batch(1, 10);
    send_batch(make_batch(1, LARGE), 0); /* one is always taken */
    assert_false(store_open(lab.store, &f));
    assert_int_equal(f.status, 503);
    assert_int_equal(f.stored, STORED_NOTHING);
    assert_non_null(strstr(f.text, "--max-in-flight 102400 bytes"));
    assert_false(store_send(more, on_done, &lab.slots[1], &f));
    run_until(w, &lab.done, 1);
    assert_true(lab.slots[0].ok);
    send_batch(more, 1);
    struct store_batch *large = make_batch(1, LARGE);
    assert_true(store_open(lab.store, &f)); /* there is room, but not for this */
    assert_false(store_send(large, on_done, &lab.slots[2], &f));
    store_discard(large);
    run_until(w, &lab.done, 2);
    assert_true(lab.slots[1].ok);
    assert_int_equal(lab.slots[2].done, 0);
}

/* ---- Without Redis ---- */

static void test_nothing_is_taken_without_redis(void **state)
{
    struct failure f;
    open_store(state, "unix:///nonexistent/redis.sock", 64 << 20);
    assert_non_null(strstr(store_trouble(lab.store), "is not connected yet"));
    assert_false(store_open(lab.store, &f));
    struct store_batch *b = make_batch(1, 10);
    assert_false(store_send(b, on_done, &lab.slots[0], &f));
    assert_int_equal(f.status, 503);
    assert_int_equal(f.stored, STORED_NOTHING);
    store_discard(b);
    while (strstr(store_trouble(lab.store), "is not reachable: No such file") == NULL)
        event_base_loop(lab.world->base, EVLOOP_ONCE);
    assert_int_equal(lab.done, 0);
    assert_int_equal(lab.stats.in_flight_batches, 0);
}

static void test_free_answers_all(void **state)
{
    open_taken(state);
    kill(lab.world->server.pid, SIGSTOP);
    for (unsigned i = 0; i < 3; i++)
        send_batch(make_batch(1, LARGE), i);
    send_batch(make_batch(1, 10), 3); /* gathered, and then it waits like the third */
    store_free(lab.store);
    lab.store = NULL;
    assert_int_equal(lab.done, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(lab.slots[i].done, 1);
        assert_int_equal(lab.slots[i].stored, i < 2 ? STORED_UNKNOWN : STORED_NOTHING);
    }
    kill(lab.world->server.pid, SIGCONT);
}

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, setup_server, teardown_store)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(test_batch_is_confirmed),
        WITH_STORE(test_duplicates_and_gap_are_counted),
        WITH_STORE(test_missing_script_is_sent_whole),
        WITH_STORE(test_refusal_is_told_and_passes),
        WITH_STORE(test_forgotten_batch_is_stored),
        WITH_STORE(test_small_batches_share_a_command),
        WITH_STORE(test_large_and_numbered_batches_go_alone),
        WITH_STORE(test_waiting_batches_follow_in_order),
        WITH_STORE(test_killed_redis_leaves_sent_batches_unknown),
        WITH_STORE(test_too_much_in_flight_is_refused),
        cmocka_unit_test_setup_teardown(test_nothing_is_taken_without_redis, setup, teardown_store),
        WITH_STORE(test_free_answers_all),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("logd/store", tests, NULL, NULL);
}
