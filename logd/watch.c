/* watch.c: looks whether Redis takes writes. */
#include "logd/watch.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/diag.h"
#include "common/redis/keys.h"
#include "common/redis/resp.h"
#include "common/redis/settings.h"
#include "common/timer.h"

#define LOOK_MS 1000

struct watch {
    char *probe_key; /* owned */
    watch_cb *cb;
    void *arg;
    struct redis_link *link; /* NULL while down */
    struct event *timer;
};

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

/* A write that changes nothing. But Redis refuses it when memory is used up, on a replica, and when
 * it cannot save. */
static void look(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct watch *w = arg;
    /* A command that cannot be sent is followed by the link's `down`, or by the next look. */
    (void)redis_link_send_words(w->link, RESP_WORDS("SET", w->probe_key, "1", "XX"), on_probe, w);
}

struct watch *watch_new(struct event_base *base, const char *stream, watch_cb *cb, void *arg)
{
    struct watch *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return NULL;
    *w = (struct watch){.cb = cb, .arg = arg};
    w->timer = event_new(base, -1, EV_PERSIST, look, w);
    w->probe_key = key_new(stream, KEY_PROBE);
    if (w->timer != NULL && w->probe_key != NULL)
        return w;
    watch_free(w);
    return NULL;
}

void watch_start(struct watch *w, struct redis_link *link)
{
    w->link = link;
    (void)settings_check(link, SETTINGS_EVICTION);
    (void)settings_check(link, SETTINGS_APPEND);
    look(-1, 0, w);
    timer_set(w->timer, LOOK_MS);
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
    free(w);
}
