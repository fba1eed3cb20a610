/* client.c: how the callers of a client and its sender wake each other and wait. */
#include "client-internal.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/timestamp.h"

/* Not a descriptor, which the program may close, or may have closed: futex(2). */
static long futex(_Atomic uint32_t *word, int operation, uint32_t value,
                  const struct timespec *timeout)
{
    return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

void lc_signal_sender(logclient_t *c)
{
    int saved = errno;
    if (atomic_exchange(&c->signal, LC_SIGNAL_CALLED) != LC_SIGNAL_CALLED)
        futex(&c->signal, FUTEX_WAKE, 1, NULL);
    errno = saved;
}

void lc_wait_signal(logclient_t *c, int64_t ms)
{
    struct timespec timeout = {ms / 1000, ms % 1000 * 1000000};
    uint32_t value = atomic_load(&c->signal);
    if (value != LC_SIGNAL_CALLED)
        futex(&c->signal, FUTEX_WAIT, value, ms < 0 ? NULL : &timeout);
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
    c->acknowledged = c->ring.ack.number;
    pthread_cond_broadcast(&c->progress);
    pthread_mutex_unlock(&c->lock);
}

static void unlock(void *lock)
{
    pthread_mutex_unlock(lock);
}

/* The thread may be cancelled while it waits. The sender needs the lock. */
bool lc_flush(logclient_t *c, int timeout_ms)
{
    int64_t end = monotonic_now_ms() + timeout_ms + 1; /* rounded up */
    struct timespec deadline = {end / 1000, end % 1000 * 1000000};
    uint64_t target = lc_ring_next_number(&c->ring);
    int error = 0;
    bool done = false;
    pthread_mutex_lock(&c->lock);
    pthread_cleanup_push(unlock, &c->lock);
    done = c->acknowledged >= target;
    if (!done)
        lc_signal_sender(c);
    /* A sender that has been told to stop delivers nothing more. */
    while (!done && error == 0 && timeout_ms > 0 && !atomic_load(&c->stop)) {
        error = pthread_cond_timedwait(&c->progress, &c->lock, &deadline);
        done = c->acknowledged >= target;
    }
    pthread_cleanup_pop(1);
    return done;
}
