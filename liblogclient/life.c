/* life.c: the life of a client: making, fork, end. */
#include "life-internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report-internal.h"
#include "sender-internal.h"

/* ---- Reporter and sender ---- */

/* Gives the client a ring and threads that belong to this process. Returns 0 or an errno. */
static int start(logclient_t *c)
{
    memset(&c->count, 0, sizeof(c->count));
    atomic_store(&c->signal, LC_SIGNAL_NONE);
    atomic_store(&c->stop, false);
    c->acknowledged = 1;
    int error = lc_reporter_start(c);
    if (error != 0)
        return error;
    error = lc_sender_start(c);
    if (error != 0) {
        lc_reporter_stop(c);
        return error;
    }
    atomic_store(&c->generation, atomic_load(lc_fork_generation));
    return 0;
}

/* ---- Fork ---- */

static void in_child(void *arg)
{
    logclient_t *c = arg;
    if (c->ring.header != NULL)
        lc_ring_disown(&c->ring);
    c->name[0] = '\0';
}

/* The parent's threads are left as they are: they may have been anywhere when the process was
 * copied. */
int lc_restart(logclient_t *c)
{
    int error = 0;
    lc_notice_fork();
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
    lc_notice_fork();
    if (error == 0)
        error = posix_memalign((void **)&c, 64, sizeof(*c));
    if (error == 0) {
        memset(c, 0, sizeof(*c));
        c->options = options;
        c->ring.fd = -1;
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
    lc_reporter_stop(c);
}

/* Not in the midst of a fork, whose child would be told of a client that is gone. In a child that
 * no handler was told of, the ring's descriptor is a number of the program. */
void lc_destroy(logclient_t *c)
{
    lc_notice_fork();
    lc_hold_forks();
    lc_ring_close(&c->ring);
    lc_remove_forked(&c->forked);
    lc_allow_forks();
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->progress);
    logclient_options_free(c->options);
    free(c);
}
