/* leftover-state-internal.h: what is known of a leftover. For leftover.c and leftover-scan.c;
 * others read a few fields. */
#ifndef LC_LEFTOVER_STATE_INTERNAL_H
#define LC_LEFTOVER_STATE_INTERNAL_H

#include "ring-read-internal.h"

#define LC_LEFTOVER_MIN_BYTES 4096 /* capacity */

/* Records that lie behind one another in the file and have consecutive numbers. */
struct lc_run {
    uint64_t number; /* of the first */
    uint64_t count;
    uint64_t place; /* in the data area, modulo the capacity; with same_boot, a position */
    uint64_t bytes;
    uint64_t base; /* bytes of the runs before it: its place in the positions of this leftover */
};

struct lc_leftover {
    int fd;                       /* owned */
    struct lc_ring_header header; /* as it was read */
    struct lc_ring_ack ack;       /* the last one; moves */
    uint64_t key[2];
    struct lc_run *runs; /* owned; what is to be delivered, in the order of the numbers */
    size_t run_count, run_room;
    uint64_t tail; /* position of the first record that is not done: a byte count over the runs */
    uint64_t end;  /* position behind the last record */
    uint64_t missing; /* numbers from the acknowledged one on that are nowhere in the file */
    uint64_t sent;    /* as header.sent; moves */
    bool same_boot;   /* made since the kernel booted: what the file says is of one moment */
    bool rebuilt;     /* the header is not in the file */
    bool damaged;     /* something in it is neither a record nor free, or cannot be read */

    /* The search for its records. Before it has ended there are no runs to read. */
    bool searched;
    uint64_t at,
        search_end; /* what is still to be looked at: offsets, or, with same_boot, positions */
    bool lost;      /* only a check says where the next record begins */
    uint64_t work;  /* bytes that were read or checked */

    /* What was read last. */
    struct buf window;
    uint64_t window_offset; /* in the data area, where it may wrap */
    size_t run;             /* the one that was read last */
};

#endif
