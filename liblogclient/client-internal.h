/* client-internal.h: what the calling side (client.c) and the sender thread (sender.c) share. */
#ifndef LC_CLIENT_INTERNAL_H
#define LC_CLIENT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "logclient.h"
#include "options-internal.h"
#include "ring-internal.h"
#include "ringdir-internal.h"

struct lc_sender;

struct lc_counters {
    _Atomic uint64_t dropped, truncated;                     /* by callers */
    _Atomic uint64_t delivered, rejected, repaired, batches; /* by the sender, like all below */
    _Atomic uint64_t retries, adopted, adopted_rejected, damaged, fallback;
    _Atomic uint64_t idle_searches; /* of the ring directory, that found no ring without an owner */
};

struct logclient {
    struct lc_ring ring;
    logclient_options_t *options; /* owned */
    int dir;                      /* the ring directory, or -1 */
    char name[LC_RING_NAME_MAX];  /* of the ring file in it */

    _Alignas(64) _Atomic uint64_t accepted; /* records; written by callers */
    struct lc_counters count;

    _Alignas(64) _Atomic bool sleeping; /* the sender waits on wake_fd and nothing else */
    int wake_fd;                        /* eventfd */
    _Atomic unsigned generation;        /* the fork generation that ring and sender belong to */
    _Atomic bool stop;                  /* the sender shall end */

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t progress;
    uint64_t acknowledged; /* the ring's tail, for logclient_flush() */

    pthread_t thread;
    struct lc_sender *sender;
    char fallback_text[320]; /* why there is no ring file; reported by the sender at its start */

    struct logclient *next; /* in the list of all clients, for fork(2) */
};

/* How often this process was forked from its first ancestor that has the library. */
extern _Atomic unsigned lc_fork_generation;

/* Whether ring and sender belong to this process. */
static inline bool lc_is_current(const logclient_t *c)
{
    return atomic_load_explicit(&c->generation, memory_order_acquire) ==
           atomic_load_explicit(&lc_fork_generation, memory_order_relaxed);
}

/* In a forked child: gives the client a ring and a sender of this process. Returns 0 or an errno.
 */
int lc_restart(logclient_t *client);

/* The default client, if there is one. */
logclient_t *lc_existing_default(void);

/* Calls the error callback; without one, prints if the property report says so. */
void lc_report(logclient_t *client, logclient_status_t status, const char *text);

/* The same for the default client, when the environment is too bad to make it; once. Keeps errno.
 */
void lc_report_bad_environment(const char *text);

/* Makes the sender and starts its thread. Returns 0 or an errno. */
int lc_sender_start(logclient_t *client);

/* Ends the thread at once, whatever is under way, and frees the sender. */
void lc_sender_stop(logclient_t *client);

/* For the child of a fork: lets go of the descriptors and rings that it shares with its parent's
 * sender. */
void lc_sender_close_inherited(struct lc_sender *sender);

/* Between these no child is forked, so that none gets a descriptor, and with it a lock, that it
 * does not know of. Not to be held in a call of the error callback. */
void lc_hold_forks(void);
void lc_allow_forks(void);

/* Wakes the sender when it sleeps. Async-signal-safe; keeps errno. */
void lc_wake(logclient_t *client);

/* Like logclient_send(), for n bytes, with flags: LC_FLAG_JSON says that the text is a whole
 * record, a valid JSON object on one line of at most LC_JSON_MAX bytes, and that service and level
 * are its own, for the ring. */
#define LC_JSON_MAX (512 * 1024) /* bytes */
int lc_send_bytes(logclient_t *client, const char *service, const char *level, const char *text,
                  size_t n, unsigned flags);

#endif
