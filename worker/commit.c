#include "worker/commit.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash.h"
#include "common/diag.h"
#include "common/redis/link.h"
#include "common/redis/resp.h"
#include "common/timer.h"

#define RETRY_MS       1000
#define UNANSWERED_MAX 64 /* acknowledgements, two commands a batch */

struct committer {
    const struct config *config; /* borrowed, like writer and stats */
    struct sink *sink;
    struct worker_stats *stats;
    struct commit_events events;
    void *arg;
    struct redis_link *link;
    struct event *retry;  /* runs while the batch or the reopening waits for another attempt */
    struct event *replay; /* runs when an acknowledgement was not confirmed */
    struct stream_batch *batch; /* in hand, or NULL */
    bool moving;                /* the reply for a dead letter of it is outstanding */
    bool stale;                 /* see commit_stale() */
    bool stopping;
    bool freeing;        /* callbacks only count down */
    bool reopen_wanted;  /* an attempt failed */
    unsigned unanswered; /* commands of acknowledgements without a reply */
    char stuck[128];     /* why the log cannot be written; "": it can */
    struct buf command;
};

static void step(struct committer *c);

static void wait_and_retry(struct committer *c)
{
    timer_set(c->retry, RETRY_MS);
}

/* ---- Acknowledging ---- */

/* Not at once: what is refused now would be refused again, and again. */
static void ask_for_replay(struct committer *c)
{
    if (!event_pending(c->replay, EV_TIMEOUT, NULL))
        timer_set(c->replay, RETRY_MS);
}

static void on_acknowledged(const struct redis_reply *reply, void *arg)
{
    static struct diag_limit limit;
    struct committer *c = arg;
    c->unanswered--;
    if (c->freeing)
        return;
    if (reply == NULL || reply_type(reply) == REPLY_ERROR)
        ask_for_replay(c);
    if (reply != NULL && reply_type(reply) == REPLY_ERROR)
        diag_warn_limited(&limit, "Redis refused to acknowledge entries: %.*s",
                          (int)reply_span(reply).n, reply_span(reply).p);
    c->events.changed(c->arg);
}

static bool send_ids(struct committer *c, const char *name, const char *group)
{
    buf_clear(&c->command);
    resp_begin(&c->command, (group != NULL ? 3 : 2) + c->batch->id_count);
    resp_arg_str(&c->command, name);
    resp_arg_str(&c->command, c->config->stream);
    if (group != NULL)
        resp_arg_str(&c->command, group);
    buf_add(&c->command, c->batch->ids.data, c->batch->ids.len);
    if (c->command.failed ||
        !redis_link_send(c->link, c->command.data, c->command.len, on_acknowledged, c))
        return false;
    c->unanswered++;
    return true;
}

/* XDEL comes first: what is deleted but still pending is found by the next replay; what were
 * acknowledged but not deleted nobody would find again. */
static void acknowledge(struct committer *c)
{
    CRASH_POINT();
    if (c->batch->id_count == 0 || c->stale)
        return;
    if (!send_ids(c, "XDEL", NULL) || !send_ids(c, "XACK", c->config->group))
        ask_for_replay(c);
}

/* ---- The batch ---- */

static void done(struct committer *c)
{
    const struct stream_batch *b = c->batch;
    c->stats->written += b->written;
    c->stats->filtered += b->filtered;
    c->stats->skipped += b->skipped;
    c->stats->batches++;
    c->batch = NULL;
}

static void drop(struct committer *c)
{
    c->stats->dropped += c->batch->read - c->batch->dead_moved;
    c->batch = NULL;
    event_del(c->retry);
    if (c->reopen_wanted)
        wait_and_retry(c);
}

static void say_stuck(struct committer *c, const char *what)
{
    static struct diag_limit limit;
    c->stats->write_errors++;
    snprintf(c->stuck, sizeof(c->stuck), "%s", strerror(errno));
    diag_error_limited(&limit,
                       "cannot %s %s or its state file: %s; entries wait in Redis, and it is tried "
                       "again every second",
                       what, c->config->output, c->stuck);
}

/* True when the batch is in the log. */
static bool write_batch(struct committer *c)
{
    struct stream_batch *b = c->batch;
    if (b->fresh &&
        (!sink_settle(c->sink, b->replayed) || !sink_commit(c->sink, &b->lines, b->last_fresh))) {
        say_stuck(c, "write");
        return false;
    }
    if (c->stuck[0] != '\0')
        diag_info("%s can be written again", c->config->output);
    c->stuck[0] = '\0';
    return true;
}

