/* eviction.h: warns when Redis may throw the whole stream away. */
#ifndef COMMON_REDIS_EVICTION_H
#define COMMON_REDIS_EVICTION_H

#include "common/redis/link.h"

/* Asks for maxmemory and its policy, and warns, at most once in ten seconds, when keys may be
 * evicted. Silent when the account may not ask. False: not sent. */
bool eviction_check(struct redis_link *link);

#endif
