/* store.c: batches of records on their way into Redis. */
#include "logd/store.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/diag.h"
#include "common/redis/link.h"
#include "common/redis/url.h"
#include "logd/command.h"
#include "logd/watch.h"

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 2000
/* Batches that are kept for the next request: how many, and up to which size each. */
#define FREE_BATCHES_MAX     64
#define FREE_BATCH_BYTES_MAX 65536
/* Small batches that come in one turn of the event loop share a command. Bytes of each, and of all
 * together, at most. */
#define GATHER_EACH_MAX 4096
#define GATHER_ALL_MAX  65536
/* No further command is sent while so much is unanswered. A Redis on the same host or the local
 * network then always has work, and the processor's cache holds it all. hiredis moves what it could
 * not write to the front of its buffer after each write(2): a long buffer costs its square. */
#define WINDOW_BYTES 262144

struct store {
    struct store_config config;
    struct redis_link *link;
    struct watch *watch;
    struct command command;
    char trouble[320]; /* "" when Redis takes writes */
    bool was_ready;    /* connected before */
    struct store_batch *free_list;
    size_t free_count;
    size_t unanswered; /* bytes of the commands that Redis has */
    /* Batches whose commands Redis does not have yet; first in, first out. */
    struct store_batch *waiting, **waiting_end;
    struct store_batch *gathered; /* carries the command being gathered; the others hang on it */
    struct event *gather;         /* sends it when all requests of this turn have been read */
};

/* ---- Batches ---- */

struct store_batch *store_batch(struct store *s)
{
    struct store_batch *b = s->free_list;
    if (b != NULL) {
        s->free_list = b->next_listed;
        s->free_count--;
    } else {
        b = calloc(1, sizeof(*b));
        if (b == NULL || !buf_reserve(&b->args, s->command.room)) {
            free(b);
            return NULL;
        }
        b->store = s;
    }
    b->args.len = s->command.room;
    b->count = 0;
    b->next = NULL;
    b->producer = (struct producer){0};
    return b;
}

void store_discard(struct store_batch *b)
{
    struct store *s = b->store;
    if (s->free_count == FREE_BATCHES_MAX || b->args.cap > FREE_BATCH_BYTES_MAX) {
        buf_free(&b->args);
        free(b);
        return;
    }
    buf_clear(&b->args);
    b->next_listed = s->free_list;
    s->free_list = b;
    s->free_count++;
}

/* ---- Whether writes are taken ---- */

/* NULL: writes are taken. */
static void set_trouble(struct store *s, const char *trouble)
{
    static struct diag_limit limit;
    if (trouble != NULL && s->trouble[0] == '\0')
        diag_warn_limited(&limit, "%s: answering 503 meanwhile", trouble);
    snprintf(s->trouble, sizeof(s->trouble), "%.300s", trouble != NULL ? trouble : "");
    s->config.stats->redis_up = trouble == NULL;
}

/* Another error of Redis than that of the trouble so far is trouble anew. */
static void set_refused(struct store *s, const char *trouble, struct span error)
{
    if (memmem(s->trouble, strlen(s->trouble), error.p, error.n) == NULL)
        s->trouble[0] = '\0';
    set_trouble(s, trouble);
}

static void on_look(const char *error, void *arg)
{
    struct store *s = arg;
    char text[sizeof(s->trouble)];
    if (!redis_link_ready(s->link))
        return;
    if (error == NULL) {
        if (s->trouble[0] != '\0')
            diag_info("Redis takes writes again");
        set_trouble(s, NULL);
        return;
    }
    snprintf(text, sizeof(text), "Redis refuses writes: %s", error);
    set_refused(s, text, (struct span){error, strlen(error)});
}

/* ---- Outcomes ---- */

static void count_outcome(struct logd_stats *stats, const struct store_batch *b,
                          const struct store_outcome *o)
{
    static struct diag_limit limit;
    if (o->failure != NULL) {
        if (o->failure->stored == STORED_UNKNOWN)
            stats->unknown += b->count;
        return;
    }
    stats->accepted += b->count - o->duplicates;
    stats->duplicates += o->duplicates;
    stats->gaps += (uint64_t)o->gap;
    if (o->gap > 0)
        diag_warn_limited(&limit,
                          "producer %s: %" PRId64 " sequence numbers before %" PRId64 " never came",
                          b->producer.id, o->gap, b->producer.first);
}

