/* main.c: logd, which takes log records over HTTP and puts them into a Redis Stream. */
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/diag.h"
#include "common/event-log.h"
#include "common/heap.h"
#include "common/http/listening.h"
#include "common/http/server.h"
#include "common/signals.h"
#include "common/timestamp.h"
#include "logd/api.h"
#include "logd/config.h"
#include "logd/echo.h"
#include "logd/stats.h"
#include "logd/store.h"

#define SPARE_DESCRIPTORS 32 /* besides HTTP connections */

/* All that lives as long as the event loop. */
struct daemon {
    struct logd_config config;
    struct event_base *base;
    struct logd_stats stats;
    struct store *store;
    struct echo *echo;
    struct api api;
    struct http_server *http;
    struct event *end_signals[2], *other_signals[2];
};

/* ---- Set-up ---- */

static void raise_descriptor_limit(struct logd_config *c)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)c->max_connections + SPARE_DESCRIPTORS;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= wanted)
        return;
    c->max_connections =
        limit.rlim_cur > SPARE_DESCRIPTORS ? (int64_t)(limit.rlim_cur - SPARE_DESCRIPTORS) : 1;
    diag_warn("--max-connections lowered to %lld: the limit of open files (ulimit -n) is %lld",
              (long long)c->max_connections, (long long)limit.rlim_cur);
}

static size_t larger(int64_t a, int64_t b)
{
    return (size_t)(a > b ? a : b);
}

/* The change list spares most calls of epoll_ctl(2); it must not be used with descriptors that are
 * duplicated, which logd never does. */
static struct event_base *new_base(void)
{
    struct event_config *config = event_config_new();
    if (config == NULL)
        return NULL;
    event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

static bool start_parts(struct daemon *d)
{
    const struct logd_config *c = &d->config;
    d->stats.start_ms = timestamp_now_ms();
    d->base = new_base();
    if (d->base == NULL)
        return false;
    d->store = store_new(d->base, &(struct store_config){
                                      .url = &c->redis,
                                      .stream = c->stream,
                                      .stats = &d->stats,
                                      .reply_timeout_ms = c->redis_timeout_ms,
                                      .producer_ttl_ms = c->producer_ttl_ms,
                                      .max_in_flight = (size_t)c->max_in_flight,
                                  });
    if (c->echo)
        d->echo = echo_new(STDOUT_FILENO, &d->stats);
    d->api = (struct api){.store = d->store,
                          .echo = d->echo,
                          .stats = &d->stats,
                          .max_records = (size_t)c->max_records,
                          .max_message = (size_t)c->max_message};
    d->http = http_new(d->base,
                       &(struct http_config){
                           .max_body = (size_t)c->max_body,
                           .max_reading = larger(c->max_in_flight, c->max_body + c->max_body / 2),
                           .max_connections = (size_t)c->max_connections,
                           .request_timeout_ms = c->request_timeout_ms,
                           .idle_timeout_ms = c->idle_timeout_ms,
                           .has_options = true,
                           .headers = api_headers,
                           .handle = api_handle,
                           .arg = &d->api,
                       });
    return d->store != NULL && d->http != NULL && (d->echo != NULL || !c->echo);
}

/* Listens everywhere, and says where on standard output. */
static void listen_all(struct daemon *d)
{
    const struct logd_config *c = &d->config;
    char err[256];
    struct buf shown = {0};
    for (size_t i = 0; i < c->listen.count; i++) {
        char address[LISTEN_SHOWN_MAX];
        int fd = listen_open(c->listen.item[i], address, err, sizeof(err));
        if (fd < 0)
            diag_die(EXIT_ENVIRONMENT, "%s", err);
        if (!http_listen(d->http, fd))
            diag_die(EXIT_ENVIRONMENT, "cannot listen on %s: out of memory", address);
        buf_printf(&shown, "%s%s", i > 0 ? ", " : "", address);
    }
    printf("logd: listening on %.*s; redis %s, stream %s\n", (int)shown.len, shown.data,
           c->redis.shown, c->stream);
    fflush(stdout);
    buf_free(&shown);
}

/* ---- Signals and the end ---- */

static void on_stopped(void *arg)
{
    struct daemon *d = arg;
    event_base_loopbreak(d->base);
}

static void free_signals(struct event *signals[2])
{
    for (size_t i = 0; i < 2; i++) {
        if (signals[i] != NULL)
            event_free(signals[i]);
        signals[i] = NULL;
    }
}

/* Without the events the signals have their default action again: a second one ends the process. */
static void drop_signals(struct daemon *d)
{
    free_signals(d->end_signals);
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
    struct daemon *d = arg;
    (void)what;
    drop_signals(d); /* first, so that what is said next is true */
    diag_info("%s: finishing what has been accepted; a second signal ends logd at once",
              number == SIGINT ? "SIGINT" : "SIGTERM");
    http_stop(d->http, d->config.shutdown_timeout_ms, on_stopped, d);
}

/* SIGHUP asks other daemons to open their files anew, and SIGUSR1 asks logworker for its counters:
 * neither may end this one. */
static void on_other_signal(evutil_socket_t number, short what, void *arg)
{
    const struct logd_stats *s = &((struct daemon *)arg)->stats;
    (void)what;
    if (number == SIGHUP)
        diag_info("SIGHUP: there is nothing to open anew; logd goes on");
    else
        diag_info("accepted %" PRIu64 ", duplicates %" PRIu64 ", unknown %" PRIu64
                  ", sequence gaps %" PRIu64,
                  s->accepted, s->duplicates, s->unknown, s->gaps);
}

static bool watch_two(struct daemon *d, const int numbers[2], event_callback_fn on,
                      struct event *signals[2])
{
    for (size_t i = 0; i < 2; i++) {
        signals[i] = evsignal_new(d->base, numbers[i], on, d);
        if (signals[i] == NULL || event_add(signals[i], NULL) < 0)
            return false;
    }
    return true;
}

static bool watch_signals(struct daemon *d)
{
    static const int end[2] = {SIGTERM, SIGINT}, other[2] = {SIGHUP, SIGUSR1};
    return watch_two(d, end, on_signal, d->end_signals) &&
           watch_two(d, other, on_other_signal, d->other_signals) &&
           signal(SIGPIPE, SIG_IGN) != SIG_ERR;
}

/* HTTP first: its connections do not wait for the store any more. */
static void free_parts(struct daemon *d)
{
    http_free(d->http);
    store_free(d->store);
    api_free(&d->api);
    echo_free(d->echo);
    drop_signals(d);
    free_signals(d->other_signals);
    event_base_free(d->base);
    config_free(&d->config);
}

int main(int argc, char **argv)
{
    struct daemon d = {0};
    signals_hold();
    diag_init("logd");
    heap_keep();
    event_log_init();
    config_parse(&d.config, argc, argv);
    raise_descriptor_limit(&d.config);
    if (!start_parts(&d) || !watch_signals(&d))
        diag_die(EXIT_ENVIRONMENT, "cannot start: out of memory or descriptors");
    signals_release();
    listen_all(&d);
    int rc = event_base_dispatch(d.base);
    free_parts(&d);
    if (rc < 0)
        diag_die(EXIT_ENVIRONMENT, "the event loop failed");
    return EXIT_OK;
}
