/* sender-internal.h: the thread that brings a client's records to logd. For life.c. */
#ifndef LC_SENDER_INTERNAL_H
#define LC_SENDER_INTERNAL_H

#include "client-internal.h"

/* Makes the sender and starts its thread. Returns 0 or an errno. */
int lc_sender_start(logclient_t *client);

/* Ends the thread at once, whatever is under way, and frees the sender. */
void lc_sender_stop(logclient_t *client);

/* For the child of a fork: closes what it shares with its parent's sender. NULL is allowed. */
void lc_sender_close_inherited(struct lc_sender *sender);

#endif
