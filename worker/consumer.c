/* consumer.c: opens the stream, and reads batches ahead. */
#include "worker/consumer.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/diag.h"
#include "common/redis/link.h"
#include "common/redis/settings.h"
#include "common/timer.h"
#include "worker/groups.h"
#include "worker/reader.h"
#include "worker/weight.h"

#define AHEAD          2 /* a batch with the committer, and a read or a batch behind it */
#define STANDBY_MAX_MS 1000
#define PAUSE_MIN_MS   100
#define PAUSE_MAX_MS   5000

enum phase {
    PHASE_DOWN,    /* waits for both connections, for reads and commits of before to end */
    PHASE_OPENING, /* the opening is unanswered */
    PHASE_STANDBY, /* another worker owns the stream; the timer tries to open it again */
    PHASE_READING, /* the stream is this worker's */
    PHASE_PAUSE,   /* something was refused; the timer tries to open the stream again */
    PHASE_STOPPED, /* nothing is read any more */
};

static const char *const phase_names[] = {
    [PHASE_DOWN] = "down",       [PHASE_OPENING] = "opening", [PHASE_STANDBY] = "standby",
    [PHASE_READING] = "reading", [PHASE_PAUSE] = "pause",     [PHASE_STOPPED] = "stopped",
};

struct consumer {
    const struct config *config; /* borrowed, like sink and stats */
    struct sink *sink;
    struct worker_stats *stats;
    void (*finished)(void *arg);
    void *arg;
    struct reader *reader;       /* NULL once stopped */
    struct redis_link *commands; /* all but reading */
    struct lease *lease;
    struct committer *committer;
    struct groups groups;
    enum phase phase;
    struct event *timer; /* of PHASE_STANDBY and PHASE_PAUSE */
    int64_t pause_ms;    /* the next pause */
    bool announced;      /* the ready line was printed */
    bool giving_back;    /* the lease, at the end */
    struct weight weight;
    struct stream_id cursor;            /* the last entry that was read */
    bool in_hand_due;                   /* the read under way is to bring the batch in hand */
    struct stream_batch batches[AHEAD]; /* ring */
    unsigned first, count;              /* batches in use */
    bool begun;                         /* the committer has the first one */
    char problem[256];                  /* of PHASE_PAUSE and PHASE_STANDBY */
};

static void pump(struct consumer *c);

/* ---- Phases ---- */

/* The one place where the phase changes. */
static void set_phase(struct consumer *c, enum phase phase)
{
    if (phase != c->phase)
        diag_debug("consumer: %s -> %s", phase_names[c->phase], phase_names[phase]);
    if (c->phase == PHASE_PAUSE || c->phase == PHASE_STANDBY)
        event_del(c->timer);
    c->phase = phase;
}

/* Batches that are not in the committer's hands will be read again. */
static void drop_read_ahead(struct consumer *c)
{
    while (c->count > (c->begun ? 1 : 0))
        c->stats->dropped += c->batches[(c->first + --c->count) % AHEAD].read;
}

/* What was read counts no more. The stream is opened again when the reads under way have ended, and
 * the committer has let go of its batch. */
static void end_reading(struct consumer *c, bool lease_replaced)
{
    if (c->phase == PHASE_STOPPED)
        return;
    set_phase(c, PHASE_DOWN);
    lease_close(c->lease, lease_replaced);
    drop_read_ahead(c);
    commit_leave(c->committer);
    if (reader_busy(c->reader)) /* it may block for long */
        reader_renew(c->reader);
}

/* Tries again after a while that grows as long as nothing can be read. */
static void pause_reading(struct consumer *c, const char *why)
{
    end_reading(c, false);
    if (c->phase == PHASE_STOPPED)
        return;
    snprintf(c->problem, sizeof(c->problem), "%s", why);
    set_phase(c, PHASE_PAUSE);
    timer_set(c->timer, c->pause_ms);
    c->pause_ms = c->pause_ms * 2 < PAUSE_MAX_MS ? c->pause_ms * 2 : PAUSE_MAX_MS;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    set_phase(arg, PHASE_DOWN);
    pump(arg);
}

/* ---- Reading ---- */

/* Keeps the entries as a batch. */
static void take(struct consumer *c, const struct redis_reply *entries)
{
    struct stream_batch *b = &c->batches[(c->first + c->count) % AHEAD];
    const char *why;
    b->noting = lease_noting(c->lease);
    if (!batch_read(b, c->config, c->sink, entries, &why)) {
        static struct diag_limit limit;
        diag_error_limited(&limit, "a batch cannot be taken: %s; it is read again", why);
        weight_fail(&c->weight);
        pause_reading(c, why);
        return;
    }
    c->stats->read += b->read;
    c->cursor = b->last;
    weight_learn(&c->weight, b->read, b->heaviest);
    c->pause_ms = PAUSE_MIN_MS;
    c->count++;
}

static void on_entries(const struct redis_reply *entries, void *arg)
{
    struct consumer *c = arg;
    c->in_hand_due = false;
    if (c->phase == PHASE_READING)
        take(c, entries);
    pump(c);
}

