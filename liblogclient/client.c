/* The life of a client: making, fork, exit. */
#include "client-internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fd-internal.h"

/* All clients, and how often this process was forked from its first ancestor that has the library.
 * The list is for the fork handlers. */
static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static sigset_t held_mask; /* of the thread that holds it */
static logclient_t *registry;
_Atomic unsigned lc_fork_generation;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

/* The default client: made once, by whoever comes first. Always locked before registry_lock. */
static pthread_mutex_t default_lock = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static logclient_t *_Atomic default_client;
static bool default_locked; /* by before_fork() */

/* ---- Ring and sender ---- */

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
    c->dir = -1;
    c->name[0] = c->fallback_text[0] = '\0';
    if (o->ring_dir != NULL && strcmp(o->ring_dir, "off") == 0)
        return lc_ring_create_anonymous(&c->ring, capacity);
    c->dir = lc_ringdir_open(o->ring_dir, c->fallback_text, sizeof(c->fallback_text));
    int error = c->dir < 0 ? EINVAL : lc_ringdir_create(c->dir, &c->ring, capacity, c->name);
    if (error == 0)
        return 0;
    if (c->dir >= 0)
        snprintf(c->fallback_text, sizeof(c->fallback_text), "cannot make a ring file: %s",
                 strerror(error));
    atomic_store(&c->count.fallback, 1);
    c->name[0] = '\0';
    return lc_ring_create_anonymous(&c->ring, capacity);
}

static void close_ring(logclient_t *c)
{
    if (c->name[0] != '\0' && c->ring.header != NULL && lc_ring_seal(&c->ring))
        unlinkat(c->dir, c->name, 0);
    lc_ring_close(&c->ring);
    if (c->dir >= 0)
        close(c->dir);
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    c->dir = c->wake_fd = -1;
}

/* Gives the client a ring and a sender that belong to this process. Returns 0 or an errno. */
static int start(logclient_t *c)
{
    atomic_store(&c->accepted, 0);
    memset(&c->count, 0, sizeof(c->count));
    atomic_store(&c->sleeping, false);
    atomic_store(&c->stop, false);
    c->acknowledged = 0;
    int held[STDERR_FILENO + 1];
    size_t n = lc_hold_standard(held);
    c->wake_fd = lc_fd_high(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    int error = c->wake_fd < 0 ? errno : open_ring(c);
    lc_release_standard(held, n);
    if (c->wake_fd < 0)
        return error;
    if (error == 0)
        error = lc_sender_start(c);
    if (error != 0) {
        close_ring(c);
        return error;
    }
    atomic_store(&c->generation, atomic_load(&lc_fork_generation));
    return 0;
}

/* ---- Fork ---- */

/* Returns what was blocked before. */
static sigset_t block_signals(void)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    return old;
}

/* Without signals: a handler that forks would wait for its own thread. */
void lc_hold_forks(void)
{
    sigset_t old = block_signals();
    pthread_mutex_lock(&registry_lock);
    held_mask = old;
}

void lc_allow_forks(void)
{
    sigset_t old = held_mask;
    pthread_mutex_unlock(&registry_lock);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* No signal comes before all is let go of again: its handler might fork, too. */
static void before_fork(void)
{
    sigset_t old = block_signals();
    /* EDEADLK: a signal handler forks while its own thread makes the default client. */
    default_locked = pthread_mutex_lock(&default_lock) == 0;
    pthread_mutex_lock(&registry_lock);
    held_mask = old;
}

static void after_fork_in_parent(void)
{
    if (default_locked)
        pthread_mutex_unlock(&default_lock);
    lc_allow_forks();
}

/* The child shares the ring's lock with its parent until it closes the descriptor; were it kept,
 * the ring would look owned after the parent's death. */
static void after_fork_in_child(void)
{
    atomic_fetch_add(&lc_fork_generation, 1);
    for (logclient_t *c = registry; c != NULL; c = c->next) {
        if (c->ring.fd < 0)
            continue;
        lc_ring_disown(&c->ring);
        close(c->wake_fd);
        if (c->dir >= 0)
            close(c->dir);
        lc_sender_close_inherited(c->sender);
        c->wake_fd = c->dir = -1;
        c->name[0] = '\0';
    }
    pthread_mutex_init(&registry_lock, NULL);
    default_lock = (pthread_mutex_t)PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
    pthread_sigmask(SIG_SETMASK, &held_mask, NULL);
}

static void install_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* What logclient_flush() waits with; its deadlines are on the monotonic clock. */
static void init_flush(logclient_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->progress, &attr);
    pthread_condattr_destroy(&attr);
}

/* In a forked child, at its first call: replaces what belongs to the parent. The parent's sender is
 * left as it is: its thread may have been anywhere when the process was copied. */
