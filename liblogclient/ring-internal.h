/* ring-internal.h: the queue in a shared mapping (doc/protocol.md, section 6). This is the ring
 * itself; callers write to it through ring-write-internal.h, one thread reads it through
 * ring-read-internal.h.
 *
 * The data area is mapped twice, one copy behind the other, so every record is contiguous in
 * memory. */
#ifndef LC_RING_INTERNAL_H
#define LC_RING_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/level.h"

#define LC_RING_HEADER_BYTES 65536 /* a multiple of every page size in use */
#define LC_RING_MIN_BYTES    (1 << 20)
#define LC_RING_MAX_BYTES    ((int64_t)1 << 34)
#define LC_RING_CHUNK        (256 * 1024) /* pages are reserved in steps of this many bytes */
#define LC_RING_FIRST        (32 * 1024)  /* the first step: most processes log little */
#define LC_ID_BYTES          16
#define LC_ID_HEX            (2 * LC_ID_BYTES)
#define LC_FLAG_CUT          1u /* the message was cut to the limit */
#define LC_FLAG_JSON         2u /* the message is a whole record, a JSON object on one line */

/* ---- The file ---- */

/* Up to where all is done. */
struct lc_ring_ack {
    uint64_t generation;  /* counts the acknowledgements from 1 */
    uint64_t position;    /* of the first record that is not done */
    uint64_t number;      /* of that record, or of the next to be written */
    uint64_t stored;      /* the number that logd expects next; less than `number` when records were
                             rejected since */
    uint64_t producer[2]; /* id under which the records are sent */
};

/* The same in the file, with a check word over all. */
struct lc_ack_slot {
    _Atomic uint64_t generation;
    _Atomic uint64_t position;
    _Atomic uint64_t number;
    _Atomic uint64_t stored;
    _Atomic uint64_t producer[2];
    _Atomic uint64_t check;
    uint64_t zero;
};

/* The first bytes of the file. */
struct lc_ring_header {
    char magic[8];
    uint32_t header_bytes;
    uint32_t owner_pid;
    uint64_t capacity;
    int64_t created_ms;
    unsigned char id[LC_ID_BYTES];   /* the file's name, and the key of its records' checks */
    unsigned char boot[LC_ID_BYTES]; /* the kernel's boot_id when it was made; zeros: unknown */
    _Atomic uint64_t head;           /* LC_HEAD_… */
    char pad0[56];
    _Atomic uint64_t sent; /* the number behind the last record that was ever part of a request */
    char pad1[56];
    struct lc_ack_slot ack[2];
};

/* Of `head`: where the next record goes, in units of 8 bytes, and its number; both modulo. So one
 * compare-and-swap gives a writer its space and its number. */
#define LC_HEAD_COUNT_BITS 31
#define LC_HEAD_COUNT_MASK (((uint64_t)1 << LC_HEAD_COUNT_BITS) - 1)
#define LC_POSITION_BITS   36 /* positions in `head` are modulo this many bits */
#define LC_POSITION_MASK   (((uint64_t)1 << LC_POSITION_BITS) - 1)

static inline uint64_t lc_head_make(uint64_t position, uint64_t number)
{
    return (position & LC_POSITION_MASK) >> 3 << LC_HEAD_COUNT_BITS | (number & LC_HEAD_COUNT_MASK);
}

/* The position in `head`; `near` is at most 2^35 bytes below it. */
static inline uint64_t lc_head_position(uint64_t head, uint64_t near)
{
    return near + (((head >> LC_HEAD_COUNT_BITS << 3) - near) & LC_POSITION_MASK);
}

/* The number in `head`; `near` is at most 2^30 below it. */
static inline uint64_t lc_head_number(uint64_t head, uint64_t near)
{
    return near + ((head - near) & LC_HEAD_COUNT_MASK);
}

/* A record in the data area. */
struct lc_slot {
    _Atomic uint64_t header; /* length, state and number; 0: not begun */
    int64_t timestamp_ms;
    uint32_t check; /* lc_slot_check() */
    uint32_t sizes; /* LC_SIZES_… */
    char text[];    /* service, message, zeros up to a multiple of 8 */
};

/* Of a slot's header: length in units of 8 bytes, state, number. */
#define LC_SLOT_UNITS_BITS 17
#define LC_SLOT_UNITS_MASK (((uint64_t)1 << LC_SLOT_UNITS_BITS) - 1)
#define LC_SLOT_STATE_MASK ((uint64_t)3 << LC_SLOT_UNITS_BITS)
#define LC_SLOT_RESERVED   ((uint64_t)1 << LC_SLOT_UNITS_BITS)
#define LC_SLOT_COMMITTED  ((uint64_t)2 << LC_SLOT_UNITS_BITS)
#define LC_SLOT_NUMBER_LOW (LC_SLOT_UNITS_BITS + 2)
#define LC_SLOT_MAX_BYTES  (LC_SLOT_UNITS_MASK << 3)

/* Of a slot's sizes: one word, so that a call stores it at once. From bit 0 on the bytes of the
 * service; from bit 24 on the zeros behind the message. */
#define LC_SIZES_SERVICE   255u
#define LC_SIZES_LEVEL_LOW 8
#define LC_SIZES_FLAGS_LOW 16                  /* LC_FLAG_… */
#define LC_SIZES_TEXT      ((uint32_t)1 << 23) /* the check is over the text, too */
#define LC_SIZES_PAD_LOW   24

/* ---- The ring ---- */

