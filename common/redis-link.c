/* redis-link.c: one connection over hiredis's asynchronous API, versions 0.14.1 to 1.x.
 *
 * Commands wait for their replies in a queue of the link's own. hiredis only says "here is the next
 * reply"; that it calls its callbacks with NULL when a connection ends is ignored, since at that
 * time its context must not be touched (0.14.1 crashes when it is freed in there). A connection
 * that has ended, or is to end, makes the link LINK_BROKEN, and a timer of zero then clears up from
 * the event loop: the one place in which connections are freed, pending callbacks get NULL, and the
 * next attempt is planned. */
#include "common/redis-link.h"

#include <errno.h>
#include <fcntl.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <event2/util.h>

#include "common/diag.h"
#include "common/resp.h"
#include "common/timestamp.h"

#define KEEPALIVE_S 15
#define QUEUE_MIN   64 /* a power of two, as every capacity of the queue */
#define NO_TIMER    (-1)

enum link_state {
    LINK_WAITING,    /* no connection; the timer starts the next attempt */
    LINK_CONNECTING, /* connect(2) is under way; the timer ends the attempt */
    LINK_SETUP,      /* AUTH, SELECT and PING are sent; the same timer runs on */
    LINK_READY,      /* commands are taken; the timer watches the oldest one */
    LINK_BROKEN,     /* the connection is given up; the timer of zero clears up */
    LINK_FREED,      /* redis_link_free() was called; memory goes when the last callback returns */
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
    redisAsyncContext *ac; /* owned; NULL when there is no connection */
    struct event *timer;   /* meaning: see link_state */
    bool timer_set;        /* LINK_READY: the timer is running */
    bool was_ready;        /* LINK_BROKEN: `down` follows, not `failed` */
    int64_t backoff_ms;    /* before the next attempt, without the jitter */
    unsigned busy;         /* user callbacks on the stack */
    char why[256];         /* why the connection broke */

    struct pending *queue; /* ring of `capacity` slots */
    size_t capacity;       /* power of two, or 0 */
    size_t first, count;
};

/* ---- replies ---- */

static const redisReply *raw(const struct redis_reply *r)
{
    return (const redisReply *)r;
}

enum redis_reply_type reply_type(const struct redis_reply *r)
{
    switch (raw(r)->type) {
    case REDIS_REPLY_STRING:
        return REPLY_STRING;
    case REDIS_REPLY_STATUS:
        return REPLY_STATUS;
    case REDIS_REPLY_ERROR:
        return REPLY_ERROR;
    case REDIS_REPLY_INTEGER:
        return REPLY_INTEGER;
    case REDIS_REPLY_ARRAY:
        return REPLY_ARRAY;
    default: /* nil, and the types of RESP3, which no server sends unasked */
        return REPLY_NIL;
    }
}

struct span reply_span(const struct redis_reply *r)
{
    switch (raw(r)->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:
        return (struct span){raw(r)->str, (size_t)raw(r)->len};
    default:
        return (struct span){NULL, 0};
    }
}

int64_t reply_integer(const struct redis_reply *r)
{
    return raw(r)->type == REDIS_REPLY_INTEGER ? raw(r)->integer : 0;
}

size_t reply_count(const struct redis_reply *r)
{
    return raw(r)->type == REDIS_REPLY_ARRAY ? raw(r)->elements : 0;
}

const struct redis_reply *reply_at(const struct redis_reply *r, size_t i)
{
    return (const struct redis_reply *)raw(r)->element[i];
}

bool reply_is_error(const struct redis_reply *r, const char *code)
{
    struct span text = reply_span(r);
    size_t n = strlen(code);

    return raw(r)->type == REDIS_REPLY_ERROR && text.n >= n && memcmp(text.p, code, n) == 0 &&
           (text.n == n || text.p[n] == ' ');
}

/* ---- hiredis on libevent ---- */

/* The events of one connection: owned by the hiredis context, freed by its cleanup hook. */
struct adapter {
    redisAsyncContext *ac;
    struct event *readable, *writable;
    bool in_write; /* from the start of a write to hiredis's word on whether all is written */
};

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    redisAsyncHandleRead(((struct adapter *)arg)->ac);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct adapter *a = arg;

    (void)fd;
    (void)what;
    a->in_write = true;
    redisAsyncHandleWrite(a->ac);
}

static void watch(struct event *event)
{
    if (event_add(event, NULL) != 0)
        diag_die(EXIT_ENVIRONMENT, "cannot watch the connection to Redis: out of memory");
}

static void add_read(void *arg)
{
    watch(((struct adapter *)arg)->readable);
}

static void del_read(void *arg)
{
    event_del(((struct adapter *)arg)->readable);
}

/* Inside a write: not all could be written, wait for the socket. Otherwise a command was added: it
 * is written at the end of this turn of the loop, with all others of the turn, without asking epoll
 * first. */
static void add_write(void *arg)
{
    struct adapter *a = arg;

    if (a->in_write || !(a->ac->c.flags & REDIS_CONNECTED))
        watch(a->writable);
    else
        event_active(a->writable, EV_WRITE, 0);
    a->in_write = false;
}