/* Finishes a command: the batch that carries it, and those that were gathered into it. */
static void finish(struct store_batch *b, const struct store_outcome *o)
{
    struct logd_stats *stats = b->store->config.stats;
    for (struct store_batch *next; b != NULL; b = next) {
        next = b->next;
        stats->in_flight_bytes -= b->bytes;
        stats->in_flight_batches--;
        count_outcome(stats, b, o);
        if (b->done != NULL)
            b->done(b->arg, b, o);
        store_discard(b);
    }
}

static void finish_failed(struct store_batch *b, enum failure_stored stored, const char *text)
{
    struct failure f;
    failure_set_unavailable(&f, stored, "%s", text);
    finish(b, &(struct store_outcome){.failure = &f});
}

static void finish_unsent(struct store_batch *b)
{
    finish_failed(b, STORED_NOTHING, "Redis went away: send the batch again");
}

static void finish_refused(struct store_batch *b, const struct redis_reply *reply)
{
    struct failure f;
    struct span error = command_error(reply);
    failure_set_unavailable(&f, STORED_NOTHING, "Redis refused the batch for stream %.100s: %.*s",
                            b->store->config.stream, (int)error.n, error.p);
    set_refused(b->store, f.text, error);
    finish(b, &(struct store_outcome){.failure = &f});
}

/* ---- Commands ---- */

static void on_reply(const struct redis_reply *reply, void *arg);

static bool send_command(struct store_batch *b, bool whole_script)
{
    struct store *s = b->store;
    if (!command_send(&s->command, &b->producer, b->records, &b->args, whole_script, on_reply, b))
        return false;
    s->unanswered += b->args.len;
    return true;
}

/* Sends the command of the batch, now or when its turn comes. */
static bool submit(struct store_batch *b)
{
    struct store *s = b->store;
    if (s->waiting == NULL && s->unanswered < WINDOW_BYTES)
        return send_command(b, false);
    if (s->waiting == NULL)
        s->waiting_end = &s->waiting;
    b->next_listed = NULL;
    *s->waiting_end = b;
    s->waiting_end = &b->next_listed;
    return true;
}

static struct store_batch *take_waiting(struct store *s)
{
    struct store_batch *b = s->waiting;
    s->waiting = b->next_listed;
    return b;
}

static void send_waiting(struct store *s)
{
    while (s->waiting != NULL && s->unanswered < WINDOW_BYTES) {
        struct store_batch *b = take_waiting(s);
        if (!send_command(b, false))
            finish_unsent(b);
    }
}

static void fail_waiting(struct store *s)
{
    while (s->waiting != NULL)
        finish_unsent(take_waiting(s));
}

static void take_reply(const struct redis_reply *reply, struct store_batch *b)
{
    struct store_outcome o = {0};
    size_t fresh;
    if (reply == NULL) {
        finish_failed(b, STORED_UNKNOWN,
                      "Redis went away before it confirmed, so the batch may be stored: send it "
                      "again only as an idempotent producer (Log-Producer)");
    } else if (reply_is_error(reply, "NOSCRIPT")) {
        if (!send_command(b, true))
            finish_unsent(b);
    } else if (reply_type(reply) == REPLY_ERROR) {
        finish_refused(b, reply);
    } else if (command_read(reply, b->records, &fresh, &o.gap)) {
        o.duplicates = b->records - fresh;
        finish(b, &o);
    } else {
        redis_link_reset(b->store->link, "Redis answered the script with something else");
        finish_failed(b, STORED_UNKNOWN, "Redis answered with something unexpected");
    }
}

static void on_reply(const struct redis_reply *reply, void *arg)
{
    struct store_batch *b = arg;
    struct store *s = b->store;
    s->unanswered -= b->args.len;
    take_reply(reply, b);
    if (reply != NULL)
        send_waiting(s);
}

/* ---- Gathering ---- */

static void send_gathered(struct store *s)
{
    struct store_batch *b = s->gathered;
    s->gathered = NULL;
    if (b != NULL && !submit(b))
        finish_unsent(b);
}

static void on_gather(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    send_gathered(arg);
}

/* Adds the batch to the command being gathered. False when there is no memory for it. */
static bool gather(struct store_batch *b)
{
    struct store *s = b->store;
    if (s->gathered != NULL && s->gathered->args.len + b->args.len > GATHER_ALL_MAX)
        send_gathered(s);
    struct store_batch *carrier = s->gathered;
    if (carrier == NULL) {
        s->gathered = b;
        event_active(s->gather, EV_TIMEOUT, 0);
        return true;
    }
    size_t n = b->args.len - s->command.room;
    if (!buf_reserve(&carrier->args, n))
        return false;
    buf_add(&carrier->args, b->args.data + s->command.room, n);
    carrier->records += b->records;
    b->next = carrier->next;
    carrier->next = b;
    return true;
}

