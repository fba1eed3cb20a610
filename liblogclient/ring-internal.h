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
#define LC_RING_MAX_BYTES    ((int64_t)1 << 40)
#define LC_RING_CHUNK        (256 * 1024) /* blocks are reserved in steps of this many bytes */
#define LC_PRODUCER_BYTES    16
#define LC_PRODUCER_HEX      (2 * LC_PRODUCER_BYTES)
#define LC_FLAG_CUT          1u /* the message was cut to the limit */
#define LC_FLAG_JSON         2u /* the message is a whole record, a JSON object on one line */

/* ---- The file ---- */

struct lc_ack_slot {
    _Atomic uint64_t generation;
    _Atomic uint64_t position;
    _Atomic uint64_t sequence;
    _Atomic uint64_t check;
};

/* The first bytes of the file. */
struct lc_ring_header {
    char magic[8];
    uint32_t header_bytes;
    uint32_t owner_pid;
    uint64_t capacity;
    int64_t created_ms;
    unsigned char producer[LC_PRODUCER_BYTES];
    char pad0[16];
    _Atomic uint64_t head;
    char pad1[56];
    struct lc_ack_slot ack[2];
};

/* A record in the data area. */
struct lc_slot {
    _Atomic uint64_t header; /* length and state; 0: not begun */
    int64_t timestamp_ms;
    uint32_t message_bytes;
    uint8_t service_bytes;
    uint8_t level;
    uint8_t flags;
    uint8_t zero;
    char text[];
};

/* Of a slot's header. */
#define LC_SLOT_LENGTH    0xffffffffu
#define LC_SLOT_RESERVED  ((uint64_t)1 << 32)
#define LC_SLOT_COMMITTED ((uint64_t)2 << 32)

/* ---- The ring ---- */

struct lc_ring {
    /* Read by writers. */
    struct lc_ring_header *header; /* mapped; NULL: no ring */
    char *data;                    /* mapped twice: 2 * capacity bytes */
    uint64_t capacity;             /* bytes, a power of two */
    int fd;

    /* Written by the reader, read by writers: how far writers may go. */
    _Alignas(64) _Atomic uint64_t free_to; /* all before is zeroed */
    _Atomic uint64_t reserved_to;          /* all before has its blocks; writers raise it, too */

    /* The reader's own. */
    _Alignas(64) uint64_t tail; /* acknowledged position */
    uint64_t sequence;          /* of the record at tail */
    uint64_t generation;        /* of the last acknowledgement */
    uint64_t freed;             /* all before was handed back to the writers; at most tail */
    uint64_t touched;           /* offset up to which the file may have kept blocks */
    uint64_t walked_to;         /* where the last step of a trim ended */
    bool dead;                  /* the owner is dead: holes may be passed over */
};

/* A record as it goes into a ring, and comes out of it. */
struct lc_record {
    struct span service, message; /* borrowed by a write; from the ring until acknowledged */
    int64_t timestamp_ms;
    enum level level;
    unsigned flags; /* LC_FLAG_… */
};

/* Up to where all is done. */
struct lc_ring_ack {
    uint64_t generation;
    uint64_t position;
    uint64_t sequence; /* of the record at `position` */
};

/* Makes a ring in the empty file fd, and takes fd on success. Capacity is a power of two; it
 * becomes less when RLIMIT_FSIZE does not permit it. Returns 0 or an errno. */
int lc_ring_create(struct lc_ring *ring, int fd, uint64_t capacity);

/* Opens the ring of a dead process to drain it, or, with read_only, any ring to look at it. Takes
 * fd on success. Returns 0, EBADMSG when the file is not a whole ring, or an errno. */
int lc_ring_open(struct lc_ring *ring, int fd, bool read_only);

/* In the child of a fork: closes the parent's ring and puts zeros in the place of its mapping. A
 * call that a signal handler interrupted to fork goes on writing there. Async-signal-safe. */
void lc_ring_disown(struct lc_ring *ring);

/* Unmaps and closes; the file stays. */
void lc_ring_close(struct lc_ring *ring);

/* An id of 16 bytes in hexadecimal, with a NUL. */
void lc_producer_hex(const unsigned char id[LC_PRODUCER_BYTES], char hex[LC_PRODUCER_HEX + 1]);

/* The producer id in hexadecimal, with a NUL. */
void lc_ring_producer(const struct lc_ring *ring, char hex[LC_PRODUCER_HEX + 1]);

/* Position behind the last reserved record. Thread-safe. */
static inline uint64_t lc_ring_head(const struct lc_ring *ring)
{
    return atomic_load(&ring->header->head);
}

/* ---- For the two sides ---- */

static inline struct lc_slot *lc_slot_at(const struct lc_ring *ring, uint64_t position)
{
    return (struct lc_slot *)(void *)(ring->data + (position & (ring->capacity - 1)));
}

/* The length of the record in the ring. */
static inline uint64_t lc_slot_bytes(const struct lc_record *r)
{
    return (sizeof(struct lc_slot) + r->service.n + r->message.n + 7) & ~(uint64_t)7;
}

/* Stores in the file, and in the ring, that all before `position` is done and that the record there
 * has this sequence number. A crash leaves the old acknowledgement or the new one. */
void lc_ring_publish(struct lc_ring *ring, uint64_t position, uint64_t sequence);

/* Finds the last acknowledgement in the file. False when there is no whole one: the file is
 * damaged, or, in a ring in use, both changed meanwhile. Any thread may ask; async-signal-safe. */
bool lc_ring_find_ack(const struct lc_ring_header *header, struct lc_ring_ack *ack);

/* fallocate(2) on a ring's file; tries again when a signal interrupts it. Returns 0 or an errno,
 * and keeps errno. Async-signal-safe. */
int lc_ring_allocate(int fd, int mode, uint64_t offset, uint64_t bytes);

#endif
