/* ring-count-internal.h: counts the records that stand in a ring. For logclient_stat(). */
#ifndef LC_RING_COUNT_INTERNAL_H
#define LC_RING_COUNT_INTERNAL_H

#include "ring-internal.h"

/* How many whole records stand in the own ring, from the acknowledged position up to the first one
 * that a writer has not finished. Goes through all of them. Any thread may ask while others write
 * and the sender reads; async-signal-safe, keeps errno. */
uint64_t lc_ring_count(const struct lc_ring *ring);

#endif