static void del_write(void *arg)
{
    struct adapter *a = arg;

    a->in_write = false;
    event_del(a->writable);
}

static void free_adapter(void *arg)
{
    struct adapter *a = arg;

    if (a->readable != NULL)
        event_free(a->readable);
    if (a->writable != NULL)
        event_free(a->writable);
    free(a);
}

static bool attach(redisAsyncContext *ac, struct event_base *base)
{
    struct adapter *a = calloc(1, sizeof(*a));

    if (a == NULL)
        return false;
    a->ac = ac;
    a->readable = event_new(base, ac->c.fd, EV_READ | EV_PERSIST, on_readable, a);
    a->writable = event_new(base, ac->c.fd, EV_WRITE | EV_PERSIST, on_writable, a);
    if (a->readable == NULL || a->writable == NULL) {
        free_adapter(a);
        return false;
    }
    ac->ev.addRead = add_read;
    ac->ev.delRead = del_read;
    ac->ev.addWrite = add_write;
    ac->ev.delWrite = del_write;
    ac->ev.cleanup = free_adapter;
    ac->ev.data = a;
    return true;
}

/* ---- the queue of commands without a reply ---- */

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

/* ---- states ---- */

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

static void set_timer(struct redis_link *link, int64_t ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    if (event_add(link->timer, &tv) != 0)
        diag_die(EXIT_ENVIRONMENT, "cannot set a timer for Redis: out of memory");
}

/* The one place where the state changes. It logs nothing: the owner hears of every change that
 * matters, with its reason, through the events. The timer of the old state is replaced by one of
 * `ms`, or by none. */
