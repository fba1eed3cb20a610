#include "logd/store.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/diag.h"
#include "common/redis/resp.h"
#include "common/redis/url.h"
#include "logd/ingest.h"
#include "logd/script.h"
#include "logd/watch.h"

#define SHA1_LEN       40
#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 2000
/* Batches that are kept for the next request: how many, and up to which size each. */
#define FREE_BATCHES_MAX     64
#define FREE_BATCH_BYTES_MAX 65536
/* Small batches that come in one turn of the event loop share a command: each of up to this size,
 * together up to that. */
#define GATHER_EACH_MAX 4096
#define GATHER_ALL_MAX  65536
/* No further command is sent while this much is unanswered: enough for a Redis on the same host or
 * the local network, which is then never without work, and few enough for the processor's cache.
 * hiredis moves all that it could not write yet to the front of its buffer after each write(2), so
 * that the cost of a long one grows with its square. */
#define WINDOW_BYTES 262144

struct store {
    struct store_config config;
    struct redis_link *link;
    struct watch *watch;
    char sha[SHA1_LEN + 1]; /* of the script; "" until Redis has said it */
    size_t room;            /* bytes before a batch's arguments, enough for EVALSHA */
    struct buf prefix;      /* scratch */
    char trouble[320];      /* "" when Redis takes writes */
    bool was_ready;         /* connected before */
    struct store_batch *free_list;
    size_t free_count;
    size_t unanswered; /* bytes of the commands that Redis has */
    struct store_batch *waiting,
        **waiting_end; /* whose commands it does not have yet; first in, first out */
    struct store_batch
        *gathered;        /* the first batch of the command being gathered; the others hang on it */
    struct event *gather; /* sends it when all requests of this turn have been read */
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
        if (b == NULL || !buf_reserve(&b->args, s->room)) {
            free(b);
            return NULL;
        }
        b->store = s;
    }
    b->args.len = s->room;
    b->count = 0;
    b->next = NULL;
    b->producer = (struct producer){0};
    return b;
}

void store_discard(struct store_batch *b)
{
    struct store *s = b->store;
    bool keep = s->free_count < FREE_BATCHES_MAX && b->args.cap <= FREE_BATCH_BYTES_MAX;
    if (!keep) {
        buf_free(&b->args);
        free(b);
        return;
    }
    buf_clear(&b->args);
    b->next_listed = s->free_list;
    s->free_list = b;
    s->free_count++;
}

/* ---- Outcomes ---- */

/* NULL: writes are taken. */
static void set_trouble(struct store *s, const char *trouble)
{
    static struct diag_limit limit;
    if (trouble != NULL && s->trouble[0] == '\0')
        diag_warn_limited(&limit, "%s: answering 503 meanwhile", trouble);
    snprintf(s->trouble, sizeof(s->trouble), "%.300s", trouble != NULL ? trouble : "");
    s->config.stats->redis_up = trouble == NULL;
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
    set_trouble(s, text);
}

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

static void finish_failed(struct store_batch *b, const struct failure *f)
{
    finish(b, &(struct store_outcome){.failure = f});
}

static void finish_unsent(struct store_batch *b)
{
    struct failure f;
    failure_set_unavailable(&f, STORED_NOTHING, "Redis went away: send the batch again");
    finish_failed(b, &f);
}

/* Redis ends an error from a script with where in the script it arose, which tells a client
 * nothing. */
static void finish_refused(struct store_batch *b, const struct redis_reply *reply)
{
    struct failure f;
    struct span text = reply_span(reply);
    const char *tail = memmem(text.p, text.n, " script: ", 9);
    int n = (int)(tail != NULL ? tail - text.p : (ptrdiff_t)text.n);
    failure_set_unavailable(&f, STORED_NOTHING, "Redis refused the batch for stream %.100s: %.*s",
                            b->store->config.stream, n, text.p);
    set_trouble(b->store, f.text);
    finish_failed(b, &f);
}

static bool is_outcome(const struct redis_reply *reply, const struct store_batch *b)
{
    if (reply_type(reply) != REPLY_ARRAY || reply_count(reply) != 2)
        return false;
    const struct redis_reply *fresh = reply_at(reply, 0);
    const struct redis_reply *gap = reply_at(reply, 1);
    return reply_type(fresh) == REPLY_INTEGER && reply_type(gap) == REPLY_INTEGER &&
           reply_integer(fresh) >= 0 && reply_integer(fresh) <= (int64_t)b->records &&
           reply_integer(gap) >= 0;
}

static bool send_command(struct store_batch *b, bool whole_script);
static void send_waiting(struct store *s);

