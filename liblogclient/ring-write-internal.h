/* ring-write-internal.h: the writing side of a ring. send.c writes from any thread; the sender only
 * reserves blocks ahead. */
#ifndef LC_RING_WRITE_INTERNAL_H
#define LC_RING_WRITE_INTERNAL_H

#include "ring-internal.h"

/* Appends a record. Returns 0, EAGAIN when the ring is full, EMSGSIZE for more than
 * LC_SLOT_MAX_BYTES, or another errno when its file system, or memory, is full and the ring is not.
 * Lock-free, thread-safe, async-signal-safe. Makes a system call only where lc_ring_reserve() has
 * reserved no pages yet; after a failure only once in 100 ms. */
int lc_ring_write(struct lc_ring *ring, const struct lc_record *record);

/* Reserves pages ahead of the writers. The reader calls it regularly. A failure shows in
 * lc_ring_write(). */
void lc_ring_reserve(struct lc_ring *ring);

#endif