static void set_state(struct redis_link *link, enum link_state state, int64_t ms)
{
    link->state = state;
    link->timer_set = false;
    if (ms == NO_TIMER)
        event_del(link->timer);
    else
        set_timer(link, ms);
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

/* Not from a connect or disconnect callback of hiredis; from a reply callback hiredis defers it. */
static void drop_connection(struct redis_link *link)
{
    redisAsyncContext *ac = link->ac;

    if (ac == NULL)
        return;
    link->ac = NULL;
    ac->data = NULL; /* the callbacks that hiredis still makes know nobody */
    redisAsyncFree(ac);
}

static void fail_pending(struct redis_link *link)
{
    while (link->count > 0) {
        struct pending entry = queue_pop(link);

        entry.cb(NULL, entry.arg);
    }
}

/* The wait before the next attempt: up to half of it is random, so that many clients of one server
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
    if (link->state != LINK_FREED) {
        set_state(link, LINK_WAITING, next_backoff(link));
        if (link->was_ready)
            link->events.down(link->why, link->arg);
        else if (link->events.failed != NULL)
            link->events.failed(link->why, link->arg);
    }
    leave_callback(link);
}

/* ---- setting a connection up ---- */

/* Whether the reply is one that the set-up can go on with. An error ends the attempt. */
static bool setup_goes_on(redisAsyncContext *ac, const redisReply *reply, const char *command)
{
    struct redis_link *link = ac->data;

    if (link == NULL || reply == NULL || link->state != LINK_SETUP)
        return false;
    if (reply->type != REDIS_REPLY_ERROR)
        return true;
    give_up(link, "Redis answered %s with \"%s\"", command, reply->str);
    return false;
}

static void on_auth(redisAsyncContext *ac, void *reply, void *arg)
{
    (void)arg;
    setup_goes_on(ac, reply, "AUTH");
}

static void on_select(redisAsyncContext *ac, void *reply, void *arg)
{
    (void)arg;
    setup_goes_on(ac, reply, "SELECT");
}

static void on_ping(redisAsyncContext *ac, void *r, void *arg)
{
    struct redis_link *link = ac->data;
    const redisReply *reply = r;

    (void)arg;
    if (!setup_goes_on(ac, reply, "PING"))
        return;
    if (reply->type != REDIS_REPLY_STATUS || strcmp(reply->str, "PONG") != 0) {
        give_up(link, "the answer to PING is not Redis's: is the address right?");
        return;
    }
    link->backoff_ms = link->config.backoff_min_ms;
    set_state(link, LINK_READY, NO_TIMER);
    enter_callback(link);
    link->events.ready(link->arg);
    leave_callback(link);
}

/* Appends one command and the callback of its reply. */
static bool send_raw(redisAsyncContext *ac, redisCallbackFn *cb, const void *command, size_t n)
{
    return redisAsyncFormattedCommand(ac, cb, NULL, command, n) == REDIS_OK;
}

static bool send_auth(struct redis_link *link, struct buf *command)
{
    const struct redis_url *url = link->config.url;

    if (url->password == NULL)
        return true;
    resp_begin(command, url->user != NULL ? 3 : 2);
    resp_arg_str(command, "AUTH");
    if (url->user != NULL)
        resp_arg_str(command, url->user);
    resp_arg_str(command, url->password);
    return !command->failed && send_raw(link->ac, on_auth, command->data, command->len);
}

static bool send_select(struct redis_link *link, struct buf *command)
{
    if (link->config.url->db == 0)
        return true;
    resp_begin(command, 2);
    resp_arg_str(command, "SELECT");
    resp_arg_int(command, link->config.url->db);
    return !command->failed && send_raw(link->ac, on_select, command->data, command->len);
}

/* All set-up commands at once; the first error reply ends the attempt. */
static bool send_setup(struct redis_link *link)
{
    static const char ping[] = "*1\r\n$4\r\nPING\r\n";
    struct buf command = {0};
    bool sent = send_auth(link, &command);

    buf_clear(&command);
    sent =
        sent && send_select(link, &command) && send_raw(link->ac, on_ping, ping, sizeof(ping) - 1);
    buf_free(&command);
    return sent;
}

static void on_connect(const redisAsyncContext *ac, int status)
{
    struct redis_link *link = ac->data;

    if (link == NULL)
        return;
    if (status != REDIS_OK) {
        link->ac = NULL; /* hiredis frees it after this */
        give_up(link, "%s", ac->c.errstr);
        return;
    }
    link->state = LINK_SETUP; /* the deadline of the attempt runs on */
    if (!send_setup(link))
        give_up(link, "out of memory");
}

static void on_disconnect(const redisAsyncContext *ac, int status)
{
    struct redis_link *link = ac->data;

    (void)status;
    if (link == NULL)
        return;
    link->ac = NULL; /* hiredis frees it after this */
    give_up(link, "%s", ac->c.errstr);
}

/* hiredis sets TCP_NODELAY itself. */
static bool set_socket_options(redisContext *c)
{
    int flags = fcntl(c->fd, F_GETFD);

    if (flags < 0 || fcntl(c->fd, F_SETFD, flags | FD_CLOEXEC) != 0)
        return false;
    return c->connection_type != REDIS_CONN_TCP || redisEnableKeepAlive(c) == REDIS_OK;
}

static void start_attempt(struct redis_link *link)
{
    const struct redis_url *url = link->config.url;
    redisAsyncContext *ac = url->path != NULL ? redisAsyncConnectUnix(url->path)
                                              : redisAsyncConnect(url->host, url->port);

    set_state(link, LINK_CONNECTING, link->config.connect_timeout_ms);
    link->ac = ac;
    if (ac == NULL) {
        give_up(link, "out of memory");
        return;
    }
    ac->data = link;
    if (ac->err != 0) {
        give_up(link, "%s", ac->errstr);
        return;
    }
    if (!attach(ac, link->base)) {
        give_up(link, "out of memory");
        return;
    }
    if (!set_socket_options(&ac->c)) {
        give_up(link, "cannot set the socket's options: %s", strerror(errno));
        return;
    }
    redisAsyncSetConnectCallback(ac, on_connect);
    redisAsyncSetDisconnectCallback(ac, on_disconnect);
}

/* ---- commands ---- */

/* Runs once in reply_timeout_ms at most, not for each command. */
static void watch_oldest(struct redis_link *link)
{
    int64_t left;

    link->timer_set = false;
    if (link->count == 0)
        return;
    left = link->queue[link->first].sent_ms + link->config.reply_timeout_ms - monotonic_now_ms();
    if (left <= 0) {
        give_up(link, "no reply within %" PRId64 " ms", link->config.reply_timeout_ms);
        return;
    }
    set_timer(link, left);
    link->timer_set = true;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct redis_link *link = arg;

    (void)fd;
    (void)what;
    switch (link->state) {
    case LINK_WAITING:
        start_attempt(link);
        break;
    case LINK_CONNECTING:
        give_up(link, "no connection within %" PRId64 " ms", link->config.connect_timeout_ms);
        break;
    case LINK_SETUP:
        give_up(link, "connected, but no answer to %s within %" PRId64 " ms",
                link->config.url->password != NULL ? "AUTH" : "PING",
                link->config.connect_timeout_ms);
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

static void on_reply(redisAsyncContext *ac, void *reply, void *arg)
{
    struct redis_link *link = ac->data;
    struct pending entry;

    (void)arg;
    if (link == NULL || reply == NULL || link->state != LINK_READY)
        return; /* clear_up() speaks to those who wait */
    entry = queue_pop(link);
    enter_callback(link);
    entry.cb(reply, entry.arg);
    leave_callback(link);
}

bool redis_link_send(struct redis_link *link, const void *command, size_t n, redis_reply_cb *cb,
                     void *arg)
{
    int64_t now = monotonic_now_ms();

    if (link->state != LINK_READY || !queue_has_room(link))
        return false;
    if (!send_raw(link->ac, on_reply, command, n)) {
        give_up(link, "out of memory");
        return false;
    }
    queue_push(link, (struct pending){.cb = cb, .arg = arg, .sent_ms = now});
    if (!link->timer_set) {
        set_timer(link, link->config.reply_timeout_ms);
        link->timer_set = true;
    }
    return true;
}

/* ---- life ---- */

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
    set_state(link, LINK_WAITING, 0);
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