/* The batch in hand, which the opening has seen, may have been committed by another worker. */
static void on_none(void *arg)
{
    struct consumer *c = arg;
    if (c->phase == PHASE_READING && c->in_hand_due)
        end_reading(c, false);
    pump(c);
}

static void on_refused(const char *why, void *arg)
{
    static struct diag_limit limit;
    struct consumer *c = arg;
    if (c->phase == PHASE_READING) {
        diag_error_limited(&limit, "Redis refused to read %s: %s; it is tried again",
                           c->config->stream, why);
        pause_reading(c, "Redis refuses to deliver entries");
    }
    pump(c);
}

/* A heavy batch is committed before the next one is read, so that memory holds one of them. */
static unsigned batches_wanted(const struct consumer *c)
{
    return c->count > 0 && (int64_t)c->batches[c->first].lines.len > c->config->batch_bytes * 2
               ? 1
               : AHEAD;
}

/* ---- The lease ---- */

static void announce(struct consumer *c)
{
    const struct config *config = c->config;
    if (c->announced)
        return;
    c->announced = true;
    printf("logworker: consuming %s from %s, writing %s (level %s and above)\n", config->stream,
           config->redis.shown, config->output, level_name(config->level));
    fflush(stdout);
}

/* The batch that was in hand comes first, as a whole. */
static void begin_reading(struct consumer *c, const struct lease_opening *o)
{
    struct stream_id first, last;
    set_phase(c, PHASE_READING);
    c->stats->openings++;
    c->cursor = (struct stream_id){0, 0};
    c->in_hand_due = false;
    weight_begin(&c->weight);
    announce(c);
    if (o->empty || !sink_in_hand(c->sink, &first, &last) || !stream_id_equal(first, o->first))
        return;
    c->in_hand_due = reader_range(c->reader, first, last);
    if (!c->in_hand_due)
        end_reading(c, false);
}

static void on_opened(const struct lease_opening *o, void *arg)
{
    struct consumer *c = arg;
    if (c->phase == PHASE_OPENING)
        begin_reading(c, o);
    pump(c);
}

static void on_standby(void *arg)
{
    struct consumer *c = arg;
    if (c->phase == PHASE_OPENING) {
        int64_t ms = c->config->lease_ms / 3;
        set_phase(c, PHASE_STANDBY);
        snprintf(c->problem, sizeof(c->problem), "standing by: the stream is owned by %.200s",
                 lease_owner(c->lease));
        timer_set(c->timer, ms < STANDBY_MAX_MS ? ms : STANDBY_MAX_MS);
    }
    pump(c);
}

static void on_open_failed(const char *why, void *arg)
{
    static struct diag_limit limit;
    struct consumer *c = arg;
    if (why != NULL && c->phase == PHASE_OPENING) {
        diag_error_limited(&limit, "cannot open %s: %s; it is tried again", c->config->stream, why);
        pause_reading(c, why);
    }
    pump(c);
}

/* Entries that no read will bring: they lie before the cursor, and no batch is in hand. */
static void on_looked(void *arg)
{
    struct consumer *c = arg;
    const struct account *a = lease_account(c->lease);
    bool some = a->length > 0;
    if (c->phase == PHASE_READING && some && c->count == 0 && commit_idle(c->committer) &&
        !stream_id_after(a->first, c->cursor)) {
        diag_warn("%s has entries before the last one that was read: ids ran backwards",
                  c->config->stream);
        end_reading(c, false);
    }
    groups_look(&c->groups, c->commands, c->config, a);
    pump(c);
}

static void on_lost(const char *why, void *arg)
{
    struct consumer *c = arg;
    diag_warn("%s: %s is opened again", why, c->config->stream);
    end_reading(c, false);
    pump(c);
}

static void on_given_back(void *arg)
{
    struct consumer *c = arg;
    c->giving_back = false;
    c->finished(c->arg);
}

/* ---- The connections ---- */

static void on_ready(void *arg)
{
    pump(arg);
}

static void on_commands_ready(void *arg)
{
    struct consumer *c = arg;
    if (c->announced)
        diag_info("connected to Redis again");
    (void)settings_check(c->commands, SETTINGS_EVICTION);
    pump(c);
}

static void on_reader_down(void *arg)
{
    struct consumer *c = arg;
    if (c->phase == PHASE_READING) {
        weight_fail(&c->weight);
        end_reading(c, false);
    }
    pump(c);
}

static void on_down(const char *why, void *arg)
{
    static struct diag_limit limit;
    struct consumer *c = arg;
    diag_warn_limited(&limit, "the connection to Redis at %s broke: %s", c->config->redis.shown,
                      why);
    if (c->phase != PHASE_STOPPED)
        end_reading(c, false);
    pump(c);
}

static void on_failed(const char *why, void *arg)
{
    static struct diag_limit limit;
    struct consumer *c = arg;
    diag_warn_limited(&limit, "cannot connect to Redis at %s: %s; it is tried again",
                      c->config->redis.shown, why);
}

/* ---- The committer ---- */

