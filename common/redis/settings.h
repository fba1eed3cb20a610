/* settings.h: warns of settings of Redis that lose records. Both daemons ask when they connect.
 *
 * An account that may not ask gets no warning. Each warning comes once in ten seconds at most:
 * Redis may come and go often, its settings change rarely. False: not sent. */
#ifndef COMMON_REDIS_SETTINGS_H
#define COMMON_REDIS_SETTINGS_H

#include "common/redis/link.h"

/* maxmemory and its policy: Redis may throw the whole stream away. */
bool settings_check_eviction(struct redis_link *link);

/* appendonly and appendfsync: Redis may forget what it has confirmed. */
bool settings_check_append(struct redis_link *link);

#endif
