#include "logd/watch.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/diag.h"
#include "common/redis/eviction.h"
#include "common/redis/resp.h"

#define LOOK_SECONDS 1

struct watch {
    char *probe_key; /* owned; never exists in Redis */
    watch_cb *cb;
    void *arg;
    struct redis_link *link; /* NULL while down */
    struct event *timer;
    struct buf command; /* scratch */
};

/* ---- Looking ---- */

/* An account that may not run the probe says nothing about writes. */
static void on_probe(const struct redis_reply *reply, void *arg)
{
    struct watch *w = arg;
    if (reply == NULL)
        return;
    if (reply_type(reply) != REPLY_ERROR || reply_is_error(reply, "NOPERM")) {
        w->cb(NULL, w->arg);
        return;
    }
    char text[256];
    struct span error = reply_span(reply);
    snprintf(text, sizeof(text), "%.*s", (int)error.n, error.p);
    w->cb(text, w->arg);
}

/* A write that changes nothing, but is refused when memory is used up, on a replica, and when Redis
 * cannot save. */
static void look(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct watch *w = arg;
    buf_clear(&w->command);
    resp_begin(&w->command, 4);
    resp_arg_str(&w->command, "SET");
    resp_arg_str(&w->command, w->probe_key);
    resp_arg_str(&w->command, "1");
    resp_arg_str(&w->command, "XX");
    /* A command that cannot be sent is followed by the link's `down`, or by the next look. */
    if (!w->command.failed)
        (void)redis_link_send(w->link, w->command.data, w->command.len, on_probe, w);
}

/* ---- Settings that lose records ---- */

/* The value in a reply to CONFIG GET; empty when there is none or CONFIG is not allowed. */
static struct span config_value(const struct redis_reply *reply)
{
    if (reply == NULL || reply_type(reply) != REPLY_ARRAY || reply_count(reply) != 2)
        return (struct span){0};
    return reply_span(reply_at(reply, 1));
}

/* Redis may come and go often; its settings change rarely. */
#define WARN_LIMITED(...)                                                                          \
    do {                                                                                           \
        static struct diag_limit limit;                                                            \
        diag_warn_limited(&limit, __VA_ARGS__);                                                    \
    } while (0)

static void on_appendonly(const struct redis_reply *reply, void *arg)
{
    (void)arg;
    if (span_is(config_value(reply), "no"))
        WARN_LIMITED("Redis runs with appendonly no: records are lost when redis-server dies; set "
                     "appendonly to yes");
}

static void on_appendfsync(const struct redis_reply *reply, void *arg)
{
    (void)arg;
    /* Redis puts off the write itself, for up to 2 s, while an fsync is under way. */
    if (span_is(config_value(reply), "everysec"))
        WARN_LIMITED("Redis runs with appendfsync everysec: a killed redis-server may lose up to "
                     "2 s of confirmed records; set appendfsync to always, or to no if only the "
                     "death of the process matters");
}

static void ask_config(struct watch *w, const char *name, redis_reply_cb *cb)
{
    buf_clear(&w->command);
    resp_begin(&w->command, 3);
    resp_arg_str(&w->command, "CONFIG");
    resp_arg_str(&w->command, "GET");
    resp_arg_str(&w->command, name);
    if (!w->command.failed)
        (void)redis_link_send(w->link, w->command.data, w->command.len, cb, w);
}

/* ---- Life cycle ---- */

struct watch *watch_new(struct event_base *base, const char *stream, watch_cb *cb, void *arg)
{
    struct watch *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return NULL;
    *w = (struct watch){.cb = cb, .arg = arg};
    w->timer = event_new(base, -1, EV_PERSIST, look, w);
    if (w->timer == NULL || asprintf(&w->probe_key, "%s:probe", stream) < 0) {
        w->probe_key = NULL;
        watch_free(w);
        return NULL;
    }
    return w;
}

void watch_start(struct watch *w, struct redis_link *link)
{
    static const struct timeval interval = {.tv_sec = LOOK_SECONDS};
    w->link = link;
    (void)eviction_check(link);
    ask_config(w, "appendonly", on_appendonly);
    ask_config(w, "appendfsync", on_appendfsync);
    look(-1, 0, w);
    if (event_add(w->timer, &interval) < 0)
        diag_warn("out of memory: logd no longer looks whether Redis takes writes");
}

void watch_stop(struct watch *w)
{
    event_del(w->timer);
    w->link = NULL;
}

void watch_free(struct watch *w)
{
    if (w == NULL)
        return;
    if (w->timer != NULL)
        event_free(w->timer);
    free(w->probe_key);
    buf_free(&w->command);
    free(w);
}
