/* ring-read.c: the reading side of a ring: records come out, free space goes back. */
#include "ring-read-internal.h"

#include <errno.h>
#include <fcntl.h>

#include "common/crash.h"
#include "common/record.h"

#define PAGE_BYTES   4096
#define SEAL_BYTES   8 /* no room for a record: what head moves when the ring is sealed */
#define WINDOW_BYTES LC_RING_CHUNK /* an ordinary load stays in this part of the file */

/* ---- Records ---- */

bool lc_slot_record(const struct lc_slot *slot, uint64_t header, const char *text,
                    struct lc_record *r)
{
    uint64_t bytes = (header & LC_SLOT_UNITS_MASK) << 3;
    uint32_t service = slot->sizes & LC_SIZES_SERVICE, pad = slot->sizes >> LC_SIZES_PAD_LOW;
    uint32_t level = slot->sizes >> LC_SIZES_LEVEL_LOW & 255;
    uint32_t flags = (slot->sizes & ~LC_SIZES_TEXT) >> LC_SIZES_FLAGS_LOW & 255;
    if (bytes < sizeof(*slot) + service + pad || pad > 7 || service == 0 ||
        service > RECORD_SERVICE_MAX || level > LEVEL_FATAL ||
        (flags & ~(LC_FLAG_CUT | LC_FLAG_JSON)) != 0)
        return false;
    *r = (struct lc_record){
        .service = {text, service},
        .message = {text + service, (size_t)bytes - sizeof(*slot) - service - pad},
        .timestamp_ms = slot->timestamp_ms,
        .number = header >> LC_SLOT_NUMBER_LOW,
        .level = (enum level)level,
        .flags = flags,
    };
    return true;
}

enum lc_ring_read lc_ring_read(const struct lc_ring *ring, uint64_t *position,
                               struct lc_record *record)
{
    uint64_t head = lc_ring_head(ring);
    if (*position >= head)
        return LC_RING_EMPTY;
    const struct lc_slot *slot = lc_slot_at(ring, *position);
    uint64_t header = atomic_load_explicit(&slot->header, memory_order_acquire);
    uint64_t bytes = (header & LC_SLOT_UNITS_MASK) << 3, state = header & LC_SLOT_STATE_MASK;
    if (header == 0 || state == LC_SLOT_RESERVED)
        return LC_RING_BUSY;
    if (state != LC_SLOT_COMMITTED || bytes > head - *position ||
        !lc_slot_record(slot, header, slot->text, record))
        return LC_RING_DAMAGED;
    *position += bytes;
    return LC_RING_RECORD;
}

/* ---- Free space ---- */

/* Frees the blocks of [from, to), which then reads as zeros. May wrap. False when the file system
 * cannot. */
static bool punch(const struct lc_ring *ring, uint64_t from, uint64_t to)
{
    bool done = true;
    while (from < to) {
        uint64_t start = from & (ring->capacity - 1);
        uint64_t n = ring->capacity - start < to - from ? ring->capacity - start : to - from;
        done = lc_ring_allocate(ring->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                LC_RING_HEADER_BYTES + start, n) == 0 &&
               done;
        CRASH_POINT();
        from += n;
    }
    return done;
}

static void zero(const struct lc_ring *ring, uint64_t from, uint64_t to)
{
    memset(ring->data + (from & (ring->capacity - 1)), 0, (size_t)(to - from));
}

static void hand_back(struct lc_ring *ring, uint64_t to)
{
    ring->freed = to;
    if (!ring->sealed)
        atomic_store_explicit(&ring->free_to, to + ring->capacity, memory_order_release);
}

/* Makes [from, to), where records were, zero again. Returns how far it came. The first part of the
 * file keeps its blocks, so that an ordinary ring costs no system calls. Behind it whole chunks
 * give theirs back at once, so that a large ring costs what is in it. */
static uint64_t clean(struct lc_ring *ring, uint64_t from, uint64_t to)
{
    uint64_t keep = ring->whole || ring->keep > ring->capacity ? ring->capacity : ring->keep;
    while (from < to) {
        uint64_t start = from & (ring->capacity - 1);
        uint64_t zone = start < keep ? keep : ring->capacity;
        uint64_t end = from + (zone - start) < to ? from + (zone - start) : to;
        if (start >= keep) {
            /* The zone begins with a chunk. A part of one at the end waits until it is whole. */
            end -= end % LC_RING_CHUNK;
            if (end <= from)
                break;
            if (!punch(ring, from, end))
                zero(ring, from, end);
        } else {
            zero(ring, from, end);
            if (start + (end - from) > ring->touched)
                ring->touched = start + (end - from);
        }
        CRASH_POINT();
        from = end;
    }
    return from;
}

