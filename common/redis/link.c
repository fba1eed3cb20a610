/* link.c: keeps a connection to Redis up, and knows which commands are unanswered.
 *
 * A connection that has ended, or is to end, makes the link LINK_BROKEN. A timer of zero then
 * clears up from the event loop: only there pending callbacks get NULL, and the next attempt is
 * planned. So nothing runs inside the caller's calls. */
#include "common/redis/link.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <event2/util.h>

#include "common/diag.h"
#include "common/redis/conn.h"
#include "common/redis/resp.h"
#include "common/redis/url.h"
#include "common/timer.h"
#include "common/timestamp.h"

#define QUEUE_MIN  64 /* a power of two, as every capacity of the queue */
#define NO_TIMER   (-1)
#define SAME_TIMER (-2)
#define SETUP_MAX  3    /* AUTH, SELECT, PING */
#define STABLE_MS  1000 /* after so long ready, the waits between attempts begin with the least */

enum link_state {
    LINK_WAITING,    /* no connection; the timer starts the next attempt */
    LINK_CONNECTING, /* connect(2) is under way; the timer ends the attempt */
    LINK_SETUP,      /* AUTH, SELECT and PING are sent; the same timer runs on */
    LINK_READY,      /* commands are taken; the timer watches the oldest one */
    LINK_BROKEN,     /* the connection is given up; the timer of zero clears up */
    LINK_FREED,      /* redis_link_free() was called; memory goes when the last callback returns */
};

static const char *const state_names[] = {
    [LINK_WAITING] = "waiting", [LINK_CONNECTING] = "connecting", [LINK_SETUP] = "setup",
    [LINK_READY] = "ready",     [LINK_BROKEN] = "broken",         [LINK_FREED] = "freed",
};

/* A command without a reply yet. */
struct pending {
    redis_reply_cb *cb;
    void *arg;
    int64_t sent_ms; /* monotonic */
};

struct redis_link {
    struct event_base *base; /* borrowed */
    struct redis_link_config config;
    struct redis_link_events events;
    void *arg; /* of the events */
    enum link_state state;
    struct redis_conn *conn;      /* owned; NULL when there is none */
    const char *steps[SETUP_MAX]; /* LINK_SETUP: names of the commands sent */
    unsigned step, step_count;    /* the next one to be answered, and how many there are */
    struct event *timer;          /* meaning: see link_state */
    bool timer_set;               /* LINK_READY: the timer is running */
    bool was_ready;               /* LINK_BROKEN: `down` follows, not `failed` */
    bool at_once;                 /* LINK_BROKEN: the next attempt does not wait */
    int64_t ready_ms;             /* when it became ready last */
    int64_t backoff_ms;           /* before the next attempt, without the jitter */
    unsigned busy;                /* user callbacks on the stack */
    char why[256];                /* why the connection broke */

    struct pending *queue; /* ring of `capacity` slots */
    size_t capacity;       /* power of two, or 0 */
    size_t first, count;
};

/* ---- The queue of commands without a reply ---- */

static bool queue_has_room(struct redis_link *link)
{
    size_t capacity = link->capacity == 0 ? QUEUE_MIN : link->capacity * 2;
    struct pending *queue;
    if (link->count < link->capacity)
        return true;
    queue = reallocarray(NULL, capacity, sizeof(*queue));
    if (queue == NULL)
        return false;
    for (size_t i = 0; i < link->count; i++)
        queue[i] = link->queue[(link->first + i) & (link->capacity - 1)];
    free(link->queue);
    link->queue = queue;
    link->capacity = capacity;
    link->first = 0;
    return true;
}

static void queue_push(struct redis_link *link, struct pending entry)
{
    link->queue[(link->first + link->count) & (link->capacity - 1)] = entry;
    link->count++;
}

static struct pending queue_pop(struct redis_link *link)
{
    struct pending entry = link->queue[link->first];
    link->first = (link->first + 1) & (link->capacity - 1);
    link->count--;
    return entry;
}

/* ---- States ---- */

static void enter_callback(struct redis_link *link)
{
    link->busy++;
}

/* After this the link may be gone. */
static void leave_callback(struct redis_link *link)
{
    if (--link->busy > 0 || link->state != LINK_FREED)
        return;
    event_free(link->timer);
    free(link->queue);
    free(link);
}

/* The one place where the state changes. The timer of the old state is replaced by one of `ms`, or
 * by none, or runs on. */
static void set_state(struct redis_link *link, enum link_state state, int64_t ms)
{
    diag_debug("redis %s: %s -> %s", link->config.name, state_names[link->state],
               state_names[state]);
    link->state = state;
    if (ms == SAME_TIMER)
        return;
    link->timer_set = false;
    if (ms == NO_TIMER)
        event_del(link->timer);
    else
        timer_set(link->timer, ms);
}

