/* sender-internal.h: the thread that brings a client's records to logd. For life.c; the second part
 * is between sender-thread.c and sender.c. */
#ifndef LC_SENDER_INTERNAL_H
#define LC_SENDER_INTERNAL_H

#include "client-internal.h"

/* Starts the thread, which makes the ring and all else, and waits until it has. Returns 0 or an
 * errno. */
int lc_sender_start(logclient_t *client);

/* Ends the thread at once, whatever is under way. It closes the ring to callers before, and removes
 * the ring's file when that is empty. */
void lc_sender_stop(logclient_t *client);

/* What the thread does, once the client's ring is there. False when out of memory. */
bool lc_sender_init(logclient_t *client);

/* Runs until client->stop. */
void lc_sender_run(logclient_t *client);
void lc_sender_free(logclient_t *client);

#endif