static void on_done(enum commit_result result, void *arg)
{
    struct consumer *c = arg;
    c->begun = false;
    c->first = (c->first + 1) % AHEAD;
    c->count--;
    if (result == COMMIT_NO_BATCH)
        diag_warn("%s was changed by somebody else: it is opened again", c->config->stream);
    if (result != COMMIT_DONE && c->phase == PHASE_READING)
        end_reading(c, result == COMMIT_NO_LEASE);
    pump(c);
}

/* Does what can be done now. */
static void pump(struct consumer *c)
{
    if (c->count > 0 && !c->begun) {
        c->begun = true;
        commit_begin(c->committer, &c->batches[c->first]);
    }
    if (c->phase == PHASE_DOWN && c->count == 0 && reader_ready(c->reader) &&
        !reader_busy(c->reader) && lease_open(c->lease))
        set_phase(c, PHASE_OPENING);
    if (c->phase == PHASE_READING && !reader_busy(c->reader) && c->count < batches_wanted(c))
        (void)reader_read(c->reader, c->cursor, c->weight.count);
    if (c->phase == PHASE_STOPPED && c->count == 0 && !c->giving_back) {
        c->giving_back = lease_give_back(c->lease);
        if (!c->giving_back)
            c->finished(c->arg);
    }
}

/* ---- Life ---- */

static struct redis_link *new_commands(struct event_base *base, struct consumer *c)
{
    static const struct redis_link_events events = {
        .ready = on_commands_ready, .down = on_down, .failed = on_failed};
    const struct redis_link_config link = {.name = "commands",
                                           .url = &c->config->redis,
                                           .connect_timeout_ms = c->config->redis_timeout_ms,
                                           .reply_timeout_ms = c->config->redis_timeout_ms,
                                           .backoff_min_ms = REDIS_BACKOFF_MIN_MS,
                                           .backoff_max_ms = REDIS_BACKOFF_MAX_MS};
    return redis_link_new(base, &link, &events, c);
}

static bool set_up(struct consumer *c, struct event_base *base)
{
    static const struct reader_events reader = {.ready = on_ready,
                                                .down = on_reader_down,
                                                .entries = on_entries,
                                                .none = on_none,
                                                .refused = on_refused};
    static const struct lease_events lease = {.opened = on_opened,
                                              .standby = on_standby,
                                              .failed = on_open_failed,
                                              .looked = on_looked,
                                              .lost = on_lost,
                                              .given_back = on_given_back};
    c->timer = event_new(base, -1, 0, on_timer, c);
    c->reader = reader_new(base, c->config, &reader, c);
    c->commands = new_commands(base, c);
    if (c->timer == NULL || c->reader == NULL || c->commands == NULL)
        return false;
    c->lease = lease_new(base, c->config, c->sink, c->commands, &lease, c);
    if (c->lease == NULL)
        return false;
    c->committer =
        commit_new(base, c->config, c->sink, c->commands, c->lease, c->stats, on_done, c);
    return c->committer != NULL;
}

struct consumer *consumer_new(struct event_base *base, const struct config *config,
                              struct sink *sink, struct worker_stats *stats,
                              void (*finished)(void *arg), void *arg)
{
    struct consumer *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    c->config = config;
    c->sink = sink;
    c->stats = stats;
    c->finished = finished;
    c->arg = arg;
    c->pause_ms = PAUSE_MIN_MS;
    c->weight = (struct weight){
        .entries_max = config->batch, .bytes_max = config->batch_bytes, .ceiling = config->batch};
    if (set_up(c, base))
        return c;
    consumer_free(c);
    return NULL;
}

const char *consumer_problem(const struct consumer *c)
{
    switch (c->phase) {
    case PHASE_DOWN:
        return consumer_connected(c) ? "the stream is being opened" : "Redis does not answer";
    case PHASE_OPENING:
        return "the stream is being opened";
    case PHASE_STANDBY:
    case PHASE_PAUSE:
        return c->problem;
    case PHASE_STOPPED:
        return "stopping";
    default:
        return commit_stuck(c->committer);
    }
}

bool consumer_connected(const struct consumer *c)
{
    return c->reader != NULL && reader_ready(c->reader) && redis_link_ready(c->commands);
}

const struct account *consumer_account(const struct consumer *c)
{
    return lease_account(c->lease);
}

struct committer *consumer_committer(struct consumer *c)
{
    return c->committer;
}

void consumer_stop(struct consumer *c)
{
    struct reader *reader = c->reader;
    set_phase(c, PHASE_STOPPED);
    drop_read_ahead(c);
    c->reader = NULL;
    reader_free(reader);
    pump(c);
}

void consumer_free(struct consumer *c)
{
    if (c == NULL)
        return;
    c->phase = PHASE_STOPPED;
    reader_free(c->reader);
    redis_link_free(c->commands);
    commit_free(c->committer);
    lease_free(c->lease);
    for (unsigned i = 0; i < AHEAD; i++)
        batch_free(&c->batches[i]);
    if (c->timer != NULL)
        event_free(c->timer);
    free(c);
}
