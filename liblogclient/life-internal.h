/* life-internal.h: how a client begins and ends, and what a fork does to it. For default.c and
 * send.c. */
#ifndef LC_LIFE_INTERNAL_H
#define LC_LIFE_INTERNAL_H

#include "client-internal.h"

/* Makes a client. Takes the options, also on failure. NULL with errno set. */
logclient_t *lc_new(logclient_options_t *options);

/* In a forked child, at its first call: gives the client a ring and a sender of this process.
 * Returns 0 or an errno. */
int lc_restart(logclient_t *client);

/* Delivers for exit_timeout_ms, then ends the threads. The ring is closed to callers, and its file
 * removed when it is empty; the mapping stays. Without a ring file, what is left is lost. Does
 * nothing in a forked child that never logged. */
void lc_shut_down(logclient_t *client);

/* Frees a client that is shut down. */
void lc_destroy(logclient_t *client);

#endif
