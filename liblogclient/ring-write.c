/* ring-write.c: the writing side of a ring. */
#include "ring-write-internal.h"

#include <errno.h>

#include "common/crash.h"
#include "common/timestamp.h"
#include "ring-check-internal.h"

#define REFUSE_MS 100 /* after a failed reservation */

/* Keeps the compiler from swapping two stores. The processor may swap them: whatever a thread has
 * stored becomes visible, even when its process is killed right after. */
#define STORE_BARRIER() atomic_signal_fence(memory_order_release)

/* ---- Pages ---- */

/* Where the step ends that begins at this position. Steps are small in the first chunk of a ring,
 * where most rings end. None wraps. */
static uint64_t step_end(uint64_t position)
{
    uint64_t step = position < LC_RING_CHUNK ? LC_RING_FIRST : LC_RING_CHUNK;
    return position - position % step + step;
}

/* From the beginning of a page on, whatever its size. */
static int populate(struct lc_ring *ring, uint64_t from, uint64_t to)
{
    from -= from % LC_RING_HEADER_BYTES;
    return lc_ring_populate(ring->data + (from & (ring->capacity - 1)), to - from);
}

/* Gives [from, to) its pages, and raises reserved_to to match. */
static int reserve_to(struct lc_ring *ring, uint64_t from, uint64_t to)
{
    uint64_t reserved = atomic_load_explicit(&ring->reserved_to, memory_order_acquire);
    while (reserved < to) {
        /* After a rewind reserved_to may be far behind: what lies between is nobody's. */
        uint64_t start = reserved < from ? from : reserved, end = step_end(start);
        int error = populate(ring, start, end);
        if (error != 0)
            return error;
        if (atomic_compare_exchange_strong_explicit(&ring->reserved_to, &reserved, end,
                                                    memory_order_acq_rel, memory_order_acquire))
            reserved = end;
    }
    return 0;
}

/* The same, unless it has failed a moment ago: on a full file system a call shall cost no more than
 * with a full ring. One thread tries again. */
static int try_reserve(struct lc_ring *ring, uint64_t from, uint64_t to)
{
    int64_t now_ms = monotonic_now_ms();
    int64_t refused = atomic_load_explicit(&ring->refused_ms, memory_order_relaxed);
    if (refused != 0 && now_ms >= refused && now_ms - refused < REFUSE_MS)
        return ENOSPC;
    if (refused != 0 && !atomic_compare_exchange_strong(&ring->refused_ms, &refused, now_ms))
        return ENOSPC;
    int error = reserve_to(ring, from, to);
    if (error != 0 || refused != 0)
        atomic_store_explicit(&ring->refused_ms, error != 0 ? now_ms : 0, memory_order_relaxed);
    return error;
}

/* The blocks are there. This takes the page faults, so that the callers don't. */
static void go_ahead(struct lc_ring *ring, uint64_t head, uint64_t want)
{
    uint64_t from = ring->ahead < head ? head : ring->ahead;
    if (ring->ahead >= want)
        return;
    ring->ahead = step_end(from);
    populate(ring, from, ring->ahead);
}

void lc_ring_reserve(struct lc_ring *ring)
{
    uint64_t head = lc_ring_head(ring);
    uint64_t want = head + (head < LC_RING_CHUNK / 2 ? LC_RING_FIRST / 2 : LC_RING_CHUNK);
    uint64_t end = atomic_load_explicit(&ring->free_to, memory_order_relaxed);
    if (want > end)
        want = end;
    if (ring->whole)
        go_ahead(ring, head, want);
    else if (atomic_load_explicit(&ring->reserved_to, memory_order_relaxed) < want)
        try_reserve(ring, head, want);
}

/* ---- Records ---- */