struct lc_ring {
    /* Read by writers. */
    struct lc_ring_header *header; /* mapped; NULL: no ring */
    char *data;                    /* mapped twice: 2 * capacity bytes */
    uint64_t capacity;             /* bytes, a power of two */
    uint64_t key[2];               /* of the checks: the header's id */
    bool whole;                    /* the whole file has its blocks: nothing is reserved, or given
                                      back; checks are over texts, since a power cut may tear them */
    int fd;                        /* the sender's thread's only: see table-internal.h */

    /* Written by the reader, read by writers: how far writers may go. */
    _Alignas(64) _Atomic uint64_t free_to; /* all before is zeroed */
    _Atomic uint64_t done;                 /* number of the record at tail, for lc_head_number() */
    _Atomic uint64_t reserved_to;          /* all before has its pages; writers raise it, too */
    _Atomic int64_t refused_ms; /* when reserving failed last, by the monotonic clock; 0: did not */

    /* The reader's own. */
    _Alignas(64) struct lc_ring_ack ack; /* the last one; ack.position is the tail */
    uint64_t freed;     /* all before was handed back to the writers; at most the tail */
    uint64_t touched;   /* offset up to which the file may have kept blocks */
    uint64_t keep;      /* this part of the file keeps its blocks when it is freed */
    uint64_t walked_to; /* where the last step of a trim ended */
    uint64_t ahead;     /* with `whole`: up to where page faults were taken ahead of the writers */
    bool sealed;
};

/* A record as it goes into a ring, and comes out of it. */
struct lc_record {
    struct span service, message; /* borrowed by a write; from the ring until acknowledged */
    int64_t timestamp_ms;
    uint64_t number; /* when it comes out */
    enum level level;
    unsigned flags; /* LC_FLAG_… */
};

/* Makes a ring in the empty file fd, and takes fd on success. Capacity is a power of two; it is
 * halved while RLIMIT_FSIZE, RLIMIT_AS, RLIMIT_MEMLOCK or, with `whole`, the file system do not
 * permit it. `whole`: all blocks are reserved at once (place-internal.h says for which file
 * systems). Returns 0 or an errno. */
int lc_ring_create(struct lc_ring *ring, int fd, uint64_t capacity, bool whole);

/* In the child of a fork: puts zeros in the place of the mapping. A call that a signal handler
 * interrupted to fork goes on writing there. Async-signal-safe. */
void lc_ring_disown(struct lc_ring *ring);

/* Unmaps and closes; the file stays. */
void lc_ring_close(struct lc_ring *ring);

/* An id of 16 bytes in hexadecimal, with a NUL. */
void lc_id_hex(const void *id, char hex[LC_ID_HEX + 1]);

/* The value of a lower-case hexadecimal digit, or -1. */
int lc_hex_digit(char c);

/* Reads the kernel's boot_id; zeros when there is none. */
void lc_boot_id(unsigned char boot[LC_ID_BYTES]);

/* Number of the next record to be written. Any thread; async-signal-safe. */
static inline uint64_t lc_ring_next_number(const struct lc_ring *ring)
{
    uint64_t done = atomic_load(&ring->done); /* before head, which it never overtakes */
    return lc_head_number(atomic_load(&ring->header->head), done);
}

/* Position behind the last reserved record. The reader's thread only. */
static inline uint64_t lc_ring_head(const struct lc_ring *ring)
{
    return lc_head_position(atomic_load(&ring->header->head), ring->ack.position);
}

/* Records that are written, or being written, and not done. Any thread; async-signal-safe. */
static inline uint64_t lc_ring_count(const struct lc_ring *ring)
{
    uint64_t done = atomic_load(&ring->done);
    return lc_head_number(atomic_load(&ring->header->head), done) - done;
}

/* ---- For the two sides, and for leftover.c ---- */

static inline struct lc_slot *lc_slot_at(const struct lc_ring *ring, uint64_t position)
{
    return (struct lc_slot *)(void *)(ring->data + (position & (ring->capacity - 1)));
}

/* The length of the record in the ring. */
static inline uint64_t lc_slot_bytes(const struct lc_record *r)
{
    return (sizeof(struct lc_slot) + r->service.n + r->message.n + 7) & ~(uint64_t)7;
}

/* The check of a slot that is filled: over its header as committed, its other fields, and, where
 * LC_SIZES_TEXT is set, its text. `offset` is its place in the data area, `text` has as many bytes
 * as service and message. */
uint32_t lc_slot_check(const uint64_t key[2], uint64_t offset, uint64_t header,
                       const struct lc_slot *slot, const char *text, size_t n);

/* Stores an acknowledgement in the file, with the next generation, and in the ring. A crash leaves
 * the old acknowledgement or the new one. */
void lc_ring_publish(struct lc_ring *ring, const struct lc_ring_ack *ack);

/* Fills a slot of the file, for publish, and for who has no mapping. */
void lc_ack_slot_fill(struct lc_ack_slot *slot, const struct lc_ring_ack *ack);

/* Finds the last acknowledgement in a header. False when there is no whole one: the file is
 * damaged, or, in a ring in use, both changed meanwhile. */
bool lc_ring_find_ack(const struct lc_ring_header *header, struct lc_ring_ack *ack);

/* Lets the pages of a mapping come, as stores would. Returns 0, ENOSPC where a store would be a
 * SIGBUS, EINVAL before Linux 5.14, or another errno. Keeps errno. Async-signal-safe. */
int lc_ring_populate(void *start, size_t bytes);

/* fallocate(2) on a ring's file; tries again when a signal interrupts it. Returns 0 or an errno,
 * and keeps errno. */
int lc_ring_allocate(int fd, int mode, uint64_t offset, uint64_t bytes);

#endif