/* Marks the connection, or the attempt, as given up. Nothing is freed and no callback runs before
 * the timer does. */
__attribute__((format(printf, 2, 3))) static void give_up(struct redis_link *link,
                                                          const char *format, ...)
{
    va_list args;
    if (link->state != LINK_CONNECTING && link->state != LINK_SETUP && link->state != LINK_READY)
        return;
    link->was_ready = link->state == LINK_READY;
    va_start(args, format);
    vsnprintf(link->why, sizeof(link->why), format, args);
    va_end(args);
    set_state(link, LINK_BROKEN, 0);
}

static void drop_connection(struct redis_link *link)
{
    if (link->conn != NULL)
        redis_conn_close(link->conn);
    link->conn = NULL;
}

static void fail_pending(struct redis_link *link)
{
    while (link->count > 0) {
        struct pending entry = queue_pop(link);
        entry.cb(NULL, entry.arg);
    }
}

/* The wait before the next attempt. Up to half of it is random, so that the clients of one server
 * do not come in step. */
static int64_t next_backoff(struct redis_link *link)
{
    int64_t wait = link->backoff_ms;
    uint32_t random;
    evutil_secure_rng_get_bytes(&random, sizeof(random));
    link->backoff_ms =
        wait > link->config.backoff_max_ms / 2 ? link->config.backoff_max_ms : wait * 2;
    return wait - random % (wait / 2 + 1);
}

static void clear_up(struct redis_link *link)
{
    enter_callback(link);
    drop_connection(link);
    fail_pending(link);
    if (link->was_ready && monotonic_now_ms() - link->ready_ms >= STABLE_MS)
        link->backoff_ms = link->config.backoff_min_ms;
    if (link->state != LINK_FREED) {
        set_state(link, LINK_WAITING, link->at_once ? 0 : next_backoff(link));
        link->at_once = false;
        if (link->was_ready)
            link->events.down(link->why, link->arg);
        else if (link->events.failed != NULL)
            link->events.failed(link->why, link->arg);
    }
    leave_callback(link);
}

/* ---- Setting a connection up ---- */

static void become_ready(struct redis_link *link)
{
    link->ready_ms = monotonic_now_ms();
    set_state(link, LINK_READY, NO_TIMER);
    enter_callback(link);
    link->events.ready(link->arg);
    leave_callback(link);
}

/* A server that answers PING serves: it has loaded its data, and wants no further password. It also
 * serves an account whose ACL does not allow PING. */
static bool answers_ping(const struct redis_reply *reply)
{
    return reply_is_error(reply, "NOPERM") ||
           (reply_type(reply) == REPLY_STATUS && span_is(reply_span(reply), "PONG"));
}

static void on_setup_reply(struct redis_link *link, const struct redis_reply *reply)
{
    const char *step = link->steps[link->step++];
    struct span text = reply_span(reply);
    if (link->step == link->step_count && answers_ping(reply))
        become_ready(link);
    else if (reply_type(reply) == REPLY_ERROR)
        give_up(link, "Redis answers %s with \"%.*s\"", step, (int)text.n, text.p);
    else if (link->step == link->step_count)
        give_up(link, "what listens there does not answer like Redis; is the address right?");
}

/* Sends one command of the set-up, named after its first word. */
static bool send_step(struct redis_link *link, const char *const *words, size_t count)
{
    struct buf command = {0};
    resp_command(&command, words, count);
    bool sent = !command.failed && redis_conn_send(link->conn, command.data, command.len);
    buf_free(&command);
    link->steps[link->step_count++] = words[0];
    return sent;
}

static bool send_auth(struct redis_link *link)
{
    const struct redis_url *url = link->config.url;
    if (url->password == NULL)
        return true;
    if (url->user == NULL)
        return send_step(link, RESP_WORDS("AUTH", url->password));
    return send_step(link, RESP_WORDS("AUTH", url->user, url->password));
}

static bool send_select(struct redis_link *link)
{
    char db[16];
    snprintf(db, sizeof(db), "%d", link->config.url->db);
    return link->config.url->db == 0 || send_step(link, RESP_WORDS("SELECT", db));
}

/* All commands of the set-up at once; the first one that is refused ends the attempt. */
static void on_connected(void *arg)
{
    struct redis_link *link = arg;
    if (link->state != LINK_CONNECTING)
        return; /* given up meanwhile */
    set_state(link, LINK_SETUP, SAME_TIMER);
    link->step = link->step_count = 0;
    if (!send_auth(link) || !send_select(link) || !send_step(link, RESP_WORDS("PING")))
        give_up(link, "out of memory");
}

static void on_closed(const char *why, void *arg)
{
    struct redis_link *link = arg;
    link->conn = NULL;
    give_up(link, "%s", why);
}

static void on_command_reply(struct redis_link *link, const struct redis_reply *reply)
{
    struct pending entry = queue_pop(link);
    enter_callback(link);
    entry.cb(reply, entry.arg);
    leave_callback(link);
}

