/* ring-write-internal.h: the writing side of a ring. send.c writes from any thread; the sender only
 * reserves blocks ahead. */
#ifndef LC_RING_WRITE_INTERNAL_H
#define LC_RING_WRITE_INTERNAL_H

#include "ring-internal.h"

/* Appends a record. Returns 0, EAGAIN when the ring is full, or ENOSPC when its file system is full
 * and the ring is not. Lock-free, thread-safe, async-signal-safe. Makes a system call only where
 * lc_ring_reserve() has reserved no blocks yet. */
int lc_ring_write(struct lc_ring *ring, const struct lc_record *record);

/* Reserves blocks ahead of the writers. The reader calls it regularly. A failure shows as ENOSPC in
 * lc_ring_write(). */
void lc_ring_reserve(struct lc_ring *ring);

#endif
