/* settings.h: warns of settings of Redis that lose records. Both daemons ask when they connect. */
#ifndef COMMON_REDIS_SETTINGS_H
#define COMMON_REDIS_SETTINGS_H

#include "common/redis/link.h"

#define SETTINGS_EVICTION "maxmemory*" /* Redis may throw the whole stream away */
#define SETTINGS_APPEND   "append*"    /* Redis may forget what it has confirmed */

/* Asks for one of these. An account that may not ask gets no warning. Each warning comes once in
 * ten seconds at most, since Redis may come and go often. False: not sent. */
bool settings_check(struct redis_link *link, const char *pattern);

#endif