/* Moves head over `bytes` and one record. *position is where the record goes. */
static int take(struct lc_ring *ring, uint64_t bytes, uint64_t *position, uint64_t *number)
{
    _Atomic uint64_t *head = &ring->header->head;
    uint64_t old = atomic_load_explicit(head, memory_order_acquire), at;
    for (;;) {
        /* After head, so that none is older than what head says: lc_ring_seal() relies on it. */
        uint64_t free_to = atomic_load_explicit(&ring->free_to, memory_order_acquire);
        at = lc_head_position(old, free_to - ring->capacity);
        if (at + bytes > free_to) {
            uint64_t now = atomic_load_explicit(head, memory_order_acquire);
            if (now == old)
                return EAGAIN;
            old = now; /* free_to may have overtaken it */
            continue;
        }
        if (at + bytes > atomic_load_explicit(&ring->reserved_to, memory_order_acquire)) {
            int error = try_reserve(ring, at, at + bytes);
            if (error != 0)
                return error;
        }
        /* Sequentially consistent: sender.c relies on it when it goes to sleep. */
        if (atomic_compare_exchange_weak(head, &old, lc_head_make(at + bytes, old + 1)))
            break;
    }
    *position = at;
    /* Done cannot overtake what is not written yet. */
    *number = lc_head_number(old, atomic_load_explicit(&ring->done, memory_order_acquire));
    return 0;
}

static uint32_t sizes_of(const struct lc_record *r, uint32_t pad, bool text)
{
    return (uint32_t)r->service.n | (uint32_t)r->level << LC_SIZES_LEVEL_LOW |
           r->flags << LC_SIZES_FLAGS_LOW | pad << LC_SIZES_PAD_LOW | (text ? LC_SIZES_TEXT : 0);
}

/* Eight, four or fewer bytes at a time; the last ones may overlap those before. For a name, a call
 * of memcpy(3) costs more. */
static void copy_name(char *to, const char *from, size_t n)
{
    if (n >= 8) {
        for (size_t i = 0; i + 8 < n; i += 8)
            memcpy(to + i, from + i, 8);
        memcpy(to + n - 8, from + n - 8, 8);
    } else if (n >= 4) {
        memcpy(to, from, 4);
        memcpy(to + n - 4, from + n - 4, 4);
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = from[i];
    }
}

int lc_ring_write(struct lc_ring *ring, const struct lc_record *r)
{
    uint64_t bytes = lc_slot_bytes(r), position, number;
    size_t text = r->service.n + r->message.n;
    if (bytes > LC_SLOT_MAX_BYTES)
        return EMSGSIZE;
    CRASH_POINT();
    int error = take(ring, bytes, &position, &number);
    if (error != 0)
        return error;
    CRASH_POINT();
    struct lc_slot *slot = lc_slot_at(ring, position);
    uint64_t header = bytes >> 3 | number << LC_SLOT_NUMBER_LOW;
    atomic_store_explicit(&slot->header, header | LC_SLOT_RESERVED, memory_order_relaxed);
    STORE_BARRIER();
    CRASH_POINT();
    copy_name(slot->text, r->service.p, r->service.n);
    CRASH_POINT();
    memcpy(slot->text + r->service.n, r->message.p, r->message.n);
    CRASH_POINT();
    uint32_t sizes = sizes_of(r, (uint32_t)(bytes - sizeof(*slot) - text), ring->whole);
    uint64_t hash = lc_hash_fields(ring->key, position & (ring->capacity - 1),
                                   header | LC_SLOT_COMMITTED, r->timestamp_ms, sizes);
    if (ring->whole) {
        hash = lc_hash_text(ring->key, hash, r->service.p, r->service.n);
        hash = lc_hash_text(ring->key, hash, r->message.p, r->message.n);
    }
    slot->timestamp_ms = r->timestamp_ms;
    slot->sizes = sizes;
    CRASH_POINT();
    slot->check = lc_hash_end(hash);
    CRASH_POINT();
    atomic_store_explicit(&slot->header, header | LC_SLOT_COMMITTED, memory_order_release);
    CRASH_POINT();
    return 0;
}
