/* ring-read.c: the reading side of a ring: records come out, free space goes back. */
#include "ring-read-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/crash.h"
#include "common/record.h"

#define HOLE_BYTES   4096                 /* holes begin at multiples of this */
#define WINDOW_BYTES LC_RING_CHUNK        /* an ordinary load stays in this part of the file */
#define KEEP_BYTES   ((uint64_t)64 << 20) /* this part keeps its blocks when it is freed */

/* ---- Records ---- */

static bool fill(const struct lc_slot *slot, uint64_t bytes, struct lc_record *r)
{
    *r = (struct lc_record){
        .service = {slot->text, slot->service_bytes},
        .message = {slot->text + slot->service_bytes, slot->message_bytes},
        .timestamp_ms = slot->timestamp_ms,
        .level = (enum level)slot->level,
        .flags = slot->flags,
    };
    return lc_slot_bytes(r) == bytes && r->service.n > 0 && r->service.n <= RECORD_SERVICE_MAX &&
           slot->level <= LEVEL_FATAL;
}

/* The next position where the file has blocks. Reading where it has none would allocate them. */
static uint64_t skip_hole(const struct lc_ring *ring, uint64_t position)
{
    uint64_t offset = position & (ring->capacity - 1);
    off_t here = (off_t)(LC_RING_HEADER_BYTES + offset);
    off_t data = lseek(ring->fd, here, SEEK_DATA);
    if (data < 0)
        return position + (errno == ENXIO ? ring->capacity - offset : 0);
    return position + (uint64_t)(data - here);
}

enum lc_ring_read lc_ring_read(const struct lc_ring *ring, uint64_t *position,
                               struct lc_record *record)
{
    uint64_t head = lc_ring_head(ring);
    while (*position < head) {
        if (ring->dead && (*position % HOLE_BYTES == 0 || *position == ring->tail))
            *position = skip_hole(ring, *position);
        if (*position >= head)
            break;
        struct lc_slot *slot = lc_slot_at(ring, *position);
        uint64_t header = atomic_load_explicit(&slot->header, memory_order_acquire);
        uint64_t bytes = header & LC_SLOT_LENGTH, state = header - bytes;
        if (header == 0 || state == LC_SLOT_RESERVED) {
            if (!ring->dead)
                return LC_RING_BUSY;
            if (header == 0)
                bytes = 8;
        } else if (state != LC_SLOT_COMMITTED) {
            return LC_RING_DAMAGED;
        }
        if ((bytes & 7) != 0 || bytes == 0 || bytes > head - *position)
            return LC_RING_DAMAGED;
        if (state == LC_SLOT_COMMITTED) {
            if (bytes < sizeof(struct lc_slot) || !fill(slot, bytes, record))
                return LC_RING_DAMAGED;
            *position += bytes;
            return LC_RING_RECORD;
        }
        *position += bytes;
    }
    return LC_RING_EMPTY;
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
    atomic_store_explicit(&ring->free_to, to + ring->capacity, memory_order_release);
}

/* Makes [from, to), where records were, zero again. Returns how far it came. The first part of the
 * file keeps its blocks, so that an ordinary ring costs no system calls. Behind it whole chunks
 * give theirs back at once, so that a large ring costs what is in it. */
static uint64_t clean(struct lc_ring *ring, uint64_t from, uint64_t to)
{
    while (from < to) {
        uint64_t start = from & (ring->capacity - 1);
        uint64_t zone =
            start < KEEP_BYTES && KEEP_BYTES < ring->capacity ? KEEP_BYTES : ring->capacity;
        uint64_t end = from + (zone - start) < to ? from + (zone - start) : to;
        if (start >= KEEP_BYTES) {
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
        from = end;
    }
    return from;
}

void lc_ring_acknowledge(struct lc_ring *ring, uint64_t position, uint64_t sequence)
{
    lc_ring_publish(ring, position, sequence);
    if (ring->dead)
        return; /* nobody writes there any more */
    uint64_t to = clean(ring, ring->freed, position);
    CRASH_POINT();
    hand_back(ring, to);
}

/* Takes the next `bytes` of the empty ring, as a writer would, and acknowledges them. They are the
 * reader's alone until it hands them back. False when the ring is not empty, or a writer was
 * faster. */
static bool pass_over(struct lc_ring *ring, uint64_t bytes)
{
    uint64_t head = ring->tail;
    if (!atomic_compare_exchange_strong(&ring->header->head, &head, head + bytes))
        return false;
    CRASH_POINT();
    lc_ring_publish(ring, ring->tail + bytes, ring->sequence);
    return true;
}

bool lc_ring_rewind(struct lc_ring *ring)
{
    uint64_t from = ring->tail, offset = from & (ring->capacity - 1);
    if (offset < WINDOW_BYTES || !pass_over(ring, ring->capacity - offset))
        return false;
    /* A part of a chunk that waited need not wait any more. What lies behind it is clean. */
    if (ring->freed < from && !punch(ring, ring->freed, from))
        zero(ring, ring->freed, from);
    CRASH_POINT();
    hand_back(ring, ring->tail);
    return true;
}

bool lc_ring_trim(struct lc_ring *ring)
{
    uint64_t from = ring->tail, offset = from & (ring->capacity - 1);
    if (ring->touched <= WINDOW_BYTES)
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
    hand_back(ring, ring->tail);
    ring->walked_to = ring->tail;
    if (offset + piece >= ring->touched) {
        ring->touched = WINDOW_BYTES;
        lc_ring_rewind(ring);
    }
    return true;
}

bool lc_ring_seal(struct lc_ring *ring)
{
    /* free_to fails each claim that begins from now on; moving head fails those under way. */
    uint64_t head = ring->tail;
    atomic_store(&ring->free_to, 0);
    CRASH_POINT();
    return atomic_compare_exchange_strong(&ring->header->head, &head, head + 8);
}
