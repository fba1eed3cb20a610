/* listening.h: the sockets that a daemon listens on (option --listen). */
#ifndef COMMON_HTTP_LISTENING_H
#define COMMON_HTTP_LISTENING_H

#include <stddef.h>

/* NULL when `text` is ADDR:PORT with a numeric IPv4 address, or an IPv6 address in brackets; else
 * what is wrong with it and the remedy, static. */
const char *listen_check(const char *text);

#define LISTEN_SHOWN_MAX 64

/* Opens a listening, non-blocking socket. Returns it, with its real address in `shown`, or -1 with
 * a sentence in err. `text` has passed listen_check(). */
int listen_open(const char *text, char shown[LISTEN_SHOWN_MAX], char *err, size_t errlen);

#endif