static void on_moved(const struct redis_reply *reply, void *arg)
{
    static struct diag_limit limit;
    struct committer *c = arg;
    c->moving = false;
    if (c->freeing)
        return;
    if (reply != NULL && reply_type(reply) != REPLY_ERROR) {
        c->stats->dead++;
        c->batch->dead_moved++;
    }
    if (reply == NULL || c->stale || (c->stopping && reply_type(reply) == REPLY_ERROR)) {
        drop(c);
        c->events.dropped(c->arg);
        return;
    }
    if (reply_type(reply) == REPLY_ERROR) {
        diag_error_limited(
            &limit, "cannot move a malformed entry to %s: %.*s; it is tried again every second",
            c->config->dead_key, (int)reply_span(reply).n, reply_span(reply).p);
        wait_and_retry(c);
        return;
    }
    step(c);
    c->events.changed(c->arg);
}

/* Goes on with the batch until it is done, or has to wait. */
static void step(struct committer *c)
{
    struct stream_batch *b = c->batch;
    if (b->dead_moved < b->dead_count) {
        struct span command = batch_next_dead(b);
        c->moving = redis_link_send(c->link, command.p, command.n, on_moved, c);
        if (!c->moving) {
            drop(c);
            c->events.dropped(c->arg);
        }
        return;
    }
    if (!write_batch(c)) {
        wait_and_retry(c);
        return;
    }
    acknowledge(c);
    done(c);
}

static void try_to_reopen(struct committer *c)
{
    c->reopen_wanted = !sink_reopen(c->sink);
    if (c->reopen_wanted) {
        say_stuck(c, "reopen");
        wait_and_retry(c);
    }
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    struct committer *c = arg;
    (void)fd, (void)what;
    if (c->reopen_wanted)
        try_to_reopen(c);
    if (c->batch != NULL && !c->moving)
        step(c);
    c->events.changed(c->arg);
}

static void on_replay(evutil_socket_t fd, short what, void *arg)
{
    struct committer *c = arg;
    (void)fd, (void)what;
    c->events.replay(c->arg);
}

/* ---- The link ---- */

static void on_ready(void *arg)
{
    struct committer *c = arg;
    c->events.changed(c->arg);
}

static void on_down(const char *why, void *arg)
{
    struct committer *c = arg;
    (void)why; /* the reading link says it */
    c->events.changed(c->arg);
}

/* ---- Life ---- */

struct committer *commit_new(struct event_base *base, const struct config *config,
                             struct sink *sink, struct worker_stats *stats,
                             const struct commit_events *events, void *arg)
{
    const struct redis_link_config link = {.name = "committer",
                                           .url = &config->redis,
                                           .connect_timeout_ms = config->redis_timeout_ms,
                                           .reply_timeout_ms = config->redis_timeout_ms,
                                           .backoff_min_ms = REDIS_BACKOFF_MIN_MS,
                                           .backoff_max_ms = REDIS_BACKOFF_MAX_MS};
    const struct redis_link_events link_events = {.ready = on_ready, .down = on_down};
    struct committer *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    c->config = config;
    c->sink = sink;
    c->stats = stats;
    c->events = *events;
    c->arg = arg;
    c->retry = event_new(base, -1, 0, on_retry, c);
    c->replay = event_new(base, -1, 0, on_replay, c);
    c->link = redis_link_new(base, &link, &link_events, c);
    if (c->retry != NULL && c->replay != NULL && c->link != NULL)
        return c;
    commit_free(c);
    return NULL;
}

bool commit_ready(const struct committer *c)
{
    return redis_link_ready(c->link) && c->unanswered < UNANSWERED_MAX;
}

bool commit_busy(const struct committer *c)
{
    return c->batch != NULL;
}

bool commit_unanswered(const struct committer *c)
{
    return c->unanswered > 0;
}

const char *commit_stuck(const struct committer *c)
{
    return c->stuck[0] != '\0' ? c->stuck : NULL;
}

void commit_begin(struct committer *c, struct stream_batch *batch)
{
    c->batch = batch;
    c->stale = false;
    step(c);
}

void commit_stale(struct committer *c)
{
    c->stale = true;
    if (c->batch != NULL && !c->moving && c->batch->dead_moved < c->batch->dead_count)
        drop(c);
}

void commit_reopen(struct committer *c)
{
    try_to_reopen(c);
    if (c->batch != NULL && !c->moving && !c->reopen_wanted) {
        event_del(c->retry);
        step(c);
        c->events.changed(c->arg);
    }
}

void commit_stop(struct committer *c)
{
    c->stopping = true;
    if (c->batch != NULL && !c->moving && c->batch->dead_moved < c->batch->dead_count)
        drop(c);
}

struct redis_link *commit_link(struct committer *c)
{
    return c->link;
}

void commit_free(struct committer *c)
{
    if (c == NULL)
        return;
    c->freeing = true;
    redis_link_free(c->link);
    if (c->retry != NULL)
        event_free(c->retry);
    if (c->replay != NULL)
        event_free(c->replay);
    buf_free(&c->command);
    free(c);
}
