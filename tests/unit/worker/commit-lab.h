/* commit-lab.h: the committer, with a private Redis and a sink that fails when it is told to, for
 * its tests. */
#ifndef TESTS_UNIT_WORKER_COMMIT_LAB_H
#define TESTS_UNIT_WORKER_COMMIT_LAB_H

#include "tests/unit/worker/run-until.h"

#include "worker/commit.h"

#define ENTRY "service s level warn timestamp 2026-11-24T02:35:02.123Z message"

/* ---- Sink and lease ---- */

struct sink {
    int error;        /* sink_write() fails with it; 0: works */
    int reopen_error; /* so does sink_reopen() */
    bool reopen_heals;
    unsigned writes, reopens; /* calls */
    struct buf log;
    struct sink_batch last; /* the last one that was written */
    unsigned confirms;
    struct stream_id confirmed;
};

static struct {
    struct world *world; /* its own link looks at Redis from beside the committer */
    struct world mine;   /* the committer's */
    struct config config;
    struct sink sink;
    struct worker_stats stats;
    struct account account;
    struct committer *committer;
    struct stream_batch batch, next;
    bool inside; /* a call into the committer is on the stack */
    bool chain;  /* `done` begins with the next batch */
    unsigned done;
    enum commit_result result; /* the last one */
    unsigned reads;            /* batches filled */
    unsigned reopens_at_done;
} lab;

enum entry_class sink_class(const struct sink *s, struct stream_id id)
{
    (void)s, (void)id;
    return ENTRY_NEW;
}

enum line_found sink_find(struct sink *s, enum entry_class class, const char *line, size_t n)
{
    (void)s, (void)class, (void)line, (void)n;
    return LINE_MISSING;
}

bool sink_write(struct sink *s, const struct sink_batch *b)
{
    s->writes++;
    errno = s->error;
    if (s->error != 0)
        return false;
    buf_add(&s->log, b->lines->data, b->lines->len);
    s->last = *b;
    return true;
}

void sink_confirm(struct sink *s, struct stream_id last)
{
    s->confirms++;
    s->confirmed = last;
}

bool sink_reopen(struct sink *s)
{
    s->reopens++;
    errno = s->reopen_error;
    if (s->reopen_error == 0 && s->reopen_heals)
        s->error = 0;
    return s->reopen_error == 0;
}

struct account *lease_account(struct lease *l)
{
    (void)l;
    return &lab.account;
}

void lease_begin_commit(const struct lease *l, size_t count, struct buf *out)
{
    static const struct scripts scripts;
    (void)l;
    scripts_begin(&scripts, SCRIPT_COMMIT, &lab.config, 2 + count, out);
    resp_words(out, RESP_WORDS("lease", "60000"));
}

/* ---- The lab ---- */

#define CALL(call)                                                                                 \
    do {                                                                                           \
        lab.inside = true;                                                                         \
        call;                                                                                      \
        lab.inside = false;                                                                        \
    } while (0)

static inline void on_done(enum commit_result result, void *arg)
{
    (void)arg;
    assert_false(lab.inside);
    assert_true(commit_idle(lab.committer));
    lab.done++;
    lab.result = result;
    lab.reopens_at_done = lab.sink.reopens;
    if (lab.chain) {
        lab.chain = false;
        CALL(commit_begin(lab.committer, &lab.next));
        assert_int_equal(lab.done, 1);
    }
}

static inline void expect(const char *command, const char *expected)
{
    expect_reply(lab.world, command, expected);
}

static inline int set_up(void **state)
{
    static char dead_key[] = "s:dead", owner_key[] = "s:owner", account_key[] = "s:account";
    setup_server(state);
    memset(&lab, 0, sizeof(lab));
    lab.world = *state;
    lab.config = (struct config){.stream = "s",
                                 .output = "app.log",
                                 .dead_key = dead_key,
                                 .owner_key = owner_key,
                                 .account_key = account_key,
                                 .level = LEVEL_WARN};
    open_ready(lab.world);
    lab.mine.base = lab.world->base;
    lab.mine.config = lab.world->config;
    open_link(&lab.mine, lab.world->server.url);
    run_until(&lab.mine, &lab.mine.ready, 1);
    expect("SET s:owner lease", "status OK");
    lab.committer = commit_new(lab.world->base, &lab.config, &lab.sink, lab.mine.link, NULL,
                               &lab.stats, on_done, NULL);
    assert_non_null(lab.committer);
    return 0;
}

static inline int tear_down(void **state)
{
    redis_link_free(lab.mine.link);
    redis_url_free(&lab.mine.url);
    CALL(commit_free(lab.committer));
    batch_free(&lab.batch);
    batch_free(&lab.next);
    buf_free(&lab.sink.log);
    return teardown(state);
}

static inline void add(const char *entry)
{
    char command[256];
    unsigned replies = lab.world->replies + 1;
    snprintf(command, sizeof(command), "XADD s %u-0 %s", replies, entry);
    must_send(lab.world, command);
    run_until(lab.world, &lab.world->replies, replies);
}

static inline void on_range(const struct redis_reply *reply, void *arg)
{
    const char *why;
    assert_true(batch_read(arg, &lab.config, &lab.sink, reply, &why));
    lab.reads++;
}

/* Fills the batch with the entries from one to the other. */
static inline void read_batch(struct stream_batch *b, const char *first, const char *last)
{
    unsigned reads = lab.reads + 1;
    assert_true(redis_link_send_words(lab.world->link, RESP_WORDS("XRANGE", "s", first, last),
                                      on_range, b));
    run_until(lab.world, &lab.reads, reads);
}

static inline void begin(void)
{
    CALL(commit_begin(lab.committer, &lab.batch));
    assert_int_equal(lab.done, 0);
    assert_false(commit_idle(lab.committer));
}

/* A batch of two good entries, or of a malformed and a good one. */
static inline void begin_good(void)
{
    add(ENTRY " one");
    add(ENTRY " two");
    read_batch(&lab.batch, "-", "+");
    begin();
}

static inline void begin_malformed(void)
{
    add("x y");
    add(ENTRY " one");
    read_batch(&lab.batch, "-", "+");
    begin();
}

static inline void run_until_done(enum commit_result result)
{
    run_until(lab.world, &lab.done, 1);
    assert_int_equal(lab.result, result);
    run_briefly(lab.world);
    assert_int_equal(lab.done, 1);
    assert_int_equal(lab.stats.dropped, result == COMMIT_DONE ? 0 : lab.batch.read);
}

static inline void run_until_sent(void)
{
    RUN_UNTIL(lab.world->base, redis_link_pending(lab.mine.link) > 0);
}

static inline size_t log_lines(void)
{
    size_t n = 0;
    for (size_t i = 0; i < lab.sink.log.len; i++)
        n += lab.sink.log.data[i] == '\n';
    return n;
}

static inline void get_stuck(void)
{
    lab.sink.error = ENOSPC;
    begin_good();
    RUN_UNTIL(lab.world->base, commit_stuck(lab.committer) != NULL);
    assert_string_equal(commit_stuck(lab.committer), strerror(ENOSPC));
    assert_int_equal(lab.stats.write_errors, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

#endif
