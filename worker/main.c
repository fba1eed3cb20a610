/* main.c: logworker. It writes the records of a Redis Stream to app.log, each exactly once. */
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/diag.h"
#include "common/event-log.h"
#include "common/heap.h"
#include "common/signals.h"
#include "common/timer.h"
#include "worker/config.h"
#include "worker/consumer.h"
#include "worker/status.h"

enum event_source {
    TIMER_FSYNC,
    TIMER_SHUTDOWN,
    SIGNAL_TERM,
    SIGNAL_INT,
    SIGNAL_HUP,
    SIGNAL_USR1,
    EVENT_COUNT,
};

struct worker {
    struct config config;
    struct worker_stats stats;
    struct sink *sink;
    struct event_base *base;
    struct event *events[EVENT_COUNT];
    struct consumer *consumer;
    struct status *status;
    bool stopping;
    enum exit_code code;
};

static void print_stats(const struct worker_stats *s)
{
    diag_info("read %" PRIu64 ", written %" PRIu64 ", found %" PRIu64 ", filtered %" PRIu64
              ", dead %" PRIu64 ", dropped %" PRIu64 ", batches %" PRIu64 ", openings %" PRIu64
              ", write errors %" PRIu64,
              s->read, s->written, s->found, s->filtered, s->dead, s->dropped, s->batches,
              s->openings, s->write_errors);
}

static void on_finished(void *arg)
{
    struct worker *w = arg;
    event_base_loopbreak(w->base);
}

/* The time for an orderly end is over. */
static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct worker *w = arg;
    struct committer *committer = consumer_committer(w->consumer);
    (void)fd, (void)what;
    if (commit_stuck(committer) != NULL) {
        w->code = EXIT_ENVIRONMENT;
        diag_error("the batch in hand stays in Redis: %s", commit_stuck(committer));
    } else {
        diag_warn("Redis has not answered in time; the next start finds out what it has");
    }
    event_base_loopbreak(w->base);
}

static void on_stop(evutil_socket_t number, short what, void *arg)
{
    struct worker *w = arg;
    (void)number, (void)what;
    if (w->stopping) {
        diag_error("stopped by a second signal; the batch in hand stays in Redis");
        _exit(EXIT_ENVIRONMENT);
    }
    w->stopping = true;
    timer_set(w->events[TIMER_SHUTDOWN], w->config.shutdown_timeout_ms);
    consumer_stop(w->consumer);
}

static void on_usr1(evutil_socket_t number, short what, void *arg)
{
    struct worker *w = arg;
    (void)number, (void)what;
    print_stats(&w->stats);
}

static void on_fsync(evutil_socket_t fd, short what, void *arg)
{
    static struct diag_limit limit;
    struct worker *w = arg;
    (void)fd, (void)what;
    if (sink_sync(w->sink))
        return;
    w->stats.write_errors++;
    diag_error_limited(&limit, "cannot fsync %s: %s", w->config.output, strerror(errno));
}

static void on_hup(evutil_socket_t number, short what, void *arg)
{
    struct worker *w = arg;
    /* The timer will look only at the new file. */
    if (w->config.fsync_s > 0)
        on_fsync(number, what, w);
    commit_reopen(consumer_committer(w->consumer));
}

static void make_events(struct worker *w)
{
    struct event **e = w->events;
    e[TIMER_FSYNC] = event_new(w->base, -1, EV_PERSIST, on_fsync, w);
    e[TIMER_SHUTDOWN] = event_new(w->base, -1, 0, on_deadline, w);
    e[SIGNAL_TERM] = evsignal_new(w->base, SIGTERM, on_stop, w);
    e[SIGNAL_INT] = evsignal_new(w->base, SIGINT, on_stop, w);
    e[SIGNAL_HUP] = evsignal_new(w->base, SIGHUP, on_hup, w);
    e[SIGNAL_USR1] = evsignal_new(w->base, SIGUSR1, on_usr1, w);
    for (int i = 0; i < EVENT_COUNT; i++)
        if (e[i] == NULL || (i >= SIGNAL_TERM && event_add(e[i], NULL) != 0))
            diag_die(EXIT_ENVIRONMENT, "cannot set up signals: out of memory");
    signals_release();
    if (w->config.fsync_s > 0)
        timer_set(e[TIMER_FSYNC], w->config.fsync_s * 1000);
}

static void start(struct worker *w)
{
    const struct config *c = &w->config;
    char err[2048]; /* may hold two paths */
    /* A broken pipe and a file at its size limit are errors to handle, not ends. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    w->base = event_base_new();
    if (w->base == NULL)
        diag_die(EXIT_ENVIRONMENT, "cannot start the event loop: out of memory or descriptors");
    make_events(w);
    w->sink = sink_open(c->output, c->fsync_s == FSYNC_BATCH, c->look_back, err, sizeof(err));
    if (w->sink == NULL)
        diag_die(EXIT_ENVIRONMENT, "%s", err);
    w->consumer = consumer_new(w->base, c, w->sink, &w->stats, on_finished, w);
    if (w->consumer == NULL)
        diag_die(EXIT_ENVIRONMENT, "out of memory");
    if (c->listen == NULL)
        return;
    w->status = status_new(w->base, c, w->consumer, w->sink, &w->stats, err, sizeof(err));
    if (w->status == NULL)
        diag_die(EXIT_ENVIRONMENT, "%s", err);
}

static void finish(struct worker *w)
{
    consumer_free(w->consumer);
    status_free(w->status);
    sink_close(w->sink);
    for (int i = 0; i < EVENT_COUNT; i++)
        event_free(w->events[i]);
    event_base_free(w->base);
    config_free(&w->config);
}

int main(int argc, char **argv)
{
    struct worker w = {.code = EXIT_OK};
    signals_hold();
    diag_init("logworker");
    heap_keep();
    event_log_init();
    config_parse(&w.config, argc, argv);
    start(&w);
    if (event_base_dispatch(w.base) < 0)
        diag_die(EXIT_BUG, "the event loop failed: %s", strerror(errno));
    print_stats(&w.stats);
    finish(&w);
    return (int)w.code;
}
