/* client-internal.h: what a client is: the meeting place of its callers and its sender thread. */
#ifndef LC_CLIENT_INTERNAL_H
#define LC_CLIENT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "forks-internal.h"
#include "logclient.h"
#include "options-internal.h"
#include "ring-internal.h"
#include "ringdir-internal.h"

struct lc_sender;
struct lc_reporter;

#define LC_PARTS 16 /* a power of two */

/* Each is counted where it happens, and none is made from the others: so the law of logclient.h is
 * a check. What is queued is not here; lc_ring_count() counts it in the ring. */
struct lc_counters {
    /* Calls that were given a valid record. Threads count in different parts of it, so that two of
     * them do not fight for one cache line. */
    struct {
        _Alignas(64) _Atomic uint64_t count;
    } logged[LC_PARTS];

    _Alignas(64) _Atomic uint64_t dropped, truncated; /* by callers */

    /* By the sender, like all below. */
    _Alignas(64) _Atomic uint64_t delivered, rejected, repaired, batches;
    _Atomic uint64_t retries, adopted, adopted_rejected, damaged, fallback;
    _Atomic uint64_t idle_searches; /* of the ring directory, that found no ring without an owner */
};

/* Of `signal`, on which the sender waits. */
#define LC_SIGNAL_NONE   0u
#define LC_SIGNAL_ASLEEP 1u /* the next record shall wake the sender */
#define LC_SIGNAL_CALLED 2u /* the sender shall look at once */

struct logclient {
    struct lc_ring ring;
    logclient_options_t *options; /* owned */
    struct lc_ringdirs dirs;      /* the sender's thread's only */
    char name[LC_RING_NAME_MAX];  /* of the ring file in the first of them; empty: there is none */

    struct lc_counters count;

    _Alignas(64) _Atomic uint32_t signal; /* LC_SIGNAL_…: a futex(2) */
    _Atomic unsigned generation; /* which process ring and sender belong to: *lc_fork_generation */
    _Atomic bool stop;           /* the sender shall end */

    pthread_mutex_t lock; /* of these */
    pthread_cond_t progress;
    uint64_t acknowledged; /* number of the record at the ring's tail */
    bool started;          /* the sender is ready, or has failed with start_error, an errno */
    int start_error;

    pthread_t thread;
    struct lc_sender *sender;               /* the thread's only */
    struct lc_reporter *reporter;           /* NULL: nobody wants reports */
    struct lc_reporter *inherited_reporter; /* in a forked child: the parent's, left as it is */
    char fallback_text[320]; /* why there is no ring file; the sender reports it when it starts */

    struct lc_forked forked;
};

/* Whether ring and sender belong to this process. */
static inline bool lc_is_current(const logclient_t *c)
{
    return atomic_load_explicit(&c->generation, memory_order_acquire) ==
           atomic_load_explicit(lc_fork_generation, memory_order_relaxed);
}

/* Makes the sender look at once. Async-signal-safe; keeps errno. */
void lc_signal_sender(logclient_t *client);

/* Wakes the sender when it sleeps. Async-signal-safe; keeps errno. */
static inline void lc_wake(logclient_t *c)
{
    if (atomic_load(&c->signal) == LC_SIGNAL_ASLEEP)
        lc_signal_sender(c);
}

/* For the sender: waits for at most so many milliseconds while `signal` is LC_SIGNAL_NONE or, when
 * it sleeps, LC_SIGNAL_ASLEEP. -1: for ever. */
void lc_wait_signal(logclient_t *client, int64_t ms);

/* Prepares lock and progress. In a forked child once more, since nobody knows their state. */
void lc_init_progress(logclient_t *client);

/* Tells those who wait in lc_flush() how far the ring is done. For the sender. */
void lc_publish_progress(logclient_t *client);

/* Waits for at most timeout_ms until all that is in the ring now is done. False when the time was
 * too short. */
bool lc_flush(logclient_t *client, int timeout_ms);

#endif
