/* logsend-run-internal.h: one run of logsend that sends something: its settings, its client, and
 * how far it is. For logsend.c and logsend-input.c. */
#ifndef LC_LOGSEND_RUN_INTERNAL_H
#define LC_LOGSEND_RUN_INTERNAL_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/level.h"
#include "logclient.h"

struct logsend_settings {
    const char *service, *url, *drain, *inspect; /* NULL: not given */
    enum level level;
    bool json, print, quiet, properties;
    int64_t timeout_ms;
};

/* A run that sends something. */
struct logsend_run {
    struct logsend_settings set;
    logclient_t *client;
    bool stuck;                  /* the queue stayed full: nothing more is read */
    bool failed;                 /* something was not sent */
    _Atomic bool incomplete;     /* not all of a leftover ring could be read */
    _Atomic bool progress_shown; /* and the cursor stands behind it */
};

/* When something was delivered last, and how much it was in all. */
struct logsend_progress {
    int64_t moved_ms;
    uint64_t done;
};

extern volatile sig_atomic_t logsend_interrupted; /* by a signal: to end */

struct logsend_progress logsend_begin_progress(logclient_t *client);

/* Whether nothing has moved for the timeout. Keeps errno. */
bool logsend_is_still(const struct logsend_run *run, struct logsend_progress *progress);

/* Waits until finished() says so, or nothing has moved for the timeout, or a signal came. True when
 * finished. */
bool logsend_wait_until(struct logsend_run *run, bool (*finished)(logclient_t *client));

/* Writes the progress over the last one, unless that is too recent. The last one ends the line. */
void logsend_show_progress(struct logsend_run *run, bool last);

/* Gives a message a line of its own. */
void logsend_clear_progress(const struct logsend_run *run);

#endif
