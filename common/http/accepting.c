/* accepting.c: turns all listeners on and off together. */
#include "common/http/accepting.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <string.h>

#include "common/diag.h"
#include "common/timer.h"

#define PAUSE_MS 500

/* The error callback gets the argument of the accept callback, which is evhttp's. */
static struct acceptor *the_acceptor;

static void update(struct acceptor *a)
{
    bool enable = !a->full && !a->failing;
    if (enable == a->enabled)
        return;
    a->enabled = enable;
    for (size_t i = 0; i < a->count; i++)
        if ((enable ? evconnlistener_enable(a->listener[i])
                    : evconnlistener_disable(a->listener[i])) < 0)
            diag_warn("cannot %s accepting connections: %s", enable ? "resume" : "suspend",
                      strerror(errno));
}

/* Out of descriptors, most likely: accept(2) would fail again at once, for ever. */
static void on_error(struct evconnlistener *listener, void *arg)
{
    static struct diag_limit limit;
    int error = errno;
    (void)listener, (void)arg;
    struct acceptor *a = the_acceptor;
    diag_warn_limited(&limit, "cannot accept connections: %s; trying again", strerror(error));
    timer_set(a->again, PAUSE_MS);
    a->failing = true;
    update(a);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct acceptor *a = arg;
    a->failing = false;
    update(a);
}

bool acceptor_init(struct acceptor *a, struct event_base *base)
{
    *a = (struct acceptor){.enabled = true};
    the_acceptor = a;
    a->again = evtimer_new(base, on_again, a);
    return a->again != NULL;
}

void acceptor_free(struct acceptor *a)
{
    if (a->again != NULL)
        event_free(a->again);
}

struct evconnlistener *acceptor_add(struct acceptor *a, struct event_base *base, int fd)
{
    struct evconnlistener *l = NULL;
    if (a->count < ACCEPT_LISTENERS_MAX)
        l = evconnlistener_new(base, NULL, NULL, LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_CLOSE_ON_FREE, 0,
                               fd);
    if (l == NULL) {
        evutil_closesocket(fd);
        return NULL;
    }
    evconnlistener_set_error_cb(l, on_error);
    a->listener[a->count++] = l;
    return l;
}

void acceptor_set_full(struct acceptor *a, bool full)
{
    a->full = full;
    update(a);
}

void acceptor_forget(struct acceptor *a)
{
    a->count = 0;
}
