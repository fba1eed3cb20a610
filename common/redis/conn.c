/* conn.c: hiredis's asynchronous API, versions 0.14.1 to 1.x, on libevent. link.c uses it.
 *
 * hiredis frees its context itself when a connection ends. 0.14.1 crashes when it is asked to do so
 * in the callback that tells of the end. So context and connection let go of each other there.
 * hiredis then calls reply callbacks with NULL; these are not passed on, since link.c knows which
 * commands are unanswered. */
#include "common/redis/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <event2/event.h>

#include "common/diag.h"
#include "common/redis/reply-build.h"
#include "common/timestamp.h"

#define READ_BYTES 16384 /* that hiredis reads at a time */
#define SHORT_MAX  64    /* bytes; longer than any command without arguments */

struct redis_conn {
    redisAsyncContext *ac; /* owned; its `data` is this, or NULL after let_go() */
    struct redis_conn_events events;
    void *arg;         /* of the events */
    size_t unanswered; /* commands without a reply */
    bool unasked;      /* there was a reply too many */
    int64_t read_ms;   /* monotonic time of the last read; 0: none */
    size_t limit;      /* of a reply; 0: none */
    size_t coming;     /* bytes that came since the last reply, while there is a limit */
    bool outgrown;     /* a reply is larger than the limit */
};

/* ---- Hiredis on libevent ---- */

/* The events of one connection: owned by the hiredis context, freed by its cleanup hook. */
struct adapter {
    redisAsyncContext *ac;
    struct event *readable, *writable;
    bool in_write; /* from the start of a write to hiredis's word on whether all is written */
};

