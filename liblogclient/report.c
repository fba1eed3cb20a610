/* report.c: the error callback, or a line on standard error, on a thread that has the program's
 * descriptors. The sender's thread has others, and shall not wait. */
#include "report-internal.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "thread-internal.h"

#define QUEUE_MAX 16
#define TEXT_MAX  800

struct report {
    logclient_status_t status;
    char text[TEXT_MAX];
};

struct lc_reporter {
    logclient_t *client;
    pthread_t thread;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    struct report queue[QUEUE_MAX];
    unsigned first, count;
    bool stop;                     /* when the queue is empty */
    struct lc_reporter *inherited; /* in a forked child: the parent's, which is left as it is */
};

/* Prints one line, if standard error takes it at once. A terminal that is stopped, or a pipe that
 * nobody reads, must not stop the sender. A pipe without a reader would raise SIGPIPE. */
static void print(const char *status, const char *text)
{
    struct pollfd error = {.fd = STDERR_FILENO, .events = POLLOUT};
    char line[PIPE_BUF];
    int saved = errno;
    snprintf(line, sizeof(line) - 1, "liblogclient: %s: %s", status, text);
    size_t n = strlen(line);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = ' ';
    line[n++] = '\n';
    if (poll(&error, 1, 0) == 1 && error.revents == POLLOUT) {
        ssize_t written = write(STDERR_FILENO, line, n);
        (void)written;
    }
    errno = saved;
}

static void tell(logclient_t *c, const struct report *r)
{
    if (c->options->error_cb != NULL)
        c->options->error_cb(c, r->status, r->text, c->options->error_arg);
    else
        print(logclient_strerror(r->status), r->text);
}

/* The next report, when there is one. */
static bool take(struct lc_reporter *r, struct report *report)
{
    pthread_mutex_lock(&r->lock);
    while (r->count == 0 && !r->stop)
        pthread_cond_wait(&r->changed, &r->lock);
    bool found = r->count > 0;
    if (found) {
        *report = r->queue[r->first];
        r->first = (r->first + 1) % QUEUE_MAX;
        r->count--;
    }
    pthread_mutex_unlock(&r->lock);
    return found;
}

static void *run(void *arg)
{
    struct lc_reporter *r = arg;
    struct report report;
    pthread_setname_np(pthread_self(), "logclient-report");
    while (take(r, &report))
        tell(r->client, &report);
    return NULL;
}

int lc_reporter_start(logclient_t *c)
{
    struct lc_reporter *r;
    if (c->reporter != NULL)
        c->inherited_reporter = c->reporter;
    c->reporter = NULL;
    if (c->options->error_cb == NULL && c->options->report != LC_STDERR)
        return 0;
    if ((r = calloc(1, sizeof(*r))) == NULL)
        return ENOMEM;
    r->client = c;
    r->inherited = c->inherited_reporter;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    int error = lc_thread_start(&r->thread, run, r);
    if (error != 0)
        free(r);
    else
        c->reporter = r;
    return error;
}

void lc_reporter_stop(logclient_t *c)
{
    struct lc_reporter *r = c->reporter;
    if (r == NULL || pthread_equal(pthread_self(), r->thread))
        return; /* the callback ends the process */
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    free(r);
    c->reporter = NULL;
}

/* A queue that is full drops the newest: what went wrong first explains the rest. */
void lc_report(logclient_t *c, logclient_status_t status, const char *text)
{
    struct lc_reporter *r = c->reporter;
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    if (r->count < QUEUE_MAX) {
        struct report *report = &r->queue[(r->first + r->count++) % QUEUE_MAX];
        report->status = status;
        snprintf(report->text, sizeof(report->text), "%s", text);
        pthread_cond_signal(&r->changed);
    }
    pthread_mutex_unlock(&r->lock);
}

void lc_report_no_client(const char *text)
{
    static atomic_flag reported = ATOMIC_FLAG_INIT;
    const char *report = secure_getenv("LOGCLIENT_REPORT");
    if (report != NULL && strcmp(report, "stderr") == 0 && !atomic_flag_test_and_set(&reported))
        print("no client could be made", text);
}
