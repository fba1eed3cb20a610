/* default-internal.h: the client that send_log() uses. For send.c. */
#ifndef LC_DEFAULT_INTERNAL_H
#define LC_DEFAULT_INTERNAL_H

#include "logclient.h"

/* The default client, or NULL when nobody has used it yet. Async-signal-safe. */
logclient_t *lc_existing_default(void);

#endif
