/* default.c: the default client: made by the first call, ended at exit, never freed. */
#include "default-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "life-internal.h"
#include "report-internal.h"

static logclient_t *_Atomic default_client;

/* exit(3) runs the functions of atexit(3) before all destructors. dlclose(3) runs those of the
 * library after its destructors without a priority. That tells one from the other. */
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
        lc_report_no_client(why);
        return NULL;
    }
    logclient_t *c = lc_new(options);
    if (c == NULL)
        lc_report_no_client(strerror(errno));
    else
        atexit(note_exit);
    return c;
}

static logclient_t *make_default(void)
{
    int old, error = EAGAIN, saved = errno;
    logclient_t *c = NULL;
    /* A thread that is cancelled in here would leave the locks behind. */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    lc_notice_fork();
    if (lc_lock_default()) {
        c = atomic_load(&default_client);
        if (c == NULL)
            c = new_default();
        error = c == NULL ? errno : saved;
        atomic_store(&default_client, c);
        lc_unlock_default();
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

void logclient_free(logclient_t *client)
{
    if (client == NULL)
        return;
    if (client == lc_existing_default()) {
        logclient_flush(client, (int)client->options->exit_timeout_ms);
        return;
    }
    lc_shut_down(client);
    lc_destroy(client);
}

/* At exit, after the program's own atexit handlers and destructors, and at dlclose(3). At exit the
 * ring stays mapped, since other threads may still call. What they write before the ring is sealed
 * stays in its file for the next process; after that their calls fail. */
__attribute__((destructor(101))) static void at_exit(void)
{
    logclient_t *c = lc_existing_default();
    if (c == NULL || !lc_is_current(c))
        return;
    lc_shut_down(c);
    if (unloading)
        lc_destroy(c);
}
