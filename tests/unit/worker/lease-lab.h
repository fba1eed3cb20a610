/* lease-lab.h: a lease, with a private Redis and a sink that does what it is told to, for its
 * tests. */
#ifndef TESTS_UNIT_WORKER_LEASE_LAB_H
#define TESTS_UNIT_WORKER_LEASE_LAB_H

#include "tests/unit/worker/run-until.h"

#include "worker/lease.h"

#define TOKEN "00112233445566778899aabbccddeeff"
#define OTHER "ffffffffffffffffffffffffffffffff"

/* ---- The sink ---- */

struct sink {
    char token[40];
    struct stream_id last;
    bool in_hand;               /* a batch is */
    int begin_error, cut_error; /* sink_begin() and sink_surrender() fail with it; 0: they work */
    int token_error;
    unsigned begun, cut; /* calls that worked */
    bool empty;          /* what sink_begin() was told */
    struct stream_id first, upto;
    char notes[64]; /* what sink_surrender() was told */
    bool covered;   /* it cuts */
};

static struct {
    struct world *world; /* its own link looks at Redis from beside the lease */
    struct world mine;   /* the lease's */
    struct config config;
    struct sink sink;
    struct lease *lease;
    unsigned opened, standby, failed, looked, lost, given_back;
    struct lease_opening opening;
    char why[256];
    bool inside; /* a call into the lease is on the stack */
} lab;

const char *sink_token(const struct sink *s)
{
    return s->token;
}

bool sink_new_token(struct sink *s)
{
    errno = s->token_error;
    if (s->token_error == 0)
        strcpy(s->token, OTHER);
    return s->token_error == 0;
}

struct stream_id sink_last(const struct sink *s)
{
    return s->last;
}

bool sink_in_hand(const struct sink *s, struct stream_id *first, struct stream_id *last)
{
    *first = (struct stream_id){5, 0};
    *last = (struct stream_id){6, 0};
    return s->in_hand;
}

bool sink_begin(struct sink *s, const struct stream_id *first, struct stream_id last)
{
    errno = s->begin_error;
    if (s->begin_error != 0)
        return false;
    s->begun++;
    s->empty = first == NULL;
    if (first != NULL)
        s->first = *first;
    s->upto = last;
    return true;
}

bool sink_surrender(struct sink *s, struct span notes)
{
    snprintf(s->notes, sizeof(s->notes), "%.*s", (int)notes.n, notes.p);
    errno = s->cut_error;
    if (s->cut_error != 0)
        return false;
    s->cut += s->covered;
    s->in_hand = !s->covered;
    return true;
}

/* ---- The lab ---- */

static inline void on_lease_opened(const struct lease_opening *o, void *arg)
{
    (void)arg;
    assert_false(lab.inside);
    lab.opening = *o;
    lab.opened++;
}

static inline void on_standby(void *arg)
{
    (void)arg;
    assert_false(lab.inside);
    lab.standby++;
}

static inline void on_lease_failed(const char *why, void *arg)
{
    (void)arg;
    snprintf(lab.why, sizeof(lab.why), "%s", why == NULL ? "" : why);
    lab.failed++;
}

static inline void on_looked(void *arg)
{
    (void)arg;
    lab.looked++;
}

static inline void on_lost(const char *why, void *arg)
{
    (void)arg;
    assert_false(lab.inside);
    snprintf(lab.why, sizeof(lab.why), "%s", why);
    lab.lost++;
}

static inline void on_given_back(void *arg)
{
    (void)arg;
    lab.given_back++;
}

static inline int set_up(void **state)
{
    static char dead_key[] = "s:dead", owner_key[] = "s:owner", account_key[] = "s:account";
    static const struct lease_events events = {.opened = on_lease_opened,
                                               .standby = on_standby,
                                               .failed = on_lease_failed,
                                               .looked = on_looked,
                                               .lost = on_lost,
                                               .given_back = on_given_back};
    setup_server(state);
    memset(&lab, 0, sizeof(lab));
    lab.world = *state;
    open_ready(lab.world);
    lab.mine.base = lab.world->base;
    lab.mine.config = lab.world->config;
    open_link(&lab.mine, lab.world->server.url);
    run_until(&lab.mine, &lab.mine.ready, 1);
    lab.config = (struct config){.stream = "s",
                                 .output = "/nonexistent/app.log",
                                 .dead_key = dead_key,
                                 .owner_key = owner_key,
                                 .account_key = account_key,
                                 .lease_ms = 60000};
    strcpy(lab.sink.token, TOKEN);
    lab.lease = lease_new(lab.world->base, &lab.config, &lab.sink, lab.mine.link, &events, NULL);
    assert_non_null(lab.lease);
    return 0;
}

static inline int tear_down(void **state)
{
    redis_link_free(lab.mine.link);
    redis_url_free(&lab.mine.url);
    lease_free(lab.lease);
    return teardown(state);
}

static inline void send_open(void)
{
    lab.inside = true;
    assert_true(lease_open(lab.lease));
    lab.inside = false;
}

/* Opens the stream, and expects this one of the counters to go up. */
static inline void open_to(const unsigned *counter)
{
    unsigned target = *counter + 1;
    send_open();
    run_until(lab.world, counter, target);
    assert_int_equal(redis_link_ready(lab.mine.link), true);
}

static inline void open_stream(void)
{
    open_to(&lab.opened);
}

/* Another process's value of the lease. */
static inline void set_owner(const char *value)
{
    struct seen seen = {0};
    assert_true(redis_link_send_words(lab.world->link, RESP_WORDS("SET", "s:owner", value), on_seen,
                                      &seen));
    run_until(lab.world, &seen.count, 1);
}

static inline void expect(const char *command, const char *expected)
{
    expect_reply(lab.world, command, expected);
}

static inline bool owner_has(const char *part)
{
    struct seen seen = {0};
    assert_true(send_words(lab.world, "GET s:owner", on_seen, &seen));
    run_until(lab.world, &seen.count, 1);
    return strstr(seen.text, part) != NULL;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

#endif