static void take_reply(const struct redis_reply *reply, struct store_batch *b)
{
    struct failure f;
    if (reply == NULL) {
        failure_set_unavailable(&f, STORED_UNKNOWN,
                                "Redis went away before it confirmed, so the batch may be stored: "
                                "send it again only as an idempotent producer (Log-Producer)");
        finish_failed(b, &f);
    } else if (reply_is_error(reply, "NOSCRIPT")) {
        if (!send_command(b, true))
            finish_unsent(b);
    } else if (reply_type(reply) == REPLY_ERROR) {
        finish_refused(b, reply);
    } else if (is_outcome(reply, b)) {
        size_t fresh = (size_t)reply_integer(reply_at(reply, 0));
        finish(b, &(struct store_outcome){.duplicates = b->records - fresh,
                                          .gap = reply_integer(reply_at(reply, 1))});
    } else {
        redis_link_reset(b->store->link, "Redis answered the script with something else");
        failure_set_unavailable(&f, STORED_UNKNOWN, "Redis answered with something unexpected");
        finish_failed(b, &f);
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

/* ---- Commands ---- */

/* All of the command that stands before the records. */
static void write_prefix(struct store *s, const struct store_batch *b, bool whole_script)
{
    struct buf *out = &s->prefix;
    bool has_producer = b->producer.id[0] != '\0';
    buf_clear(out);
    resp_begin(out, (has_producer ? 8U : 7U) + INGEST_ARGS * b->records);
    resp_arg_str(out, whole_script ? "EVAL" : "EVALSHA");
    resp_arg_str(out, whole_script ? store_script : s->sha);
    resp_arg_int(out, has_producer ? 2 : 1);
    resp_arg_str(out, s->config.stream);
    if (has_producer) {
        char key[16 + PRODUCER_ID_LEN];
        size_t stream_len = strlen(s->config.stream);
        int n = snprintf(key, sizeof(key), ":producer:%s", b->producer.id);
        buf_printf(out, "$%zu\r\n%s%s\r\n", stream_len + (size_t)n, s->config.stream, key);
    }
    resp_arg_int(out, b->producer.first);
    resp_arg_int(out, b->producer.skip);
    resp_arg_int(out, s->config.producer_ttl_ms / 1000);
}

/* The records stay in b->args, so that they can be sent once more with the whole script. */
static bool send_command(struct store_batch *b, bool whole_script)
{
    struct store *s = b->store;
    struct buf *prefix = &s->prefix;
    bool sent;
    write_prefix(s, b, whole_script);
    if (prefix->failed)
        return false;
    if (prefix->len <= s->room) {
        char *command = b->args.data + s->room - prefix->len;
        memcpy(command, prefix->data, prefix->len);
        sent = redis_link_send(s->link, command, b->args.len - s->room + prefix->len, on_reply, b);
    } else {
        buf_add(prefix, b->args.data + s->room, b->args.len - s->room);
        sent = !prefix->failed && redis_link_send(s->link, prefix->data, prefix->len, on_reply, b);
        if (prefix->cap > FREE_BATCH_BYTES_MAX)
            buf_free(prefix);
    }
    if (sent)
        s->unanswered += b->args.len;
    return sent;
}

/* Sends the command of the batch, now or when its turn comes. */
static bool submit(struct store_batch *b)
{
    struct store *s = b->store;
    if (s->waiting == NULL && s->unanswered < WINDOW_BYTES)
        return send_command(b, s->sha[0] == '\0');
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
        if (!send_command(b, s->sha[0] == '\0'))
            finish_unsent(b);
    }
}

static void fail_waiting(struct store *s)
{
    while (s->waiting != NULL)
        finish_unsent(take_waiting(s));
}

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
    size_t n = b->args.len - s->room;
    if (!buf_reserve(&carrier->args, n))
        return false;
    buf_add(&carrier->args, b->args.data + s->room, n);
    carrier->records += b->records;
    b->next = carrier->next;
    carrier->next = b;
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
    bool small = b->producer.id[0] == '\0' && b->bytes <= s->room + GATHER_EACH_MAX;
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

static void on_loaded(const struct redis_reply *reply, void *arg)
{
    struct store *s = arg;
    if (reply == NULL || reply_type(reply) != REPLY_STRING || reply_span(reply).n != SHA1_LEN)
        return; /* the whole script is sent each time */
    memcpy(s->sha, reply_span(reply).p, SHA1_LEN);
}

static void load_script(struct store *s)
{
    struct buf *out = &s->prefix;
    buf_clear(out);
    resp_begin(out, 3);
    resp_arg_str(out, "SCRIPT");
    resp_arg_str(out, "LOAD");
    resp_arg_str(out, store_script);
    if (!out->failed)
        (void)redis_link_send(s->link, out->data, out->len, on_loaded, s);
}

static void on_ready(void *arg)
{
    struct store *s = arg;
    if (s->was_ready)
        s->config.stats->reconnects++;
    s->was_ready = true;
    set_trouble(s, NULL);
    diag_info("connected to Redis at %s", s->config.url->shown);
    load_script(s);
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
    /* The stream's name twice, the rest with the largest numbers. */
    s->room = 2 * strlen(config->stream) + 320;
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
    buf_free(&s->prefix);
    free(s);
}
