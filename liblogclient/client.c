/* The calling side: send, flush, statistics, life cycle, fork. */
#include "client-internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "common/record.h"
#include "common/timestamp.h"
#include "common/utf8.h"

#define FORMAT_BYTES  1024 /* longer formatted messages need malloc(3) */
#define BLOCK_STEP_NS 500000

/* All clients, and how often this process was forked from its first ancestor that has the library.
 * The list is for the fork handlers. */
static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static logclient_t *registry;
static _Atomic unsigned fork_generation;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

/* ---- ring and sender ---- */

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
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->wake_fd < 0)
        return errno;
    int error = open_ring(c);
    if (error == 0)
        error = lc_sender_start(c);
    if (error != 0) {
        close_ring(c);
        return error;
    }
    atomic_store(&c->generation, atomic_load(&fork_generation));
    return 0;
}

/* ---- fork ---- */

void lc_hold_forks(void)
{
    pthread_mutex_lock(&registry_lock);
}

void lc_allow_forks(void)
{
    pthread_mutex_unlock(&registry_lock);
}

/* The child shares the ring's lock with its parent until it closes the descriptor; were it kept,
 * the ring would look owned after the parent's death. The mappings stay: this child may have been
 * forked by a signal handler in the midst of a copy. */
static void after_fork_in_child(void)
{
    atomic_fetch_add(&fork_generation, 1);
    for (logclient_t *c = registry; c != NULL; c = c->next) {
        if (c->ring.fd < 0)
            continue;
        close(c->ring.fd);
        close(c->wake_fd);
        if (c->dir >= 0)
            close(c->dir);
        lc_sender_close_inherited(c->sender);
        c->ring.fd = c->wake_fd = c->dir = -1;
    }
    pthread_mutex_init(&registry_lock, NULL);
}

static void install_fork_handlers(void)
{
    pthread_atfork(lc_hold_forks, lc_allow_forks, after_fork_in_child);
}

static int init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attr;
    int error = pthread_condattr_init(&attr);
    if (error != 0)
        return error;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    error = pthread_cond_init(condition, &attr);
    pthread_condattr_destroy(&attr);
    return error;
}

/* In a forked child, at its first call: replaces what belongs to the parent. The parent's sender is
 * left as it is: its thread may have been anywhere when the process was copied. */
static int restart(logclient_t *c)
{
    int error = 0;
    pthread_mutex_lock(&registry_lock);
    if (atomic_load(&c->generation) != atomic_load(&fork_generation)) {
        pthread_mutex_init(&c->lock, NULL);
        init_condition(&c->progress);
        lc_ring_close(&c->ring);
        error = start(c);
    }
    pthread_mutex_unlock(&registry_lock);
    return error;
}

