/* logd: takes log records over HTTP and puts them into a Redis Stream. */
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
#include "common/options.h"
#include "common/record.h"
#include "common/redis/url.h"
#include "common/timestamp.h"
#include "logd/api.h"
#include "logd/echo.h"
#include "common/http/server.h"
#include "logd/stats.h"
#include "logd/store.h"

#define SPARE_DESCRIPTORS 32 /* besides HTTP connections */
#define BODY_LIMIT        (1LL << 30)

static struct {
    struct option_list listen;
    const char *redis;
    const char *stream;
    bool echo;
    int64_t max_body, max_records, max_message, max_in_flight, max_connections;
    int64_t request_timeout, idle_timeout, redis_timeout, shutdown_timeout, producer_ttl;
} options;

static const char *check_stream(const char *value)
{
    return *value == '\0' ? "give the name of a Redis key" : NULL;
}

static const struct option_spec specs[] = {
    {.name = "listen",
     .letter = 'l',
     .type = OPTION_LIST,
     .target = &options.listen,
     .default_text = "127.0.0.1:4000",
     .metavar = "ADDR:PORT",
     .check = listen_check,
     .help = "listen there; a numeric address, IPv6 in brackets; port 0 takes a free one"},
    {.name = "redis",
     .letter = 'r',
     .type = OPTION_STRING,
     .target = &options.redis,
     .default_text = "redis://127.0.0.1:6379",
     .metavar = "URL",
     .help = "where Redis is: redis://[USER:PASSWORD@]HOST[:PORT][/DB]\nor "
             "unix://[USER:PASSWORD@]/PATH[?db=N]; percent-encoded"},
    {.name = "stream",
     .letter = 's',
     .type = OPTION_STRING,
     .target = &options.stream,
     .default_text = "logs-stream",
     .metavar = "KEY",
     .check = check_stream,
     .help = "the stream that gets the records"},
    {.name = "echo",
     .type = OPTION_BOOL,
     .target = &options.echo,
     .help = "print each valid record on standard output as it arrives, and again when it is sent\n"
             "again, in the form of app.log; the default when standard output is a terminal"},
    {.name = "max-body",
     .type = OPTION_BYTES,
     .target = &options.max_body,
     .default_text = "8m",
     .min = 1,
     .max = BODY_LIMIT,
     .metavar = "BYTES",
     .help = "answer 413 to larger bodies"},
    {.name = "max-records",
     .type = OPTION_NUMBER,
     .target = &options.max_records,
     .default_text = "10000",
     .min = 1,
     .max = 1000000,
     .metavar = "N",
     .help = "answer 413 to bodies with more records"},
    {.name = "max-message",
     .type = OPTION_BYTES,
     .target = &options.max_message,
     .default_text = "64k",
     .min = 1,
     .max = BODY_LIMIT,
     .metavar = "BYTES",
     .help = "answer 400 to longer messages; logworker has the same option"},
    {.name = "max-in-flight",
     .type = OPTION_BYTES,
     .target = &options.max_in_flight,
     .default_text = "64m",
     .min = 1,
     .max = 1LL << 40,
     .metavar = "BYTES",
     .help = "answer 503 while more than that waits for Redis, or is being received;\n"
             "logd may need about twice that in memory"},
    {.name = "max-connections",
     .type = OPTION_NUMBER,
     .target = &options.max_connections,
     .default_text = "1000",
     .min = 1,
     .max = 1000000,
     .metavar = "N",
     .help = "accept no more HTTP connections at a time"},
    {.name = "request-timeout",
     .type = OPTION_MS,
     .target = &options.request_timeout,
     .default_text = "10s",
     .min = 1,
     .max = 86400000,
     .metavar = "TIME",
     .help = "answer 408 when a request is not complete so long after its first byte"},
    {.name = "idle-timeout",
     .type = OPTION_MS,
     .target = &options.idle_timeout,
     .default_text = "60s",
     .min = 1,
     .max = 86400000,
     .metavar = "TIME",
     .help = "close connections that send no request for so long"},
    {.name = "redis-timeout",
     .type = OPTION_MS,
     .target = &options.redis_timeout,
     .default_text = "5s",
     .min = 1,
     .max = 86400000,
     .metavar = "TIME",
     .help = "give a connection to Redis up from which nothing comes for so long, though an answer "
             "is due"},
    {.name = "producer-ttl",
     .type = OPTION_MS,
     .target = &options.producer_ttl,
     .default_text = "7d",
     .min = 1000,
     .max = 315360000000,
     .metavar = "TIME",
     .help = "remember for so long what a producer has sent, from its last batch on"},
    {.name = "shutdown-timeout",
     .type = OPTION_MS,
     .target = &options.shutdown_timeout,
     .default_text = "10s",
     .max = 86400000,
     .metavar = "TIME",
     .help = "wait so long for incomplete requests on SIGTERM and SIGINT"},
};

