/* send-internal.h: what logsend needs besides the public calls. */
#ifndef LC_SEND_INTERNAL_H
#define LC_SEND_INTERNAL_H

#include "client-internal.h"

#define LC_JSON_MAX (512 * 1024) /* bytes */
#define LC_TO_NUL   SIZE_MAX     /* as n: the text ends with a NUL */

/* Like logclient_send(), for n bytes, with flags. LC_FLAG_JSON: the text is a whole record, a valid
 * JSON object on one line of at most LC_JSON_MAX bytes; service and level are its own, for the
 * ring. */
int lc_send_bytes(logclient_t *client, const char *service, const char *level, const char *text,
                  size_t n, unsigned flags);

#endif
