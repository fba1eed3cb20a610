/* commit.c: works a batch off, step by step, each in a turn of the event loop of its own. */
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

enum commit_state {
    COMMIT_IDLE,    /* no batch is in hand */
    COMMIT_BEGUN,   /* a batch is in hand; the loop goes on with it */
    COMMIT_MOVING,  /* the reply for one of its dead letters is outstanding */
    COMMIT_LEAVING, /* the same, but with the reply the batch is dropped */
    COMMIT_REFUSED, /* Redis refused to move the dead letter; the timer tries it again */
    COMMIT_DROPPED, /* the batch is given up; the loop says so */
    COMMIT_STUCK,   /* the log cannot be written; the timer tries it again */
    COMMIT_STALE,   /* the same, but the batch will not be acknowledged */
    COMMIT_FREED,   /* commit_free() was called; replies only count down */
};

static const char *const state_names[] = {
    [COMMIT_IDLE] = "idle",       [COMMIT_BEGUN] = "begun",     [COMMIT_MOVING] = "moving",
    [COMMIT_LEAVING] = "leaving", [COMMIT_REFUSED] = "refused", [COMMIT_DROPPED] = "dropped",
    [COMMIT_STUCK] = "stuck",     [COMMIT_STALE] = "stale",     [COMMIT_FREED] = "freed",
};

struct committer {
    const struct config *config; /* borrowed, like sink and stats */
    struct sink *sink;
    struct worker_stats *stats;
    struct commit_events events;
    void *arg;
    struct redis_link *link;
    enum commit_state state;
    struct stream_batch *batch; /* in hand; NULL in COMMIT_IDLE */
    struct event *turn;         /* goes on with the batch: at once, or as a timer */
    struct event *reopen;       /* runs when the reopening is to be tried again */
    struct event *replay;       /* runs when an acknowledgement was not confirmed */
    unsigned unanswered;        /* commands of acknowledgements without a reply */
    char stuck[128];            /* why the log cannot be written or reopened; "": it can */
    struct buf command;
};

/* ---- States ---- */

/* The one place where the state changes, and what belongs to the new one begins. */
static void set_state(struct committer *c, enum commit_state state)
{
    if (state != c->state)
        diag_debug("commit: %s -> %s", state_names[c->state], state_names[state]);
    c->state = state;
    if (state == COMMIT_BEGUN || state == COMMIT_DROPPED)
        event_active(c->turn, EV_TIMEOUT, 0);
    else if (state == COMMIT_REFUSED || state == COMMIT_STUCK || state == COMMIT_STALE)
        timer_set(c->turn, RETRY_MS);
}

static bool is_stuck(const struct committer *c)
{
    return c->state == COMMIT_STUCK || c->state == COMMIT_STALE;
}

/* Gives a batch up that is not being written. */
static void leave(struct committer *c)
{
    if (c->state == COMMIT_MOVING)
        set_state(c, COMMIT_LEAVING);
    else if (c->state == COMMIT_BEGUN || c->state == COMMIT_REFUSED)
        set_state(c, COMMIT_DROPPED);
}

/* The completion of a batch. */
static void finish(struct committer *c, bool written)
{
    const struct stream_batch *b = c->batch;
    if (written) {
        c->stats->written += b->written;
        c->stats->filtered += b->filtered;
        c->stats->skipped += b->skipped;
        c->stats->batches++;
    } else {
        c->stats->dropped += b->read - b->dead_moved;
    }
    c->batch = NULL;
    set_state(c, COMMIT_IDLE);
    c->events.done(written, c->arg);
}

/* ---- Acknowledging ---- */

/* Not at once: what is refused now would be refused again, and again. */
static void ask_for_replay(struct committer *c)
{
    if (!event_pending(c->replay, EV_TIMEOUT, NULL))
        timer_set(c->replay, RETRY_MS);
}

static void on_replay(evutil_socket_t fd, short what, void *arg)
{
    struct committer *c = arg;
    (void)fd, (void)what;
    c->events.replay(c->arg);
}

static void on_acknowledged(const struct redis_reply *reply, void *arg)
{
    static struct diag_limit limit;
    struct committer *c = arg;
    c->unanswered--;
    if (c->state == COMMIT_FREED)
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
    if (!redis_link_send_buf(c->link, &c->command, on_acknowledged, c))
        return false;
    c->unanswered++;
    return true;
}

/* XDEL comes first: the next replay finds an entry that is deleted but still pending; nobody finds
 * one that is acknowledged but not deleted. */
static void acknowledge(struct committer *c)
{
    CRASH_POINT();
    if (c->batch->id_count == 0 || c->state == COMMIT_STALE)
        return;
    if (!send_ids(c, "XDEL", NULL) || !send_ids(c, "XACK", c->config->group))
        ask_for_replay(c);
}

/* ---- The log ---- */

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

