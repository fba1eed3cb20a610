/* url.h: where Redis is. Both daemons read their option --redis with it.
 *
 * redis://[USER:PASSWORD@]HOST[:PORT][/DB], or unix://[USER:PASSWORD@]/PATH[?db=N]. An IPv6 address
 * stands in brackets; the user may be empty (redis://:PASSWORD@HOST). User, password and path may
 * be percent-encoded. */
#ifndef COMMON_REDIS_URL_H
#define COMMON_REDIS_URL_H

#include <stdbool.h>
#include <stddef.h>

/* All fields are owned, and freed by redis_url_free(). */
struct redis_url {
    char *host;     /* NULL for a unix socket */
    int port;       /* default 6379 */
    char *path;     /* of the unix socket, or NULL */
    char *user;     /* NULL: AUTH with the password alone */
    char *password; /* NULL: no AUTH */
    int db;         /* SELECT when not 0 */
    char *shown;    /* the URL without its password, for messages */
};

/* Returns false with a sentence in err that names what is wrong and what a URL looks like; it never
 * holds the password, and *url then needs no freeing. */
bool redis_url_parse(struct redis_url *url, const char *text, char *err, size_t errlen);
void redis_url_free(struct redis_url *url);

#endif
