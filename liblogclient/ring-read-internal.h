/* ring-read-internal.h: the reading side of a ring. It belongs to one thread: the sender's, or that
 * of a test. */
#ifndef LC_RING_READ_INTERNAL_H
#define LC_RING_READ_INTERNAL_H

#include "ring-internal.h"

enum lc_ring_read {
    LC_RING_RECORD,  /* *record is filled, *position is behind it */
    LC_RING_EMPTY,   /* nothing more */
    LC_RING_BUSY,    /* a record is being written there */
    LC_RING_DAMAGED, /* no ring looks like this */
};

/* Reads the record at *position. */
enum lc_ring_read lc_ring_read(const struct lc_ring *ring, uint64_t *position,
                               struct lc_record *record);

/* Whether a slot's fields fit each other, and name a record that can be sent; *r is it. `text` is
 * what lies behind the slot, or a copy. For leftover.c, too. */
bool lc_slot_record(const struct lc_slot *slot, uint64_t header, const char *text,
                    struct lc_record *r);

/* Stores that all before `position` is done, and that the record there has this number, while logd
 * expects number `stored` next; that holds also when the process dies right after. Then gives the
 * space back. */
void lc_ring_acknowledge(struct lc_ring *ring, uint64_t position, uint64_t number, uint64_t stored);

/* Closes the ring to writers, who get EAGAIN from now on. True when it is empty, and stays so. */
bool lc_ring_seal(struct lc_ring *ring);

/* Gives the free space of a sealed ring back to the file system. */
void lc_ring_shrink(const struct lc_ring *ring);

/* When the ring is empty and has gone some way into its file: goes on at the file's beginning, so
 * that an ordinary load touches little of it. True when tail has moved. Call it when there is
 * nothing to send. */
bool lc_ring_rewind(struct lc_ring *ring);

/* When the ring is empty: gives one chunk of the free space back to the file system. True when tail
 * has moved; call it again then. For idle times. */
bool lc_ring_trim(struct lc_ring *ring);

#endif
