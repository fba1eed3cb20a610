/* client.c: how the callers of a client and its sender wake each other and wait. */
#include "client-internal.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "common/timestamp.h"

void lc_signal_sender(const logclient_t *c)
{
    int saved = errno;
    uint64_t one = 1;
    /* It cannot fail: the counter of an eventfd is never that full. */
    ssize_t written = write(c->wake_fd, &one, sizeof(one));
    (void)written;
    errno = saved;
}

void lc_init_progress(logclient_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->progress, &attr);
    pthread_condattr_destroy(&attr);
}

void lc_publish_progress(logclient_t *c)
{
    pthread_mutex_lock(&c->lock);
    c->acknowledged = c->ring.tail;
    pthread_cond_broadcast(&c->progress);
    pthread_mutex_unlock(&c->lock);
}

bool lc_flush(logclient_t *c, int timeout_ms)
{
    int64_t end = monotonic_now_ms() + timeout_ms + 1; /* rounded up */
    struct timespec deadline = {end / 1000, end % 1000 * 1000000};
    uint64_t target = lc_ring_head(&c->ring);
    int error = 0;
    pthread_mutex_lock(&c->lock);
    bool done = c->acknowledged >= target;
    if (!done)
        lc_signal_sender(c);
    while (!done && error == 0 && timeout_ms > 0) {
        error = pthread_cond_timedwait(&c->progress, &c->lock, &deadline);
        done = c->acknowledged >= target;
    }
    pthread_mutex_unlock(&c->lock);
    return done;
}