int lc_restart(logclient_t *c)
{
    int error = 0;
    lc_hold_forks();
    if (atomic_load(&c->generation) != atomic_load(&lc_fork_generation)) {
        init_flush(c);
        lc_ring_close(&c->ring);
        error = start(c);
    }
    lc_allow_forks();
    return error;
}

/* ---- Life cycle ---- */

/* Takes the options, also on failure. NULL with errno set. */
static logclient_t *new_client(logclient_options_t *options)
{
    logclient_t *c = NULL;
    int error = pthread_once(&fork_once, install_fork_handlers);
    if (error == 0)
        error = posix_memalign((void **)&c, 64, sizeof(*c));
    if (error == 0) {
        memset(c, 0, sizeof(*c));
        c->options = options;
        c->ring.fd = c->dir = c->wake_fd = -1;
        init_flush(c);
        lc_hold_forks();
        error = start(c);
        if (error == 0) {
            c->next = registry;
            registry = c;
        }
        lc_allow_forks();
    }
    if (error == 0)
        return c;
    logclient_options_free(options);
    free(c);
    errno = error;
    return NULL;
}

logclient_t *logclient_new(const logclient_options_t *options, char *errbuf, size_t errlen)
{
    if (options != NULL && !lc_options_valid(options, errbuf, errlen)) {
        errno = EINVAL;
        return NULL;
    }
    logclient_options_t *copy =
        options == NULL ? lc_options_from_environment(errbuf, errlen) : lc_options_copy(options);
    logclient_t *c = copy == NULL ? NULL : new_client(copy);
    if (c == NULL && errbuf != NULL && errlen > 0 && (copy != NULL || options != NULL))
        snprintf(errbuf, errlen, "cannot create a client: %s",
                 copy == NULL ? "out of memory" : strerror(errno));
    return c;
}

static void unregister(const logclient_t *c)
{
    for (logclient_t **at = &registry; *at != NULL; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
}

/* exit(3) runs the functions of atexit(3) before all destructors, dlclose(3) runs those of the
 * library after its destructors without a priority: that tells one from the other. */
static bool exiting, unloading;

static void note_exit(void)
{
    exiting = true;
}

__attribute__((destructor)) static void note_unload(void)
{
    unloading = !exiting;
}

/* NULL with errno set. */
static logclient_t *new_default(void)
{
    char why[400];
    logclient_options_t *options = lc_options_from_environment(why, sizeof(why));
    if (options == NULL) {
        lc_report_bad_environment(why);
        return NULL;
    }
    logclient_t *c = new_client(options);
    if (c != NULL)
        atexit(note_exit);
    return c;
}

static logclient_t *make_default(void)
{
    int old, error, saved = errno;
    /* A thread that is cancelled in here would leave the locks behind. */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    logclient_t *c = NULL;
    /* A signal handler that interrupts this very thread here gets EDEADLK instead of waiting for
     * itself. */
    if (pthread_mutex_lock(&default_lock) != 0) {
        error = EAGAIN;
    } else {
        c = atomic_load(&default_client);
        if (c == NULL)
            c = new_default();
        error = c == NULL ? errno : saved;
        atomic_store(&default_client, c);
        pthread_mutex_unlock(&default_lock);
    }
    pthread_setcancelstate(old, NULL);
    errno = error;
    return c;
}

logclient_t *lc_existing_default(void)
{
    return atomic_load_explicit(&default_client, memory_order_acquire);
}

logclient_t *logclient_default(void)
{
    logclient_t *c = lc_existing_default();
    return c != NULL ? c : make_default();
}

/* Delivers for a while, then ends the sender. Without a ring file what is left is lost. */
static void shut_down(logclient_t *c)
{
    if (!lc_is_current(c))
        return; /* a forked child that never logged */
    logclient_flush(c, (int)c->options->exit_timeout_ms);
    lc_sender_stop(c);
}

/* After the sender has ended. A fork in between would keep the ring's lock alive in a child that
 * knows nothing of it. */
static void destroy(logclient_t *c)
{
    lc_hold_forks();
    close_ring(c);
    unregister(c);
    lc_allow_forks();
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->progress);
    logclient_options_free(c->options);
    free(c);
}

void logclient_free(logclient_t *client)
{
    if (client == NULL)
        return;
    if (client == atomic_load(&default_client)) {
        logclient_flush(client, (int)client->options->exit_timeout_ms);
        return;
    }
    shut_down(client);
    destroy(client);
}

/* At exit, after the program's own atexit handlers and destructors, and at dlclose(3). At exit the
 * ring stays mapped, since other threads may still call: what they write before the ring is sealed
 * is found in its file by the next process; after that their calls fail. */
__attribute__((destructor(101))) static void at_exit(void)
{
    logclient_t *c = atomic_load(&default_client);
    if (c == NULL || !lc_is_current(c))
        return;
    shut_down(c);
    if (unloading)
        destroy(c);
    else if (lc_ring_seal(&c->ring) && c->name[0] != '\0')
        unlinkat(c->dir, c->name, 0);
}
