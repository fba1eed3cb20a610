/* life.c: the life of a client: making, fork, end. */
#include "life-internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fd-internal.h"
#include "ring-read-internal.h"
#include "sender-internal.h"

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
    if (c->name[0] != '\0' && c->ring.header != NULL)
        lc_seal(c);
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

/* The child shares the ring's lock with its parent until it closes the descriptor. If it kept it,
 * the ring would look owned after the parent's death. */
static void in_child(void *arg)
{
    logclient_t *c = arg;
    if (c->ring.fd < 0)
        return;
    lc_ring_disown(&c->ring);
    close(c->wake_fd);
    if (c->dir >= 0)
        close(c->dir);
    lc_sender_close_inherited(c->sender);
    c->wake_fd = c->dir = -1;
    c->name[0] = '\0';
}

/* The parent's sender is left as it is: its thread may have been anywhere when the process was
 * copied. */
int lc_restart(logclient_t *c)
{
    int error = 0;
    lc_hold_forks();
    if (!lc_is_current(c)) {
        lc_init_progress(c);
        lc_ring_close(&c->ring);
        error = start(c);
    }
    lc_allow_forks();
    return error;
}

/* ---- Life cycle ---- */

logclient_t *lc_new(logclient_options_t *options)
{
    logclient_t *c = NULL;
    int error = lc_install_fork_handlers();
    if (error == 0)
        error = posix_memalign((void **)&c, 64, sizeof(*c));
    if (error == 0) {
        memset(c, 0, sizeof(*c));
        c->options = options;
        c->ring.fd = c->dir = c->wake_fd = -1;
        c->forked = (struct lc_forked){.in_child = in_child, .arg = c};
        lc_init_progress(c);
        lc_hold_forks();
        error = start(c);
        if (error == 0)
            lc_add_forked(&c->forked);
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
    logclient_t *c = copy == NULL ? NULL : lc_new(copy);
    if (c == NULL && errbuf != NULL && errlen > 0 && (copy != NULL || options != NULL))
        snprintf(errbuf, errlen, "cannot create a client: %s",
                 copy == NULL ? "out of memory" : strerror(errno));
    return c;
}

void lc_shut_down(logclient_t *c)
{
    if (!lc_is_current(c))
        return;
    lc_flush(c, (int)c->options->exit_timeout_ms);
    lc_sender_stop(c);
}

void lc_seal(logclient_t *c)
{
    if (lc_ring_seal(&c->ring) && c->name[0] != '\0')
        unlinkat(c->dir, c->name, 0);
}

/* A fork in the midst would keep the ring's lock alive in a child that knows nothing of it. */
void lc_destroy(logclient_t *c)
{
    lc_hold_forks();
    close_ring(c);
    lc_remove_forked(&c->forked);
    lc_allow_forks();
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->progress);
    logclient_options_free(c->options);
    free(c);
}