/* ---- Taking batches ---- */

static void set_full(const struct store *s, struct failure *f)
{
    failure_set_unavailable(f, STORED_NOTHING,
                            "too much is on its way to Redis (--max-in-flight %zu bytes); try "
                            "again later",
                            s->config.max_in_flight);
}

bool store_open(struct store *s, struct failure *f)
{
    if (!redis_link_ready(s->link)) {
        failure_set_unavailable(f, STORED_NOTHING, "%s; try again later",
                                s->trouble[0] != '\0' ? s->trouble
                                                      : "the connection to Redis has just broken");
        return false;
    }
    if (s->config.stats->in_flight_bytes >= s->config.max_in_flight) {
        set_full(s, f);
        return false;
    }
    return true;
}

bool store_send(struct store_batch *b, store_done_cb *done, void *arg, struct failure *f)
{
    struct store *s = b->store;
    struct logd_stats *stats = s->config.stats;
    b->done = done;
    b->arg = arg;
    b->bytes = b->args.len;
    b->records = b->count;
    if (!store_open(s, f))
        return false;
    if (stats->in_flight_bytes > 0 && stats->in_flight_bytes + b->bytes > s->config.max_in_flight) {
        set_full(s, f);
        return false;
    }
    /* One that compares sequence numbers needs a command of its own. */
    bool small = b->producer.id[0] == '\0' && b->bytes <= s->command.room + GATHER_EACH_MAX;
    if (small ? !gather(b) : !submit(b)) {
        failure_set_unavailable(f, STORED_NOTHING, "logd is out of memory; try again later");
        return false;
    }
    stats->in_flight_bytes += b->bytes;
    stats->in_flight_batches++;
    return true;
}

void store_forget(struct store_batch *b)
{
    b->done = NULL;
}

/* ---- The connection ---- */

static void on_ready(void *arg)
{
    struct store *s = arg;
    if (s->was_ready)
        s->config.stats->reconnects++;
    s->was_ready = true;
    set_trouble(s, NULL);
    diag_info("connected to Redis at %s", s->config.url->shown);
    command_load(&s->command);
    watch_start(s->watch, s->link);
}

static void set_down(struct store *s, const char *why)
{
    char text[sizeof(s->trouble)];
    snprintf(text, sizeof(text), "Redis at %s is not reachable: %s", s->config.url->shown, why);
    set_trouble(s, text);
}

static void on_down(const char *why, void *arg)
{
    struct store *s = arg;
    watch_stop(s->watch);
    set_down(s, why);
    fail_waiting(s);
}

static void on_failed(const char *why, void *arg)
{
    static struct diag_limit limit;
    struct store *s = arg;
    set_down(s, why);
    diag_warn_limited(&limit, "%s: trying again", s->trouble);
}

const char *store_trouble(const struct store *s)
{
    return s->trouble[0] != '\0' ? s->trouble : NULL;
}

struct store *store_new(struct event_base *base, const struct store_config *config)
{
    static const struct redis_link_events events = {
        .ready = on_ready, .down = on_down, .failed = on_failed};
    struct store *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return NULL;
    s->config = *config;
    command_init(&s->command, config->stream, config->producer_ttl_ms);
    snprintf(s->trouble, sizeof(s->trouble), "Redis at %s is not connected yet",
             config->url->shown);
    s->watch = watch_new(base, config->stream, on_look, s);
    s->gather = event_new(base, -1, 0, on_gather, s);
    if (s->watch != NULL && s->gather != NULL)
        s->link = redis_link_new(base,
                                 &(struct redis_link_config){
                                     .name = "store",
                                     .url = config->url,
                                     .connect_timeout_ms = config->reply_timeout_ms,
                                     .reply_timeout_ms = config->reply_timeout_ms,
                                     .backoff_min_ms = BACKOFF_MIN_MS,
                                     .backoff_max_ms = BACKOFF_MAX_MS,
                                 },
                                 &events, s);
    s->command.link = s->link;
    if (s->link != NULL)
        return s;
    store_free(s);
    return NULL;
}

void store_free(struct store *s)
{
    if (s == NULL)
        return;
    if (s->link != NULL) {
        watch_stop(s->watch);
        send_gathered(s);
        fail_waiting(s);
        redis_link_free(s->link);
    }
    if (s->gather != NULL)
        event_free(s->gather);
    watch_free(s->watch);
    for (struct store_batch *b = s->free_list, *next; b != NULL; b = next) {
        next = b->next_listed;
        buf_free(&b->args);
        free(b);
    }
    command_free(&s->command);
    free(s);
}
