/* ring-write.c: the writing side of a ring. */
#include "ring-write-internal.h"

#include <errno.h>
#include <sys/mman.h>

#include "common/crash.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* Keeps the compiler from swapping two stores. The processor may swap them: whatever a thread has
 * stored becomes visible, even when its process is killed right after. */
#define STORE_BARRIER() atomic_signal_fence(memory_order_release)

/* ---- Blocks ---- */

/* Gives [from, to) its blocks, and raises reserved_to to match. Chunks begin at multiples of their
 * size, so that a chunk never wraps. Async-signal-safe. */
static int reserve_to(struct lc_ring *ring, uint64_t from, uint64_t to)
{
    uint64_t reserved = atomic_load_explicit(&ring->reserved_to, memory_order_acquire);
    while (reserved < to) {
        /* After a rewind reserved_to may be far behind: what lies between is nobody's. */
        uint64_t start = reserved < from ? from - from % LC_RING_CHUNK : reserved;
        uint64_t offset = LC_RING_HEADER_BYTES + (start & (ring->capacity - 1));
        if (lc_ring_allocate(ring->fd, 0, offset, LC_RING_CHUNK) != 0)
            return ENOSPC;
        if (atomic_compare_exchange_strong_explicit(&ring->reserved_to, &reserved,
                                                    start + LC_RING_CHUNK, memory_order_acq_rel,
                                                    memory_order_acquire))
            reserved = start + LC_RING_CHUNK;
    }
    return 0;
}

void lc_ring_reserve(struct lc_ring *ring)
{
    uint64_t head = lc_ring_head(ring), want = head + LC_RING_CHUNK;
    uint64_t end = atomic_load_explicit(&ring->free_to, memory_order_relaxed);
    uint64_t before = atomic_load_explicit(&ring->reserved_to, memory_order_relaxed);
    if (want > end)
        want = end;
    if (before >= want || reserve_to(ring, head, want) != 0)
        return;
    /* Takes the page faults, so that the callers don't. Old kernels don't know this advice; then
     * the callers take them. */
    uint64_t from = before > head ? before : head - head % LC_RING_CHUNK;
    madvise(ring->data + (from & (ring->capacity - 1)), LC_RING_CHUNK, MADV_POPULATE_WRITE);
}

/* ---- Records ---- */

/* Advances head by `bytes`; *position is where the record goes. */
static int claim(struct lc_ring *ring, uint64_t bytes, uint64_t *position)
{
    _Atomic uint64_t *head = &ring->header->head;
    uint64_t at = atomic_load_explicit(head, memory_order_relaxed);
    do {
        if (at + bytes > atomic_load_explicit(&ring->free_to, memory_order_acquire))
            return EAGAIN;
        if (at + bytes > atomic_load_explicit(&ring->reserved_to, memory_order_acquire)) {
            int error = reserve_to(ring, at, at + bytes);
            if (error != 0)
                return error;
        }
        /* Sequentially consistent: sender.c relies on it when it goes to sleep. */
    } while (!atomic_compare_exchange_weak(head, &at, at + bytes));
    *position = at;
    return 0;
}

int lc_ring_write(struct lc_ring *ring, const struct lc_record *r)
{
    uint64_t position, bytes = lc_slot_bytes(r);
    CRASH_POINT();
    int error = claim(ring, bytes, &position);
    if (error != 0)
        return error;
    CRASH_POINT();
    struct lc_slot *slot = lc_slot_at(ring, position);
    atomic_store_explicit(&slot->header, bytes | LC_SLOT_RESERVED, memory_order_relaxed);
    STORE_BARRIER();
    CRASH_POINT();
    slot->timestamp_ms = r->timestamp_ms;
    slot->message_bytes = (uint32_t)r->message.n;
    slot->service_bytes = (uint8_t)r->service.n;
    slot->level = (uint8_t)r->level;
    slot->flags = (uint8_t)r->flags;
    CRASH_POINT();
    memcpy(slot->text, r->service.p, r->service.n);
    CRASH_POINT();
    memcpy(slot->text + r->service.n, r->message.p, r->message.n);
    CRASH_POINT();
    atomic_store_explicit(&slot->header, bytes | LC_SLOT_COMMITTED, memory_order_release);
    CRASH_POINT();
    return 0;
}
