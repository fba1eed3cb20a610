/* ring-internal.h: the queue of doc/protocol.md, section 6: many writers, one reader, in a shared
 * mapping.
 *
 * The data area is mapped twice, one copy behind the other, so that every record is contiguous in
 * memory. The writing side is lock-free and async-signal-safe. The reading side belongs to one
 * thread. */
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
#define LC_RING_CHUNK        (256 * 1024)  /* blocks are reserved in steps of this many bytes */
#define LC_RING_AHEAD        LC_RING_CHUNK /* so much is reserved before it is needed */
#define LC_PRODUCER_BYTES    16
#define LC_PRODUCER_HEX      (2 * LC_PRODUCER_BYTES)
#define LC_FLAG_CUT          1u /* the message was cut to the limit */
#define LC_FLAG_JSON         2u /* the message is a whole record, a JSON object on one line */

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

struct lc_ring {
    /* Read by writers. */
    struct lc_ring_header *header; /* mapped; NULL: no ring */
    char *data;                    /* mapped twice: 2 * capacity bytes */
    uint64_t capacity;             /* bytes, a power of two */
    int fd;

    /* Written by the reader, read by writers: how far writers may go. */
    _Alignas(64) _Atomic uint64_t free_to; /* all before is zeroed */
    _Atomic uint64_t reserved_to;          /* all before has its blocks; raised by writers too */

    /* The reader's own. */
    _Alignas(64) uint64_t tail; /* acknowledged position */
    uint64_t sequence;          /* of the record at tail */
    uint64_t generation;        /* of the last acknowledgement */
    uint64_t freed;             /* all before was handed back to the writers; at most tail */
    uint64_t touched;           /* offset up to which the file may have kept blocks */
    uint64_t walked_to;         /* where the last step of a trim ended */
    bool dead;                  /* the owner is dead: holes may be passed over */
};

struct lc_record {
    struct span service, message; /* borrowed from the ring until it is acknowledged */
    int64_t timestamp_ms;
    enum level level;
    unsigned flags; /* LC_FLAG_… */
};

/* Makes a new ring in the empty file fd, which the ring takes on success. Capacity is a power of
 * two; it becomes less when RLIMIT_FSIZE does not permit it. Returns 0 or an errno. */
int lc_ring_create(struct lc_ring *ring, int fd, uint64_t capacity);

/* Opens a ring that exists: the ring of a dead process to drain it, or, read_only, any ring to look
 * at it. Takes fd on success. Returns 0, EBADMSG when the file is not a whole ring, or an errno. */
int lc_ring_open(struct lc_ring *ring, int fd, bool read_only);

/* In the child of a fork: closes the parent's ring and puts zeros in the place of its mapping,
 * since a call that a signal handler interrupted to fork goes on writing there. Async-signal-safe.
 */
void lc_ring_disown(struct lc_ring *ring);

/* Unmaps and closes; the file stays. */
void lc_ring_close(struct lc_ring *ring);

/* An id of 16 bytes in hexadecimal, with a NUL. */
void lc_producer_hex(const unsigned char id[LC_PRODUCER_BYTES], char hex[LC_PRODUCER_HEX + 1]);

/* The producer id in hexadecimal, with a NUL. */
void lc_ring_producer(const struct lc_ring *ring, char hex[LC_PRODUCER_HEX + 1]);

/* Appends a record. Returns 0, EAGAIN when the ring is full, or ENOSPC when it is not full, but its
 * file system is. Lock-free, async-signal-safe; makes a system call only to reserve blocks that the
 * reader has not reserved yet. */
int lc_ring_write(struct lc_ring *ring, const struct lc_record *record);

enum lc_ring_read {
    LC_RING_RECORD,  /* *record is filled, *position is behind it */
    LC_RING_EMPTY,   /* nothing more */
    LC_RING_BUSY,    /* a record is being written there */
    LC_RING_DAMAGED, /* no ring looks like this */
};

/* Reads the record at *position. */
enum lc_ring_read lc_ring_read(const struct lc_ring *ring, uint64_t *position,
                               struct lc_record *record);

/* Position behind the last reserved record. Thread-safe. */
uint64_t lc_ring_head(const struct lc_ring *ring);

/* Makes durable against a crash of the process that all before `position` is done and that the
 * record there has this sequence number; then gives the space back. */
void lc_ring_acknowledge(struct lc_ring *ring, uint64_t position, uint64_t sequence);

/* Reserves blocks ahead of the writers. Call it regularly. Failure shows as ENOSPC in
 * lc_ring_write(). */
void lc_ring_reserve(struct lc_ring *ring);

/* Closes the ring to writers, who get EAGAIN from now on. True when it is empty, and stays so. */
bool lc_ring_seal(struct lc_ring *ring);

/* When the ring is empty and has gone some way into its file: goes on at the file's beginning, so
 * that an ordinary load touches little of it. True when tail has moved. Call it when there is
 * nothing to send. */
bool lc_ring_rewind(struct lc_ring *ring);

/* When the ring is empty: gives the blocks of one chunk of the free space back to the file system.
 * True when tail has moved; call it again then. For idle times. */
bool lc_ring_trim(struct lc_ring *ring);

#endif
