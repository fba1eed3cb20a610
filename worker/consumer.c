/* consumer.c: reads batches ahead, and keeps them in order across connections. */
#include "worker/consumer.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/diag.h"
#include "common/redis/link.h"
#include "common/redis/resp.h"
#include "common/timer.h"
#include "worker/fence.h"
#include "worker/setup.h"
#include "worker/state.h"

#define BLOCK_MS     2000
#define AHEAD        2 /* reads under way, and batches read but not committed, together */
#define PAUSE_MIN_MS 100
#define PAUSE_MAX_MS 5000

enum phase {
    PHASE_DOWN,    /* no connection */
    PHASE_SETUP,   /* earlier connections are closed, then the set-up script runs */
    PHASE_ADOPT,   /* set up; but first a batch of an earlier connection is finished */
    PHASE_PENDING, /* entries are read that were delivered before, but not acknowledged */
    PHASE_NEW,     /* new entries are read */
    PHASE_PAUSE,   /* Redis refused something; the timer begins with the set-up again */
    PHASE_STOPPED, /* nothing is read any more */
};

static const char *const phase_names[] = {
    [PHASE_DOWN] = "down",       [PHASE_SETUP] = "setup", [PHASE_ADOPT] = "adopt",
    [PHASE_PENDING] = "pending", [PHASE_NEW] = "new",     [PHASE_PAUSE] = "pause",
    [PHASE_STOPPED] = "stopped",
};

struct consumer {
    const struct config *config; /* borrowed, like sink and stats */
    struct sink *sink;
    struct worker_stats *stats;
    void (*finished)(void *arg);
    void *arg;
    struct redis_link *reader; /* NULL once stopped */
    struct committer *committer;
    enum phase phase;
    struct fence fence;
    struct event *pause;
    int64_t pause_ms;   /* the next pause */
    bool announced;     /* the ready line was printed */
    bool replay_wanted; /* read the pending entries again as soon as no read is under way */
    char lineage[STATE_TOKEN_LEN + 1]; /* of what the connection delivers */
    struct stream_id seen;   /* last entry that was committed, or read on this connection; up to it
                                entries are skipped */
    struct stream_id cursor; /* of the pending entries read so far */
    unsigned reads;          /* under way */
    struct stream_batch batches[AHEAD]; /* ring */
    unsigned first, count;              /* batches in use */
    bool begun;                         /* the committer has the first one */
    struct buf command, read_new;
};

static void pump(struct consumer *c);

/* ---- Phases ---- */

/* The one place where the phase changes. */
static void set_phase(struct consumer *c, enum phase phase)
{
    diag_debug("consumer: %s -> %s", phase_names[c->phase], phase_names[phase]);
    if (c->phase == PHASE_PAUSE)
        event_del(c->pause);
    c->phase = phase;
}

/* Begins with the set-up again after a while that grows as long as nothing can be read. */
static void pause_reading(struct consumer *c)
{
    if (c->phase == PHASE_PAUSE)
        return;
    set_phase(c, PHASE_PAUSE);
    timer_set(c->pause, c->pause_ms);
    c->pause_ms = c->pause_ms * 2 < PAUSE_MAX_MS ? c->pause_ms * 2 : PAUSE_MAX_MS;
}

static void refused(struct consumer *c, const char *what, const struct redis_reply *reply)
{
    static struct diag_limit limit;
    /* The group is gone with the data. The set-up makes it again, and tells if the data are. */
    if (!reply_is_error(reply, "NOGROUP"))
        diag_error_limited(&limit, "Redis refused %s: %.*s; it is tried again", what,
                           (int)reply_span(reply).n, reply_span(reply).p);
    pause_reading(c);
}

/* ---- Reading ---- */

static void begin_read(struct buf *out, const struct config *config, bool block)
{
    resp_begin(out, block ? 11 : 9);
    resp_words(out, RESP_WORDS("XREADGROUP", "GROUP", config->group, config->consumer, "COUNT"));
    resp_arg_int(out, config->batch);
    if (block) {
        resp_arg_str(out, "BLOCK");
        resp_arg_int(out, BLOCK_MS);
    }
    resp_words(out, RESP_WORDS("STREAMS", config->stream));
}

/* A reply to XREADGROUP is nil, or an array of one stream: its key and its entries. NULL: no
 * entries. */
static const struct redis_reply *entries_of(const struct redis_reply *reply)
{
    const struct redis_reply *stream = reply_count(reply) == 1 ? reply_at(reply, 0) : NULL;
    if (stream == NULL || reply_count(stream) != 2 || reply_count(reply_at(stream, 1)) == 0)
        return NULL;
    return reply_at(stream, 1);
}