/* Nothing is said while the reopening fails, though lines go to the old file. */
static void say_unstuck(struct committer *c)
{
    if (c->stuck[0] == '\0' || event_pending(c->reopen, EV_TIMEOUT, NULL))
        return;
    diag_info("%s can be written again", c->config->output);
    c->stuck[0] = '\0';
}

/* Whether the batch is in the log now. */
static bool write_batch(struct committer *c)
{
    const struct stream_batch *b = c->batch;
    if (b->fresh &&
        (!sink_settle(c->sink, b->replayed) || !sink_commit(c->sink, &b->lines, b->last_fresh))) {
        say_stuck(c, "write");
        return false;
    }
    say_unstuck(c);
    return true;
}

void commit_reopen(struct committer *c)
{
    if (!sink_reopen(c->sink)) {
        say_stuck(c, "reopen");
        timer_set(c->reopen, RETRY_MS);
        return;
    }
    event_del(c->reopen);
    if (is_stuck(c))
        event_active(c->turn, EV_TIMEOUT, 0); /* the new file may lie where there is room */
    else
        say_unstuck(c);
}

static void on_reopen(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    commit_reopen(arg);
}

/* ---- The batch ---- */

static void on_moved(const struct redis_reply *reply, void *arg);

/* Goes on with the batch until it is done, or has to wait. */
static void step(struct committer *c)
{
    const struct stream_batch *b = c->batch;
    if (b->dead_moved < b->dead_count) {
        struct span command = batch_next_dead(b).command;
        bool sent = redis_link_send(c->link, command.p, command.n, on_moved, c);
        set_state(c, sent ? COMMIT_MOVING : COMMIT_DROPPED);
    } else if (write_batch(c)) {
        acknowledge(c);
        finish(c, true);
    } else {
        set_state(c, c->state == COMMIT_STALE ? COMMIT_STALE : COMMIT_STUCK);
    }
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    struct committer *c = arg;
    (void)fd, (void)what;
    if (c->state == COMMIT_DROPPED)
        finish(c, false);
    else
        step(c);
}

static void count_moved(struct committer *c)
{
    static struct diag_limit limit;
    struct dead_letter letter = batch_next_dead(c->batch);
    char id[STREAM_ID_TEXT_MAX];
    stream_id_format(letter.id, id);
    diag_warn_limited(&limit, "entry %s is malformed, and was moved to %s: %.*s", id,
                      c->config->dead_key, (int)letter.reason.n, letter.reason.p);
    c->stats->dead++;
    c->batch->dead_moved++;
}

static void on_moved(const struct redis_reply *reply, void *arg)
{
    static struct diag_limit limit;
    struct committer *c = arg;
    bool refused = reply != NULL && reply_type(reply) == REPLY_ERROR;
    if (c->state == COMMIT_FREED)
        return;
    if (reply != NULL && !refused)
        count_moved(c);
    if (reply == NULL || c->state == COMMIT_LEAVING) {
        finish(c, false);
    } else if (refused) {
        diag_error_limited(
            &limit, "cannot move a malformed entry to %s: %.*s; it is tried again every second",
            c->config->dead_key, (int)reply_span(reply).n, reply_span(reply).p);
        set_state(c, COMMIT_REFUSED);
    } else {
        step(c);
    }
}

/* ---- The link ---- */

static void on_ready(void *arg)
{
    struct committer *c = arg;
    c->events.changed(c->arg);
}

static void on_down(const char *why, void *arg)
{
    (void)why; /* the reading link says it */
    on_ready(arg);
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
    c->turn = event_new(base, -1, 0, on_turn, c);
    c->reopen = event_new(base, -1, 0, on_reopen, c);
    c->replay = event_new(base, -1, 0, on_replay, c);
    c->link = redis_link_new(base, &link, &link_events, c);
    if (c->turn != NULL && c->reopen != NULL && c->replay != NULL && c->link != NULL)
        return c;
    commit_free(c);
    return NULL;
}

bool commit_ready(const struct committer *c)
{
    return redis_link_ready(c->link) && c->unanswered < UNANSWERED_MAX;
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
    set_state(c, COMMIT_BEGUN);
}

void commit_stale(struct committer *c)
{
    if (c->state == COMMIT_STUCK)
        set_state(c, COMMIT_STALE);
    else
        leave(c);
}

void commit_stop(struct committer *c)
{
    leave(c);
}

struct redis_link *commit_link(struct committer *c)
{
    return c->link;
}

static void free_event(struct event *event)
{
    if (event != NULL)
        event_free(event);
}

void commit_free(struct committer *c)
{
    if (c == NULL)
        return;
    set_state(c, COMMIT_FREED);
    redis_link_free(c->link);
    free_event(c->turn);
    free_event(c->reopen);
    free_event(c->replay);
    buf_free(&c->command);
    free(c);
}