static const struct options_program program = {
    .name = "logd",
    .version = LOGPIPE_VERSION,
    .usage = "logd [OPTION...]",
    .summary = "Takes log records over HTTP and puts them into a Redis Stream.",
    .specs = specs,
    .count = sizeof(specs) / sizeof(specs[0]),
};

/* All that lives as long as the event loop. */
struct daemon {
    struct event_base *base;
    struct redis_url url;
    struct logd_stats stats;
    struct store *store;
    struct echo *echo;
    struct api api;
    struct http_server *http;
    struct event *end_signals[2], *other_signals[2];
};

/* ---- Set-up ---- */

static void parse_options(int argc, char **argv, struct redis_url *url)
{
    char err[512];
    options.echo = isatty(STDOUT_FILENO);
    switch (options_parse(&program, argc, argv, NULL, err, sizeof(err))) {
    case OPTIONS_RUN:
        break;
    case OPTIONS_EXIT:
        exit(EXIT_OK);
    case OPTIONS_ERROR:
        diag_die(EXIT_USAGE, "%s", err);
    }
    if (!redis_url_parse(url, options.redis, err, sizeof(err)))
        diag_die(EXIT_USAGE, "--redis (or LOGD_REDIS): %s", err);
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)options.max_connections + SPARE_DESCRIPTORS;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= wanted)
        return;
    options.max_connections =
        limit.rlim_cur > SPARE_DESCRIPTORS ? (int64_t)(limit.rlim_cur - SPARE_DESCRIPTORS) : 1;
    diag_warn("--max-connections lowered to %lld: the limit of open files (ulimit -n) is %lld",
              (long long)options.max_connections, (long long)limit.rlim_cur);
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
    d->stats.start_ms = timestamp_now_ms();
    d->base = new_base();
    if (d->base == NULL)
        return false;
    d->store = store_new(d->base, &(struct store_config){
                                      .url = &d->url,
                                      .stream = options.stream,
                                      .stats = &d->stats,
                                      .reply_timeout_ms = options.redis_timeout,
                                      .producer_ttl_ms = options.producer_ttl,
                                      .max_in_flight = (size_t)options.max_in_flight,
                                  });
    if (options.echo)
        d->echo = echo_new(STDOUT_FILENO, &d->stats);
    d->api = (struct api){.store = d->store,
                          .echo = d->echo,
                          .stats = &d->stats,
                          .max_records = (size_t)options.max_records,
                          .max_message = (size_t)options.max_message};
    d->http = http_new(d->base, &(struct http_config){
                                    .max_body = (size_t)options.max_body,
                                    .max_reading = larger(options.max_in_flight,
                                                          options.max_body + options.max_body / 2),
                                    .max_connections = (size_t)options.max_connections,
                                    .request_timeout_ms = options.request_timeout,
                                    .idle_timeout_ms = options.idle_timeout,
                                    .stats = &d->stats,
                                    .handle = api_handle,
                                    .arg = &d->api,
                                });
    return d->store != NULL && d->http != NULL && (d->echo != NULL || !options.echo);
}

/* Listens everywhere, and says where on standard output. */
static void listen_all(struct daemon *d)
{
    char err[256];
    struct buf shown = {0};
    for (size_t i = 0; i < options.listen.count; i++) {
        char address[LISTEN_SHOWN_MAX];
        int fd = listen_open(options.listen.item[i], address, err, sizeof(err));
        if (fd < 0)
            diag_die(EXIT_ENVIRONMENT, "%s", err);
        if (!http_listen(d->http, fd))
            diag_die(EXIT_ENVIRONMENT, "cannot listen on %s: out of memory", address);
        buf_printf(&shown, "%s%s", i > 0 ? ", " : "", address);
    }
    printf("logd: listening on %.*s; redis %s, stream %s\n", (int)shown.len, shown.data,
           d->url.shown, options.stream);
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
    http_stop(d->http, options.shutdown_timeout, on_stopped, d);
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
    redis_url_free(&d->url);
    options_list_free(&options.listen);
}

int main(int argc, char **argv)
{
    struct daemon d = {0};
    diag_init("logd");
    heap_keep();
    event_log_init();
    parse_options(argc, argv, &d.url);
    raise_descriptor_limit();
    if (!start_parts(&d) || !watch_signals(&d))
        diag_die(EXIT_ENVIRONMENT, "cannot start: out of memory or descriptors");
    listen_all(&d);
    int rc = event_base_dispatch(d.base);
    free_parts(&d);
    if (rc < 0)
        diag_die(EXIT_ENVIRONMENT, "the event loop failed");
    return EXIT_OK;
}