/* Keeps the entries as a batch. */
static void take(struct consumer *c, const struct redis_reply *entries, bool replayed)
{
    struct stream_batch *b = &c->batches[(c->first + c->count) % AHEAD];
    const char *why;
    if (!batch_read(b, c->config, entries, c->seen, &why)) {
        diag_error("%s; the connection is made again", why);
        redis_link_reset(c->reader, why);
        return;
    }
    b->replayed = replayed;
    c->stats->read += b->read;
    c->cursor = b->last;
    if (stream_id_after(b->last, c->seen))
        c->seen = b->last;
    c->count++;
}

static void on_read(struct consumer *c, const struct redis_reply *reply, bool replayed)
{
    const struct redis_reply *entries;
    c->reads--;
    if (reply == NULL || (c->phase != PHASE_PENDING && c->phase != PHASE_NEW) ||
        !redis_link_ready(c->reader))
        return;
    if (reply_type(reply) == REPLY_ERROR) {
        refused(c, "XREADGROUP", reply);
        return;
    }
    c->pause_ms = PAUSE_MIN_MS;
    entries = entries_of(reply);
    if (entries != NULL)
        take(c, entries, replayed);
    else if (replayed)
        set_phase(c, PHASE_NEW);
    pump(c);
}

static void on_pending(const struct redis_reply *reply, void *arg)
{
    on_read(arg, reply, true);
}

static void on_new(const struct redis_reply *reply, void *arg)
{
    on_read(arg, reply, false);
}

static void start_replay(struct consumer *c)
{
    c->cursor = (struct stream_id){0, 0};
    c->replay_wanted = false;
    set_phase(c, PHASE_PENDING);
}

/* One read at a time, since each begins where the one before ended. */
static bool read_pending(struct consumer *c)
{
    char id[STREAM_ID_TEXT_MAX];
    size_t n = stream_id_format(c->cursor, id);
    if (c->reads > 0)
        return false;
    buf_clear(&c->command);
    begin_read(&c->command, c->config, false);
    resp_arg(&c->command, id, n);
    return redis_link_send_buf(c->reader, &c->command, on_pending, c);
}

static void read_on(struct consumer *c)
{
    while (c->reads + c->count < AHEAD && commit_ready(c->committer)) {
        if (c->phase == PHASE_NEW && c->replay_wanted) {
            if (c->reads > 0)
                return;
            start_replay(c);
        }
        if (c->phase == PHASE_PENDING ? !read_pending(c)
                                      : !redis_link_send_buf(c->reader, &c->read_new, on_new, c))
            return;
        c->reads++;
    }
}

/* ---- Setting up ---- */

static void announce(struct consumer *c)
{
    const struct config *config = c->config;
    if (c->announced)
        return;
    c->announced = true;
    printf("logworker: consuming %s as %s/%s from %s, writing %s (level %s and above)\n",
           config->stream, config->group, config->consumer, config->redis.shown, config->output,
           level_name(config->level));
    fflush(stdout);
}

/* From here on entries belong to this lineage. */
static void adopt(struct consumer *c)
{
    bool known = sink_lineage(c->sink)[0] != '\0';
    if (!sink_adopt(c->sink, c->lineage) && known)
        diag_warn("Redis has lost its data, or is another server: %s goes on at its end, and all "
                  "entries of %s are new",
                  c->config->output, c->config->stream);
    c->seen = sink_id(c->sink);
    start_replay(c);
    announce(c);
}

static void on_setup(const struct redis_reply *reply, void *arg)
{
    struct consumer *c = arg;
    struct span lineage;
    if (reply == NULL || c->phase != PHASE_SETUP)
        return;
    if (reply_type(reply) == REPLY_ERROR) {
        refused(c, "to set the group up", reply);
        return;
    }
    lineage = reply_span(reply);
    if (!state_token_valid(lineage.p, lineage.n)) {
        diag_error("the key %s holds something else than 32 hexadecimal digits; delete it, or "
                   "choose another --stream",
                   c->config->lineage_key);
        pause_reading(c);
        return;
    }
    memcpy(c->lineage, lineage.p, STATE_TOKEN_LEN);
    set_phase(c, PHASE_ADOPT);
    pump(c);
}

static void on_fenced(bool ok, void *arg)
{
    struct consumer *c = arg;
    if (c->phase == PHASE_SETUP && (!ok || !setup_send(c->reader, c->config, on_setup, c)))
        redis_link_reset(c->reader, "out of memory");
}

static void set_up(struct consumer *c)
{
    set_phase(c, PHASE_SETUP);
    if (!fence_send(&c->fence, c->reader, c->config, on_fenced, c))
        redis_link_reset(c->reader, "out of memory");
}

static void on_pause_over(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    set_up(arg);
}

/* ---- The connection ---- */

/* Batches that are not in the committer's hands will be read again. */
static void drop_read_ahead(struct consumer *c)
{
    while (c->count > (c->begun ? 1 : 0))
        c->stats->dropped += c->batches[(c->first + --c->count) % AHEAD].read;
}