/* ---- life cycle ---- */

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
        pthread_mutex_init(&c->lock, NULL);
        init_condition(&c->progress);
        pthread_mutex_lock(&registry_lock);
        error = start(c);
        if (error == 0) {
            c->next = registry;
            registry = c;
        }
        pthread_mutex_unlock(&registry_lock);
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
    if (options != NULL && options->wrong[0] != '\0') {
        if (errbuf != NULL && errlen > 0)
            snprintf(errbuf, errlen, "%s", options->wrong);
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

static void unregister(logclient_t *c)
{
    pthread_mutex_lock(&registry_lock);
    for (logclient_t **at = &registry; *at != NULL; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    pthread_mutex_unlock(&registry_lock);
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

/* The default client: made once, by whoever comes first. */
static pthread_mutex_t default_lock = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static logclient_t *_Atomic default_client;

static logclient_t *make_default(void)
{
    /* A signal handler that interrupts this very thread here gets EDEADLK instead of waiting for
     * itself. */
    int error = pthread_mutex_lock(&default_lock);
    if (error != 0) {
        errno = EAGAIN;
        return NULL;
    }
    logclient_t *c = atomic_load(&default_client);
    if (c == NULL) {
        logclient_options_t *options = lc_options_from_environment(NULL, 0);
        c = options == NULL ? NULL : new_client(options);
        if (options == NULL)
            errno = EINVAL;
        if (c != NULL)
            atexit(note_exit);
        atomic_store(&default_client, c);
    }
    error = errno;
    pthread_mutex_unlock(&default_lock);
    errno = error;
    return c;
}

logclient_t *logclient_default(void)
{
    logclient_t *c = atomic_load_explicit(&default_client, memory_order_acquire);
    return c != NULL ? c : make_default();
}

static bool is_current(const logclient_t *c)
{
    return atomic_load_explicit(&c->generation, memory_order_relaxed) ==
           atomic_load_explicit(&fork_generation, memory_order_relaxed);
}

/* Delivers for a while, then ends the sender. Without a ring file what is left is lost. */
static void shut_down(logclient_t *c)
{
    if (!is_current(c))
        return; /* a forked child that never logged */
    logclient_flush(c, (int)c->options->exit_timeout_ms);
    lc_sender_stop(c);
}

/* After the sender has ended. */
static void destroy(logclient_t *c)
{
    close_ring(c);
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
    unregister(client);
    shut_down(client);
    destroy(client);
}

/* At exit, after the program's own atexit handlers and destructors, and at dlclose(3). At exit the
 * ring stays mapped, since other threads may still call: what they write before the ring is sealed
 * is found in its file by the next process; after that their calls fail. */
__attribute__((destructor(101))) static void at_exit(void)
{
    logclient_t *c = atomic_load(&default_client);
    if (c == NULL || !is_current(c))
        return;
    shut_down(c);
    if (unloading)
        destroy(c);
    else if (lc_ring_seal(&c->ring) && c->name[0] != '\0')
        unlinkat(c->dir, c->name, 0);
}

/* ---- send ---- */

void lc_wake(logclient_t *c)
{
    if (!atomic_load(&c->sleeping) || !atomic_exchange(&c->sleeping, false))
        return;
    int saved = errno;
    uint64_t one = 1;
    if (write(c->wake_fd, &one, sizeof(one)) < 0)
        errno = saved; /* cannot be; and the sender looks again by itself */
    errno = saved;
}

/* Waits for space. Returns what lc_ring_write() said last. */
static int write_blocking(logclient_t *c, const struct lc_record *record)
{
    int64_t deadline = monotonic_now_ms() + c->options->block_ms;
    int error;
    do {
        struct timespec pause = {0, BLOCK_STEP_NS};
        lc_wake(c);
        nanosleep(&pause, NULL);
        error = lc_ring_write(&c->ring, record);
    } while (error != 0 && monotonic_now_ms() < deadline);
    return error;
}

/* Puts a checked record into the ring. Returns 0, or -1 with errno. */
static int enqueue(logclient_t *c, struct lc_record *record)
{
    size_t max = (size_t)c->options->max_message_bytes;
    if (record->message.n > max && !(record->flags & LC_FLAG_JSON)) {
        record->message.n = utf8_cut(record->message.p, record->message.n, max);
        record->flags |= LC_FLAG_CUT;
    }
    int error = lc_ring_write(&c->ring, record);
    if (error != 0 && c->options->on_full == LC_BLOCK)
        error = write_blocking(c, record);
    if (error != 0) {
        atomic_fetch_add_explicit(&c->count.dropped, 1, memory_order_relaxed);
        lc_wake(c);
        errno = EAGAIN;
        return -1;
    }
    atomic_fetch_add_explicit(&c->accepted, 1, memory_order_relaxed);
    if (record->flags & LC_FLAG_CUT)
        atomic_fetch_add_explicit(&c->count.truncated, 1, memory_order_relaxed);
    lc_wake(c);
    return 0;
}

static bool service_valid(const char *service, size_t n)
{
    if (n == 0 || n > RECORD_SERVICE_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)service[i] < 0x20 || service[i] == 0x7f)
            return false;
    return true;
}

static int send_bytes(logclient_t *c, const char *service, const char *level, const char *message,
                      size_t n, unsigned flags)
{
    struct lc_record record = {
        .service = {service, strlen(service)},
        .level = level_parse(level, strlen(level)),
        .message = {message, n},
        .timestamp_ms = timestamp_now_ms(),
        .flags = flags,
    };
    if (record.level == LEVEL_INVALID || !service_valid(service, record.service.n)) {
        errno = EINVAL;
        return -1;
    }
    if (!is_current(c)) {
        int error = restart(c);
        if (error != 0) {
            errno = error;
            return -1;
        }
    }
    return enqueue(c, &record);
}

int logclient_send(logclient_t *client, const char *service, const char *level, const char *message)
{
    if (client == NULL || service == NULL || level == NULL || message == NULL) {
        errno = EINVAL;
        return -1;
    }
    return send_bytes(client, service, level, message, strlen(message), 0);
}

int lc_send_json(logclient_t *client, const char *service, const char *level, const char *json)
{
    size_t n = strlen(json);
    if (n > LC_JSON_MAX) {
        errno = EMSGSIZE;
        return -1;
    }
    return send_bytes(client, service, level, json, n, LC_FLAG_JSON);
}

int logclient_vsendf(logclient_t *client, const char *service, const char *level,
                     const char *format, va_list args)
{
    char small[FORMAT_BYTES];
    va_list again;
    if (client == NULL || service == NULL || level == NULL || format == NULL) {
        errno = EINVAL;
        return -1;
    }
    va_copy(again, args);
    int n = vsnprintf(small, sizeof(small), format, args), result = -1;
    char *large = NULL;
    if (n >= 0 && (size_t)n < sizeof(small)) {
        result = send_bytes(client, service, level, small, (size_t)n, 0);
    } else if (n >= 0 && (large = malloc((size_t)n + 1)) != NULL) {
        n = vsnprintf(large, (size_t)n + 1, format, again);
        if (n >= 0)
            result = send_bytes(client, service, level, large, (size_t)n, 0);
    }
    va_end(again);
    int saved = errno;
    free(large);
    errno = saved;
    return result;
}

int logclient_sendf(logclient_t *client, const char *service, const char *level, const char *format,
                    ...)
{
    va_list args;
    va_start(args, format);
    int result = logclient_vsendf(client, service, level, format, args);
    va_end(args);
    return result;
}

int send_log(const char *service, const char *level, const char *message)
{
    logclient_t *c = logclient_default();
    return c == NULL ? -1 : logclient_send(c, service, level, message);
}

int send_vlogf(const char *service, const char *level, const char *format, va_list args)
{
    logclient_t *c = logclient_default();
    return c == NULL ? -1 : logclient_vsendf(c, service, level, format, args);
}

int send_logf(const char *service, const char *level, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int result = send_vlogf(service, level, format, args);
    va_end(args);
    return result;
}

/* ---- flush and statistics ---- */

logclient_status_t logclient_flush(logclient_t *client, int timeout_ms)
{
    logclient_t *c = client != NULL ? client : atomic_load(&default_client);
    if (c == NULL || !is_current(c))
        return LOGCLIENT_OK;
    struct timespec deadline;
    uint64_t one = 1, target = lc_ring_head(&c->ring);
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += timeout_ms / 1000;
    deadline.tv_nsec += timeout_ms % 1000 * 1000000L;
    if (deadline.tv_nsec >= 1000000000) {
        deadline.tv_sec++;
        deadline.tv_nsec -= 1000000000;
    }
    int error = 0;
    pthread_mutex_lock(&c->lock);
    bool done = c->acknowledged >= target;
    if (!done && write(c->wake_fd, &one, sizeof(one)) == (ssize_t)sizeof(one))
        while (!(done = c->acknowledged >= target) && error == 0 && timeout_ms > 0)
            error = pthread_cond_timedwait(&c->progress, &c->lock, &deadline);
    pthread_mutex_unlock(&c->lock);
    return done ? LOGCLIENT_OK : LOGCLIENT_TIMED_OUT;
}

static uint64_t load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

uint64_t logclient_stat(logclient_t *client, logclient_stat_t stat)
{
    const logclient_t *c = client != NULL ? client : atomic_load(&default_client);
    if (c == NULL || !is_current(c))
        return 0;
    const struct lc_counters *n = &c->count;
    /* Before `accepted`, so that what is queued never comes out negative. */
    uint64_t gone = load(&n->delivered) + load(&n->rejected);
    uint64_t accepted = load(&c->accepted);
    switch (stat) {
    case LOGCLIENT_STAT_LOGGED:
        return accepted + load(&n->dropped);
    case LOGCLIENT_STAT_DELIVERED:
        return load(&n->delivered);
    case LOGCLIENT_STAT_REJECTED:
        return load(&n->rejected);
    case LOGCLIENT_STAT_DROPPED:
        return load(&n->dropped);
    case LOGCLIENT_STAT_QUEUED:
        return accepted > gone ? accepted - gone : 0;
    case LOGCLIENT_STAT_TRUNCATED:
        return load(&n->truncated);
    case LOGCLIENT_STAT_REPAIRED:
        return load(&n->repaired);
    case LOGCLIENT_STAT_BATCHES:
        return load(&n->batches);
    case LOGCLIENT_STAT_RETRIES:
        return load(&n->retries);
    case LOGCLIENT_STAT_RING_FALLBACK:
        return load(&n->fallback);
    case LOGCLIENT_STAT_ADOPTED:
        return load(&n->adopted);
    case LOGCLIENT_STAT_DAMAGED:
        return load(&n->damaged);
    }
    return 0;
}

const char *logclient_version(void)
{
    return LOGCLIENT_VERSION;
}

const char *logclient_strerror(logclient_status_t status)
{
    switch (status) {
    case LOGCLIENT_OK:
        return "success";
    case LOGCLIENT_TIMED_OUT:
        return "the deadline passed before all was delivered";
    case LOGCLIENT_UNKNOWN_PROPERTY:
        return "there is no property of this name";
    case LOGCLIENT_BAD_VALUE:
        return "the property does not take this value";
    case LOGCLIENT_NO_MEMORY:
        return "out of memory";
    case LOGCLIENT_BAD_RECORD:
        return "logd refused a record";
    case LOGCLIENT_UNREACHABLE:
        return "logd does not take records now";
    case LOGCLIENT_RING_FALLBACK:
        return "the ring directory cannot be used; records are kept in memory only";
    case LOGCLIENT_RING_DAMAGED:
        return "a leftover ring is damaged; it was moved aside";
    }
    return "unknown status";
}