/* What hiredis is about to read counts as part of the next reply. */
static void count_coming(struct redis_conn *conn, int fd)
{
    int ready = 0;
    if (conn->limit == 0 || ioctl(fd, FIONREAD, &ready) != 0)
        return;
    conn->coming += (size_t)(ready < READ_BYTES ? ready : READ_BYTES);
    conn->outgrown = conn->coming > conn->limit;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    redisAsyncContext *ac = ((struct adapter *)arg)->ac;
    struct redis_conn *conn = ac->data;
    (void)what;
    if (conn != NULL) {
        conn->read_ms = monotonic_now_ms();
        count_coming(conn, fd);
    }
    redisAsyncHandleRead(ac);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct adapter *a = arg;
    (void)fd, (void)what;
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

/* Inside a write: not all could be written, so wait for the socket. Otherwise a command was added.
 * It is written at the end of this turn of the loop, with all others of the turn; epoll is not
 * asked first. */
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

/* ---- A guard against replies that nobody asked for ---- */

/* hiredis aborts the process when a reply comes that no command asked for. But servers can be
 * broken, or be no Redis at all. So each new reply, and each part of one, passes here before
 * hiredis sees it; NULL ends the connection like a protocol error. */

static bool expected(const redisReadTask *task)
{
    struct redis_conn *conn = task->privdata;
    if (conn->outgrown)
        return false;
    if (task->parent != NULL || conn->unanswered > 0)
        return true;
    if (task->type == REDIS_REPLY_ERROR)
        return true; /* hiredis closes the connection with its text as the reason */
    conn->unasked = true;
    return false;
}

static void *create_string(const redisReadTask *task, char *s, size_t n)
{
    return expected(task) ? reply_build.createString(task, s, n) : NULL;
}

static void *create_integer(const redisReadTask *task, long long n)
{
    return expected(task) ? reply_build.createInteger(task, n) : NULL;
}

static void *create_nil(const redisReadTask *task)
{
    return expected(task) ? reply_build.createNil(task) : NULL;
}

#if HIREDIS_MAJOR >= 1
static void *create_array(const redisReadTask *task, size_t n)
{
    return expected(task) ? reply_build.createArray(task, n) : NULL;
}

static void *create_double(const redisReadTask *task, double value, char *s, size_t n)
{
    return expected(task) ? reply_build.createDouble(task, value, s, n) : NULL;
}

static void *create_bool(const redisReadTask *task, int value)
{
    return expected(task) ? reply_build.createBool(task, value) : NULL;
}
#else
static void *create_array(const redisReadTask *task, int n)
{
    return expected(task) ? reply_build.createArray(task, n) : NULL;
}
#endif

static void guard(redisReader *reader, struct redis_conn *conn)
{
    static redisReplyObjectFunctions guarded;
    if (guarded.freeObject == NULL) {
        guarded = reply_build;
        guarded.createString = create_string;
        guarded.createInteger = create_integer;
        guarded.createNil = create_nil;
        guarded.createArray = create_array;
#if HIREDIS_MAJOR >= 1
        guarded.createDouble = create_double;
        guarded.createBool = create_bool;
#endif
    }
    reader->fn = &guarded;
    reader->privdata = conn;
}

/* ---- The connection ---- */

static void let_go(struct redis_conn *conn)
{
    conn->ac->data = NULL;
    free(conn);
}

static void tell_closed(const redisAsyncContext *ac)
{
    struct redis_conn *conn = ac->data;
    if (conn == NULL)
        return;
    conn->events.closed(conn->outgrown  ? "a reply is larger than its limit"
                        : conn->unasked ? "Redis sent a reply that nobody asked for"
                                        : ac->c.errstr,
                        conn->arg);
    let_go(conn);
}

static void on_connect(const redisAsyncContext *ac, int status)
{
    struct redis_conn *conn = ac->data;
    if (status != REDIS_OK)
        tell_closed(ac);
    else if (conn != NULL)
        conn->events.connected(conn->arg);
}

static void on_disconnect(const redisAsyncContext *ac, int status)
{
    (void)status;
    tell_closed(ac);
}

static void on_reply(redisAsyncContext *ac, void *reply, void *arg)
{
    struct redis_conn *conn = ac->data;
    (void)arg;
    if (conn == NULL || reply == NULL)
        return;
    conn->unanswered--;
    conn->coming = 0;
    conn->events.reply(reply, conn->arg);
}

/* hiredis sets TCP_NODELAY itself. */
static bool set_socket_options(redisContext *c)
{
    int flags = fcntl(c->fd, F_GETFD);
    if (flags < 0 || fcntl(c->fd, F_SETFD, flags | FD_CLOEXEC) != 0)
        return false;
    return c->connection_type != REDIS_CONN_TCP || redisEnableKeepAlive(c) == REDIS_OK;
}

/* Makes a fresh context report to `conn`. */
static bool adopt(struct redis_conn *conn, redisAsyncContext *ac, struct event_base *base,
                  char *err, size_t errlen)
{
    if (ac == NULL) {
        snprintf(err, errlen, "out of memory");
        return false;
    }
    if (ac->err != 0) {
        snprintf(err, errlen, "%s", ac->errstr);
        return false;
    }
    if (!set_socket_options(&ac->c)) {
        snprintf(err, errlen, "cannot set the options of the socket: %s", strerror(errno));
        return false;
    }
    if (!attach(ac, base)) {
        snprintf(err, errlen, "out of memory");
        return false;
    }
    conn->ac = ac;
    ac->data = conn;
    guard(ac->c.reader, conn);
    redisAsyncSetConnectCallback(ac, on_connect);
    redisAsyncSetDisconnectCallback(ac, on_disconnect);
    return true;
}

struct redis_conn *redis_conn_open(struct event_base *base, const struct redis_url *url,
                                   const struct redis_conn_events *events, void *arg, char *err,
                                   size_t errlen)
{
    struct redis_conn *conn = calloc(1, sizeof(*conn));
    redisAsyncContext *ac;
    if (conn == NULL) {
        snprintf(err, errlen, "out of memory");
        return NULL;
    }
    conn->events = *events;
    conn->arg = arg;
    ac = url->path != NULL ? redisAsyncConnectUnix(url->path)
                           : redisAsyncConnect(url->host, url->port);
    if (adopt(conn, ac, base, err, errlen))
        return conn;
    if (ac != NULL)
        redisAsyncFree(ac);
    free(conn);
    return NULL;
}

/* hiredis looks at the byte after the first argument, to tell SUBSCRIBE. When there is no other
 * argument, that byte lies behind the command. A copy makes sure that it is there. */
static const void *with_byte_behind(const void *command, size_t n, char copy[SHORT_MAX])
{
    if (n >= SHORT_MAX || n < 4 || memcmp(command, "*1\r\n", 4) != 0)
        return command;
    memcpy(copy, command, n);
    copy[n] = '\0';
    return copy;
}

bool redis_conn_send(struct redis_conn *conn, const void *command, size_t n)
{
    char copy[SHORT_MAX];
    command = with_byte_behind(command, n, copy);
    if (redisAsyncFormattedCommand(conn->ac, on_reply, NULL, command, n) != REDIS_OK)
        return false;
    conn->unanswered++;
    return true;
}

void redis_conn_limit(struct redis_conn *conn, size_t bytes)
{
    conn->limit = bytes;
}

int64_t redis_conn_read_ms(const struct redis_conn *conn)
{
    return conn->read_ms;
}

void redis_conn_close(struct redis_conn *conn)
{
    redisAsyncContext *ac = conn->ac;
    let_go(conn);
    redisAsyncFree(ac); /* in a reply callback hiredis puts this off until it returns */
}
