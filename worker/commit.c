/* commit.c: works a batch off, step by step. */
#include "worker/commit.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash.h"
#include "common/diag.h"
#include "common/redis/resp.h"
#include "common/timer.h"

#define RETRY_MS 1000

enum commit_state {
    COMMIT_IDLE,    /* no batch is in hand */
    COMMIT_BEGUN,   /* a batch is in hand; the loop goes on with it */
    COMMIT_STUCK,   /* the log cannot be written; the timer tries it again */
    COMMIT_SENT,    /* the lines are written, and the commit is unanswered */
    COMMIT_REFUSED, /* Redis answered with an error; the timer sends the commit again */
    COMMIT_LEFT,    /* the batch is given up; the loop says so */
};

static const char *const state_names[] = {
    [COMMIT_IDLE] = "idle", [COMMIT_BEGUN] = "begun",     [COMMIT_STUCK] = "stuck",
    [COMMIT_SENT] = "sent", [COMMIT_REFUSED] = "refused", [COMMIT_LEFT] = "left",
};

struct committer {
    const struct config *config; /* borrowed, like the following */
    struct sink *sink;
    struct redis_link *link;
    struct lease *lease;
    struct worker_stats *stats;
    commit_done_cb *done;
    void *arg;
    enum commit_state state;
    struct stream_batch *batch; /* in hand; NULL in COMMIT_IDLE */
    struct event *turn;         /* goes on with the batch: at once, or as a timer */
    struct event *reopen;       /* runs when the reopening is to be tried again */
    bool reopen_wanted;         /* as soon as the commit is answered */
    char stuck[192];            /* why it cannot go on; "": it can */
    struct buf command;
};

/* ---- States ---- */

/* The one place where the state changes, and what belongs to the new one begins. */
static void set_state(struct committer *c, enum commit_state state)
{
    if (state != c->state)
        diag_debug("commit: %s -> %s", state_names[c->state], state_names[state]);
    c->state = state;
    if (state == COMMIT_BEGUN || state == COMMIT_LEFT)
        event_active(c->turn, EV_TIMEOUT, 0);
    else if (state == COMMIT_REFUSED || state == COMMIT_STUCK)
        timer_set(c->turn, RETRY_MS);
}

/* The completion of a batch. */
static void finish(struct committer *c, enum commit_result result)
{
    if (result != COMMIT_DONE)
        c->stats->dropped += c->batch->read;
    if (!event_pending(c->reopen, EV_TIMEOUT, NULL))
        c->stuck[0] = '\0';
    c->batch = NULL;
    set_state(c, COMMIT_IDLE);
    if (c->reopen_wanted)
        commit_reopen(c);
    c->done(result, c->arg);
}

/* ---- The log ---- */