void lc_ring_acknowledge(struct lc_ring *ring, uint64_t position, uint64_t number, uint64_t stored)
{
    struct lc_ring_ack ack = ring->ack;
    ack.position = position;
    ack.number = number;
    ack.stored = stored;
    lc_ring_publish(ring, &ack);
    uint64_t to = clean(ring, ring->freed, position);
    CRASH_POINT();
    hand_back(ring, to);
}

/* Takes the next `bytes` of the empty ring, as a writer would, and acknowledges them. They are the
 * reader's alone until it hands them back. False when the ring is not empty, or a writer was
 * faster. */
static bool pass_over(struct lc_ring *ring, uint64_t bytes)
{
    struct lc_ring_ack ack = ring->ack;
    uint64_t head = lc_head_make(ack.position, ack.number);
    ack.position += bytes;
    if (ring->sealed || !atomic_compare_exchange_strong(&ring->header->head, &head,
                                                        lc_head_make(ack.position, ack.number)))
        return false;
    CRASH_POINT();
    lc_ring_publish(ring, &ack);
    return true;
}

bool lc_ring_rewind(struct lc_ring *ring)
{
    uint64_t from = ring->ack.position, offset = from & (ring->capacity - 1);
    if (offset < WINDOW_BYTES || !pass_over(ring, ring->capacity - offset))
        return false;
    /* A part of a chunk that waited need not wait any more. What lies behind it is clean. */
    if (ring->freed < from && !punch(ring, ring->freed, from))
        zero(ring, ring->freed, from);
    CRASH_POINT();
    hand_back(ring, ring->ack.position);
    return true;
}

bool lc_ring_trim(struct lc_ring *ring)
{
    uint64_t from = ring->ack.position, offset = from & (ring->capacity - 1);
    if (ring->whole || ring->touched <= WINDOW_BYTES)
        return false;
    /* The walk begins at the file's beginning, where nothing waits to be cleaned. */
    if (ring->walked_to != from && offset >= WINDOW_BYTES)
        return lc_ring_rewind(ring);
    uint64_t piece = LC_RING_CHUNK - offset % LC_RING_CHUNK;
    if (!pass_over(ring, piece))
        return false;
    if (offset >= WINDOW_BYTES)
        punch(ring, from, from + piece);
    CRASH_POINT();
    hand_back(ring, ring->ack.position);
    ring->walked_to = ring->ack.position;
    if (offset + piece >= ring->touched) {
        ring->touched = WINDOW_BYTES;
        lc_ring_rewind(ring);
    }
    return true;
}

bool lc_ring_seal(struct lc_ring *ring)
{
    _Atomic uint64_t *head = &ring->header->head;
    uint64_t tail = ring->ack.position, at;
    /* free_to fails each call that looks at head from now on; moving head fails those that have. */
    ring->sealed = true;
    atomic_store(&ring->free_to, tail);
    CRASH_POINT();
    uint64_t old = atomic_load(head);
    do {
        at = lc_head_position(old, tail);
        if (at == tail + ring->capacity)
            return false; /* full: no call has found room */
    } while (!atomic_compare_exchange_weak(head, &old, lc_head_make(at + SEAL_BYTES, old)));
    CRASH_POINT();
    return at == tail;
}

/* Not while a call is in the midst of a record: on a full disk its store might need a block that
 * lies in one folio with what is given back. */
void lc_ring_shrink(const struct lc_ring *ring)
{
    struct lc_record record;
    uint64_t used_to = ring->ack.position, end = used_to + ring->capacity;
    while (lc_ring_read(ring, &used_to, &record) == LC_RING_RECORD)
        ;
    if (used_to + SEAL_BYTES != lc_ring_head(ring))
        return;
    uint64_t from = (used_to + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
    uint64_t to = end & ~(uint64_t)(PAGE_BYTES - 1);
    if (from < to)
        punch(ring, from, to);
}