static void on_ready(void *arg)
{
    struct consumer *c = arg;
    if (c->announced)
        diag_info("connected to Redis again");
    c->pause_ms = PAUSE_MIN_MS;
    set_up(c);
}

static void on_down(const char *why, void *arg)
{
    static struct diag_limit limit;
    struct consumer *c = arg;
    diag_warn_limited(&limit, "the connection to Redis at %s broke: %s", c->config->redis.shown,
                      why);
    set_phase(c, PHASE_DOWN);
    commit_stale(c->committer);
    drop_read_ahead(c);
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

/* Does what can be done now. */
static void pump(struct consumer *c)
{
    if (c->count > 0 && !c->begun) {
        c->begun = true;
        commit_begin(c->committer, &c->batches[c->first]);
    }
    if (c->phase == PHASE_ADOPT && c->count == 0)
        adopt(c);
    if (c->phase == PHASE_PENDING || c->phase == PHASE_NEW)
        read_on(c);
    if (c->phase == PHASE_STOPPED && c->count == 0 && !commit_unanswered(c->committer))
        c->finished(c->arg);
}

static void on_changed(void *arg)
{
    pump(arg);
}

static void on_done(bool written, void *arg)
{
    struct consumer *c = arg;
    c->begun = false;
    c->first = (c->first + 1) % AHEAD;
    c->count--;
    /* What was read after a batch that was dropped must not overtake it. */
    if (!written)
        drop_read_ahead(c);
    if (!written && (c->phase == PHASE_PENDING || c->phase == PHASE_NEW))
        redis_link_reset(c->reader, "the second connection broke");
    pump(c);
}

static void on_replay(void *arg)
{
    struct consumer *c = arg;
    c->replay_wanted = true;
    pump(c);
}

/* ---- Life ---- */

static struct redis_link *new_reader(struct event_base *base, struct consumer *c)
{
    const struct redis_link_config link = {.name = "reader",
                                           .url = &c->config->redis,
                                           .connect_timeout_ms = c->config->redis_timeout_ms,
                                           .reply_timeout_ms =
                                               AHEAD * BLOCK_MS + c->config->redis_timeout_ms,
                                           .backoff_min_ms = REDIS_BACKOFF_MIN_MS,
                                           .backoff_max_ms = REDIS_BACKOFF_MAX_MS};
    const struct redis_link_events events = {
        .ready = on_ready, .down = on_down, .failed = on_failed};
    return redis_link_new(base, &link, &events, c);
}

struct consumer *consumer_new(struct event_base *base, const struct config *config,
                              struct sink *sink, struct worker_stats *stats,
                              void (*finished)(void *arg), void *arg)
{
    const struct commit_events events = {
        .done = on_done, .changed = on_changed, .replay = on_replay};
    struct consumer *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    c->config = config;
    c->sink = sink;
    c->stats = stats;
    c->finished = finished;
    c->arg = arg;
    c->pause_ms = PAUSE_MIN_MS;
    begin_read(&c->read_new, config, true);
    resp_arg_str(&c->read_new, ">");
    c->pause = event_new(base, -1, 0, on_pause_over, c);
    c->reader = new_reader(base, c);
    c->committer = commit_new(base, config, sink, stats, &events, c);
    if (!c->read_new.failed && c->pause != NULL && c->reader != NULL && c->committer != NULL)
        return c;
    consumer_free(c);
    return NULL;
}

const char *consumer_problem(const struct consumer *c)
{
    const char *stuck = commit_stuck(c->committer);
    switch (c->phase) {
    case PHASE_DOWN:
        return "Redis does not answer";
    case PHASE_PAUSE:
        return "Redis refuses to deliver entries";
    case PHASE_STOPPED:
        return "stopping";
    case PHASE_SETUP:
    case PHASE_ADOPT:
        return stuck != NULL ? stuck : "the group is being set up";
    default:
        if (stuck != NULL || redis_link_ready(commit_link(c->committer)))
            return stuck;
        return "Redis does not answer on the second connection";
    }
}

struct committer *consumer_committer(struct consumer *c)
{
    return c->committer;
}

void consumer_stop(struct consumer *c)
{
    struct redis_link *reader = c->reader;
    set_phase(c, PHASE_STOPPED);
    c->reader = NULL;
    redis_link_free(reader);
    commit_stop(c->committer);
    drop_read_ahead(c);
    pump(c);
}

void consumer_free(struct consumer *c)
{
    if (c == NULL)
        return;
    set_phase(c, PHASE_STOPPED);
    redis_link_free(c->reader);
    commit_free(c->committer);
    if (c->pause != NULL)
        event_free(c->pause);
    for (size_t i = 0; i < AHEAD; i++)
        batch_free(&c->batches[i]);
    buf_free(&c->command);
    buf_free(&c->read_new);
    free(c);
}
