/* sender-thread.c: the sender's thread: how it begins and ends, and the ring that it makes. */
#include "sender-internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "report-internal.h"
#include "ring-read-internal.h"
#include "table-internal.h"
#include "thread-internal.h"

static uint64_t capacity_for(int64_t bytes)
{
    uint64_t capacity = LC_RING_MIN_BYTES;
    while (capacity < (uint64_t)bytes)
        capacity *= 2;
    return capacity;
}

/* Makes the ring: in the directory if there is one, else in memory. Returns 0 or an errno. */
static int open_ring(logclient_t *c)
{
    const logclient_options_t *o = c->options;
    uint64_t capacity = capacity_for(o->ring_bytes);
    char *why = c->fallback_text;
    const size_t whylen = sizeof(c->fallback_text);
    c->name[0] = '\0';
    lc_ringdirs_open(&c->dirs, o->ring_dir, o->drain_dir, why, whylen);
    if (c->dirs.own) {
        int error = lc_ringdir_create(c->dirs.fds[0], &c->ring, capacity, c->name);
        if (error == 0)
            return 0;
        snprintf(why, whylen, "cannot make a ring file: %s", strerror(error));
        c->name[0] = '\0';
    }
    atomic_store(&c->count.fallback, why[0] != '\0');
    return lc_ring_create_anonymous(&c->ring, capacity);
}

/* Closes the ring to callers. The mapping stays: other threads may still call. */
static void close_ring(logclient_t *c)
{
    if (!lc_ring_seal(&c->ring))
        lc_ring_shrink(&c->ring);
    else if (c->name[0] != '\0')
        unlinkat(c->dirs.fds[0], c->name, 0);
    lc_ringdirs_close(&c->dirs);
    close(c->ring.fd);
    c->ring.fd = -1;
}

static int open_all(logclient_t *c)
{
    int error = lc_table_separate();
    if (error != 0)
        return error;
    if ((error = open_ring(c)) != 0) {
        lc_ringdirs_close(&c->dirs);
        return error;
    }
    errno = ENOMEM;
    if (lc_sender_init(c))
        return 0;
    error = errno;
    close_ring(c);
    lc_ring_close(&c->ring);
    return error;
}

/* Tells lc_sender_start() what became of it. */
static void tell_starter(logclient_t *c, int error)
{
    pthread_mutex_lock(&c->lock);
    c->started = true;
    c->start_error = error;
    pthread_cond_broadcast(&c->progress);
    pthread_mutex_unlock(&c->lock);
}

/* A forked child does not say again what its parent has said. */
static void report_start(logclient_t *c, bool first)
{
    char text[400];
    if (c->fallback_text[0] != '\0')
        lc_report(c, LOGCLIENT_RING_FALLBACK, c->fallback_text);
    for (size_t i = 0; first && lc_options_unknown(c->options, i, text, sizeof(text)); i++)
        lc_report(c, LOGCLIENT_UNKNOWN_PROPERTY, text);
}

static void *run(void *arg)
{
    logclient_t *c = arg;
    bool first = atomic_load(&c->generation) == 0;
    pthread_setname_np(pthread_self(), "logclient");
    int error = open_all(c);
    tell_starter(c, error);
    if (error != 0)
        return NULL;
    report_start(c, first);
    lc_sender_run(c);
    close_ring(c);
    lc_sender_free(c);
    return NULL;
}

int lc_sender_start(logclient_t *c)
{
    int cancel;
    c->started = false;
    int error = lc_thread_start(&c->thread, run, c);
    if (error != 0)
        return error;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    pthread_mutex_lock(&c->lock);
    while (!c->started)
        pthread_cond_wait(&c->progress, &c->lock);
    pthread_mutex_unlock(&c->lock);
    if (c->start_error != 0)
        pthread_join(c->thread, NULL);
    pthread_setcancelstate(cancel, NULL);
    return c->start_error;
}

void lc_sender_stop(logclient_t *c)
{
    pthread_mutex_lock(&c->lock);
    atomic_store(&c->stop, true);
    pthread_cond_broadcast(&c->progress); /* to those who flush, such as the error callback */
    pthread_mutex_unlock(&c->lock);
    lc_signal_sender(c);
    pthread_join(c->thread, NULL);
}