/* Says why, with errno. */
static void say_stuck(struct committer *c, const char *what)
{
    static struct diag_limit limit;
    c->stats->write_errors++;
    snprintf(c->stuck, sizeof(c->stuck), "%s", strerror(errno));
    diag_error_limited(&limit,
                       "cannot %s %s: %s; nothing is lost: records wait in Redis, and it is tried "
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
    const struct sink_batch lines = {
        .lines = &b->lines, .class = b->class, .first = b->first, .last = b->last};
    if (b->lines.len > 0 && !sink_write(c->sink, &lines)) {
        say_stuck(c, "write");
        return false;
    }
    say_unstuck(c);
    return true;
}

void commit_reopen(struct committer *c)
{
    c->reopen_wanted = c->state == COMMIT_SENT || c->state == COMMIT_REFUSED;
    if (c->reopen_wanted)
        return;
    if (!sink_reopen(c->sink)) {
        say_stuck(c, "reopen");
        timer_set(c->reopen, RETRY_MS);
        return;
    }
    event_del(c->reopen);
    if (c->state == COMMIT_STUCK)
        event_active(c->turn, EV_TIMEOUT, 0); /* the new file may lie where there is room */
    else
        say_unstuck(c);
}

static void on_reopen(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    commit_reopen(arg);
}

/* ---- The commit ---- */

static void tell_dead(const struct stream_batch *b, const char *dead_key)
{
    static struct diag_limit limit;
    for (const char *text = b->told.data, *end = text + b->told.len; text < end;
         text += strlen(text) + 1)
        diag_warn_limited(&limit, "%s; it was moved to %s", text, dead_key);
}

static void tell_unplaced(const struct committer *c)
{
    static struct diag_limit limit;
    if (c->batch->unplaced > 0)
        diag_warn_limited(&limit,
                          "%llu entries that Redis held again are not among the lines of %s that "
                          "could be looked at (--look-back): they are written, and may stand twice",
                          (unsigned long long)c->batch->unplaced, c->config->output);
}

static void confirm(struct committer *c)
{
    const struct stream_batch *b = c->batch;
    sink_confirm(c->sink, b->last);
    tell_dead(b, c->config->dead_key);
    tell_unplaced(c);
    c->stats->written += b->lined;
    c->stats->found += b->found;
    c->stats->filtered += b->filtered;
    c->stats->dead += b->dead_count;
    c->stats->unplaced += b->unplaced;
    c->stats->batches++;
    finish(c, COMMIT_DONE);
}

static void say_refused(struct committer *c, struct span error)
{
    static struct diag_limit limit;
    snprintf(c->stuck, sizeof(c->stuck), "Redis refuses the commit: %.*s",
             error.n < 128 ? (int)error.n : 128, error.p);
    diag_error_limited(&limit,
                       "Redis refused to commit a batch: %.*s; it is tried again every "
                       "second",
                       (int)error.n, error.p);
}

static void on_committed(const struct redis_reply *reply, void *arg)
{
    struct committer *c = arg;
    if (reply == NULL || reply_is_error(reply, "NOSCRIPT")) {
        finish(c, COMMIT_UNKNOWN);
    } else if (reply_type(reply) == REPLY_ERROR) {
        say_refused(c, reply_span(reply));
        set_state(c, COMMIT_REFUSED);
    } else if (account_take(lease_account(c->lease), reply, 0)) {
        confirm(c);
    } else {
        bool lease = span_is(reply_span(reply), "lease");
        finish(c, lease ? COMMIT_NO_LEASE : COMMIT_NO_BATCH);
    }
}

/* False: not sent. */
static bool send_commit(struct committer *c)
{
    const struct stream_batch *b = c->batch;
    struct stream_id after = stream_id_next(b->last);
    char first[STREAM_ID_TEXT_MAX], next[STREAM_ID_TEXT_MAX] = "";
    CRASH_POINT();
    stream_id_format(b->first, first);
    if (!stream_id_equal(after, b->last))
        stream_id_format(after, next);
    lease_begin_commit(c->lease, 6 + 2 * b->dead_count, &c->command);
    resp_words(&c->command, RESP_WORDS(first, next));
    resp_arg(&c->command, b->notes.data, b->notes.len);
    resp_arg_int(&c->command, lease_account(c->lease)->removed);
    resp_arg_int(&c->command, (int64_t)(b->lined + b->found));
    resp_arg_int(&c->command, (int64_t)b->filtered);
    buf_add(&c->command, b->dead.data, b->dead.len);
    return redis_link_send_buf(c->link, &c->command, on_committed, c);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    struct committer *c = arg;
    (void)fd, (void)what;
    if (c->state == COMMIT_LEFT) {
        finish(c, COMMIT_UNKNOWN);
    } else if (c->state != COMMIT_REFUSED && !write_batch(c)) {
        set_state(c, COMMIT_STUCK);
    } else {
        set_state(c, COMMIT_SENT);
        if (!send_commit(c))
            set_state(c, COMMIT_LEFT);
    }
}

/* ---- Life ---- */

struct committer *commit_new(struct event_base *base, const struct config *config,
                             struct sink *sink, struct redis_link *link, struct lease *lease,
                             struct worker_stats *stats, commit_done_cb *done, void *arg)
{
    struct committer *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    c->config = config;
    c->sink = sink;
    c->link = link;
    c->lease = lease;
    c->stats = stats;
    c->done = done;
    c->arg = arg;
    c->turn = event_new(base, -1, 0, on_turn, c);
    c->reopen = event_new(base, -1, 0, on_reopen, c);
    if (c->turn != NULL && c->reopen != NULL)
        return c;
    commit_free(c);
    return NULL;
}

void commit_begin(struct committer *c, struct stream_batch *batch)
{
    c->batch = batch;
    set_state(c, COMMIT_BEGUN);
}

void commit_leave(struct committer *c)
{
    if (c->state == COMMIT_BEGUN || c->state == COMMIT_STUCK || c->state == COMMIT_REFUSED)
        set_state(c, COMMIT_LEFT);
}

bool commit_idle(const struct committer *c)
{
    return c->state == COMMIT_IDLE;
}

const char *commit_stuck(const struct committer *c)
{
    return c->stuck[0] != '\0' ? c->stuck : NULL;
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
    free_event(c->turn);
    free_event(c->reopen);
    buf_free(&c->command);
    free(c);
}
