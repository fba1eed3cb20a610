#include "worker/port.h"

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "common/http/accepting.h"
#include "common/diag.h"

#define VISITS_MAX    32
#define VISIT_SECONDS 10
#define HEADERS_MAX   8192
#define BODY_MAX      1024

/* One connection. */
struct visit {
    TAILQ_ENTRY(visit) next;
    struct port *port;
    struct bufferevent *bev;         /* ours, too, until evcon is known; then NULL */
    struct evhttp_connection *evcon; /* NULL until the timer has run once */
    struct event *timer;
};

struct port {
    struct event_base *base;
    struct evhttp *http;
    struct acceptor acceptor;
    TAILQ_HEAD(visit_list, visit) visits;
    unsigned count; /* of them */
};

static void release(struct visit *v)
{
    struct port *p = v->port;
    TAILQ_REMOVE(&p->visits, v, next);
    if (v->bev != NULL)
        bufferevent_decref(v->bev);
    event_free(v->timer);
    free(v);
    p->count--;
    acceptor_set_full(&p->acceptor, false);
}

static void on_close(struct evhttp_connection *evcon, void *arg)
{
    (void)evcon;
    release(arg);
}

static void set_timer(struct visit *v, int seconds)
{
    const struct timeval tv = {.tv_sec = seconds};
    if (event_add(v->timer, &tv) != 0)
        diag_die(EXIT_ENVIRONMENT, "cannot set a timer: out of memory");
}

/* Only now evhttp has made its connection, which it gives to the bufferevent's callbacks; without
 * one it has failed already. */
static void attach(struct visit *v)
{
    void *evcon = NULL;
    bufferevent_getcb(v->bev, NULL, NULL, NULL, &evcon);
    if (evcon == NULL) {
        release(v);
        return;
    }
    bufferevent_decref(v->bev);
    v->bev = NULL;
    v->evcon = evcon;
    evhttp_connection_set_closecb(v->evcon, on_close, v);
    set_timer(v, VISIT_SECONDS);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct visit *v = arg;
    (void)fd, (void)what;
    if (v->evcon == NULL)
        attach(v);
    else
        evhttp_connection_free(v->evcon); /* on_close() follows */
}

/* evhttp asks for the bufferevent of a connection that it has accepted. */
static struct bufferevent *on_accept(struct event_base *base, void *arg)
{
    struct port *p = arg;
    struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    struct visit *v = calloc(1, sizeof(*v));
    struct event *timer = evtimer_new(base, on_timer, v);
    if (v == NULL || bev == NULL || timer == NULL) {
        diag_die(EXIT_ENVIRONMENT, "out of memory for a connection to --listen");
        return NULL; /* for cppcheck, which does not know that this is not reached */
    }
    v->bev = bev;
    v->timer = timer;
    v->port = p;
    bufferevent_incref(v->bev);
    TAILQ_INSERT_TAIL(&p->visits, v, next);
    set_timer(v, 0);
    if (++p->count >= VISITS_MAX)
        acceptor_set_full(&p->acceptor, true);
    return v->bev;
}

struct port *port_new(struct event_base *base)
{
    struct port *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return NULL;
    TAILQ_INIT(&p->visits);
    p->base = base;
    p->http = evhttp_new(base);
    if (!acceptor_init(&p->acceptor, base) || p->http == NULL) {
        port_free(p);
        return NULL;
    }
    evhttp_set_max_headers_size(p->http, HEADERS_MAX);
    evhttp_set_max_body_size(p->http, BODY_MAX);
    evhttp_set_allowed_methods(p->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
    evhttp_set_bevcb(p->http, on_accept, p);
    return p;
}

struct evhttp *port_http(struct port *p)
{
    return p->http;
}

bool port_listen(struct port *p, int fd)
{
    struct evconnlistener *listener = acceptor_add(&p->acceptor, p->base, fd);
    return listener != NULL && evhttp_bind_listener(p->http, listener) != NULL;
}

void port_free(struct port *p)
{
    struct visit *v, *next;
    if (p == NULL)
        return;
    acceptor_forget(&p->acceptor);
    for (v = TAILQ_FIRST(&p->visits); v != NULL; v = next) {
        next = TAILQ_NEXT(v, next);
        if (v->evcon == NULL)
            release(v);
    }
    if (p->http != NULL)
        evhttp_free(p->http);
    acceptor_free(&p->acceptor);
    free(p);
}