static void on_reply(const struct redis_reply *reply, void *arg)
{
    struct redis_link *link = arg;
    if (link->state == LINK_SETUP)
        on_setup_reply(link, reply);
    else if (link->state == LINK_READY)
        on_command_reply(link, reply);
    /* else LINK_BROKEN: it comes too late, and clear_up() answers those who wait */
}

static void start_attempt(struct redis_link *link)
{
    static const struct redis_conn_events events = {
        .connected = on_connected, .reply = on_reply, .closed = on_closed};
    char why[128];
    set_state(link, LINK_CONNECTING, link->config.connect_timeout_ms);
    link->conn = redis_conn_open(link->base, link->config.url, &events, link, why, sizeof(why));
    if (link->conn == NULL)
        give_up(link, "%s", why);
}

/* ---- Commands ---- */

/* Runs once in reply_timeout_ms at most, and not for each command. */
static void watch_oldest(struct redis_link *link)
{
    link->timer_set = false;
    if (link->count == 0)
        return;
    int64_t since = link->queue[link->first].sent_ms;
    if (redis_conn_read_ms(link->conn) > since)
        since = redis_conn_read_ms(link->conn);
    int64_t left = since + link->config.reply_timeout_ms - monotonic_now_ms();
    if (left <= 0) {
        give_up(link, "no reply within %" PRId64 " ms", link->config.reply_timeout_ms);
        return;
    }
    timer_set(link->timer, left);
    link->timer_set = true;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct redis_link *link = arg;
    (void)fd, (void)what;
    switch (link->state) {
    case LINK_WAITING:
        start_attempt(link);
        break;
    case LINK_CONNECTING:
        give_up(link, "no connection within %" PRId64 " ms", link->config.connect_timeout_ms);
        break;
    case LINK_SETUP:
        give_up(link, "connected, but no answer to %s within %" PRId64 " ms",
                link->steps[link->step], link->config.connect_timeout_ms);
        break;
    case LINK_READY:
        watch_oldest(link);
        break;
    case LINK_BROKEN:
        clear_up(link);
        break;
    case LINK_FREED:
        break;
    }
}

bool redis_link_send(struct redis_link *link, const void *command, size_t n, redis_reply_cb *cb,
                     void *arg)
{
    int64_t now = monotonic_now_ms();
    if (link->state != LINK_READY || !queue_has_room(link))
        return false;
    if (!redis_conn_send(link->conn, command, n)) {
        give_up(link, "out of memory");
        return false;
    }
    queue_push(link, (struct pending){.cb = cb, .arg = arg, .sent_ms = now});
    if (!link->timer_set) {
        timer_set(link->timer, link->config.reply_timeout_ms);
        link->timer_set = true;
    }
    return true;
}

bool redis_link_send_buf(struct redis_link *link, const struct buf *command, redis_reply_cb *cb,
                         void *arg)
{
    return !command->failed && redis_link_send(link, command->data, command->len, cb, arg);
}

bool redis_link_send_words(struct redis_link *link, const char *const *words, size_t count,
                           redis_reply_cb *cb, void *arg)
{
    struct buf command = {0};
    resp_command(&command, words, count);
    bool sent = redis_link_send_buf(link, &command, cb, arg);
    buf_free(&command);
    return sent;
}

/* ---- Life ---- */

struct redis_link *redis_link_new(struct event_base *base, const struct redis_link_config *config,
                                  const struct redis_link_events *events, void *arg)
{
    struct redis_link *link = calloc(1, sizeof(*link));
    if (link == NULL)
        return NULL;
    link->base = base;
    link->config = *config;
    link->events = *events;
    link->arg = arg;
    link->backoff_ms = config->backoff_min_ms;
    link->timer = event_new(base, -1, 0, on_timer, link);
    if (link->timer == NULL) {
        free(link);
        return NULL;
    }
    timer_set(link->timer, 0);
    return link;
}

bool redis_link_ready(const struct redis_link *link)
{
    return link->state == LINK_READY;
}

size_t redis_link_pending(const struct redis_link *link)
{
    return link->count;
}

void redis_link_renew(struct redis_link *link)
{
    link->at_once = link->at_once || link->state == LINK_READY;
    give_up(link, "the connection is made anew");
}

void redis_link_limit_reply(struct redis_link *link, size_t bytes)
{
    if (link->conn != NULL)
        redis_conn_limit(link->conn, bytes);
}

void redis_link_reset(struct redis_link *link, const char *why)
{
    give_up(link, "%s", why);
}

void redis_link_free(struct redis_link *link)
{
    if (link == NULL || link->state == LINK_FREED)
        return;
    set_state(link, LINK_FREED, NO_TIMER);
    enter_callback(link);
    drop_connection(link);
    fail_pending(link);
    leave_callback(link);
}
