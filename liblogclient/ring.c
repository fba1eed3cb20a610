#include "ring-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crash.h"
#include "common/record.h"
#include "common/timestamp.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define MAGIC           "LOGRING1"
#define STATE_RESERVED  ((uint64_t)1 << 32)
#define STATE_COMMITTED ((uint64_t)2 << 32)
#define LENGTH_MASK     0xffffffffu
#define ALLOCATE_TRIES  10            /* when signals interrupt */
#define HOLE_BYTES      4096          /* holes begin at multiples of this */
#define WINDOW_BYTES    LC_RING_CHUNK /* an ordinary load stays in this part of the file */
/* This part of the file keeps its blocks when it is freed. */
#define KEEP_BYTES ((uint64_t)64 << 20)

/* What lies in the ring: doc/protocol.md, section 6. */
struct slot {
    _Atomic uint64_t header;
    int64_t timestamp_ms;
    uint32_t message_bytes;
    uint8_t service_bytes;
    uint8_t level;
    uint8_t flags;
    uint8_t zero;
    char text[];
};

_Static_assert(sizeof(struct lc_ring_header) == 192, "the layout of the file");
_Static_assert(offsetof(struct lc_ring_header, head) == 64, "the layout of the file");
_Static_assert(offsetof(struct lc_ring_header, ack) == 128, "the layout of the file");
_Static_assert(offsetof(struct slot, text) == 24, "the layout of the file");

/* Keeps the compiler from swapping two stores. The processor may: what a thread has stored before
 * its process is killed becomes visible all the same. */
#define STORE_BARRIER() atomic_signal_fence(memory_order_release)

static struct slot *slot_at(const struct lc_ring *ring, uint64_t position)
{
    return (struct slot *)(void *)(ring->data + (position & (ring->capacity - 1)));
}

static uint64_t rotl(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static uint64_t ack_check(uint64_t generation, uint64_t position, uint64_t sequence)
{
    return generation ^ rotl(position, 21) ^ rotl(sequence, 42) ^ 0x4c6f6752696e6731u;
}

/* ---- Map ---- */

static int map(struct lc_ring *ring, int fd, uint64_t capacity, int protection)
{
    size_t data = (size_t)capacity, all = LC_RING_HEADER_BYTES + 2 * data;
    char *base = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return errno;
    if (mmap(base, LC_RING_HEADER_BYTES + data, protection, MAP_SHARED | MAP_FIXED, fd, 0) ==
            MAP_FAILED ||
        mmap(base + LC_RING_HEADER_BYTES + data, data, protection, MAP_SHARED | MAP_FIXED, fd,
             LC_RING_HEADER_BYTES) == MAP_FAILED) {
        int error = errno;
        munmap(base, all);
        return error;
    }
    ring->header = (struct lc_ring_header *)(void *)base;
    ring->data = base + LC_RING_HEADER_BYTES;
    ring->capacity = capacity;
    return 0;
}

static void publish(struct lc_ring *ring, uint64_t position, uint64_t sequence)
{
    uint64_t generation = ring->generation + 1;
    struct lc_ack_slot *slot = &ring->header->ack[generation & 1];
    /* The slot is no longer valid while it changes: its old generation does not fit the new check.
     */
    atomic_store_explicit(&slot->check, ack_check(generation, position, sequence),
                          memory_order_relaxed);
    CRASH_POINT();
    atomic_store_explicit(&slot->position, position, memory_order_release);
    CRASH_POINT();
    atomic_store_explicit(&slot->sequence, sequence, memory_order_release);
    CRASH_POINT();
    atomic_store_explicit(&slot->generation, generation, memory_order_release);
    CRASH_POINT();
    ring->generation = generation;
    ring->tail = position;
    ring->sequence = sequence;
}

/* fallocate(2), which a signal may interrupt. posix_fallocate(3) falls back to writing, which is no
 * good for a file that others write to. Returns 0 or an errno, and keeps errno. */
static int allocate(int fd, int mode, uint64_t offset, uint64_t bytes)
{
    int saved = errno, error = EINTR;
    for (int i = 0; i < ALLOCATE_TRIES && error == EINTR; i++)
        error = fallocate(fd, mode, (off_t)offset, (off_t)bytes) == 0 ? 0 : errno;
    errno = saved;
    return error;
}

/* Half as large, and again, until the process may have a file of that size. To try instead would be
 * SIGXFSZ. */
static uint64_t permitted(uint64_t capacity)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return capacity;
    while (capacity >= LC_RING_MIN_BYTES && LC_RING_HEADER_BYTES + capacity > limit.rlim_cur)
        capacity /= 2;
    return capacity;
}

static int fill_header(struct lc_ring *ring)
{
    struct lc_ring_header *h = ring->header;
    if (getrandom(h->producer, sizeof(h->producer), 0) != (ssize_t)sizeof(h->producer))
        return errno;
    h->header_bytes = LC_RING_HEADER_BYTES;
    h->owner_pid = (uint32_t)getpid();
    h->capacity = ring->capacity;
    h->created_ms = timestamp_now_ms();
    publish(ring, 0, 1);
    memcpy(h->magic, MAGIC, sizeof(h->magic));
    return 0;
}

int lc_ring_create(struct lc_ring *ring, int fd, uint64_t capacity)
{
    *ring = (struct lc_ring){.fd = fd};
    int error;
    capacity = permitted(capacity);
    if (capacity < LC_RING_MIN_BYTES)
        return EFBIG;
    if (ftruncate(fd, (off_t)(LC_RING_HEADER_BYTES + capacity)) != 0)
        return errno;
    /* Blocks first: a store into a hole of a full file system is a SIGBUS in the caller's process.
     */
    if ((error = allocate(fd, 0, 0, sizeof(struct lc_ring_header))) != 0 ||
        (error = allocate(fd, 0, LC_RING_HEADER_BYTES, LC_RING_CHUNK)) != 0 ||
        (error = map(ring, fd, capacity, PROT_READ | PROT_WRITE)) != 0)
        return error;
    if ((error = fill_header(ring)) != 0) {
        ring->fd = -1; /* the caller keeps it */
        lc_ring_close(ring);
        return error;
    }
    atomic_store_explicit(&ring->free_to, capacity, memory_order_relaxed);
    atomic_store_explicit(&ring->reserved_to, LC_RING_CHUNK, memory_order_relaxed);
    return 0;
}

static bool header_valid(const struct lc_ring_header *h, uint64_t file_bytes)
{
    return memcmp(h->magic, MAGIC, sizeof(h->magic)) == 0 &&
           h->header_bytes == LC_RING_HEADER_BYTES && h->capacity >= LC_RING_MIN_BYTES &&
           h->capacity <= (uint64_t)LC_RING_MAX_BYTES && (h->capacity & (h->capacity - 1)) == 0 &&
           file_bytes == LC_RING_HEADER_BYTES + h->capacity;
}

/* Finds the acknowledged position and sequence. */
static bool read_ack(struct lc_ring *ring)
{
    bool found = false;
    for (int i = 0; i < 2; i++) {
        struct lc_ack_slot *slot = &ring->header->ack[i];
        uint64_t generation = atomic_load_explicit(&slot->generation, memory_order_acquire);
        uint64_t position = atomic_load_explicit(&slot->position, memory_order_relaxed);
        uint64_t sequence = atomic_load_explicit(&slot->sequence, memory_order_relaxed);
        if (atomic_load_explicit(&slot->check, memory_order_relaxed) !=
                ack_check(generation, position, sequence) ||
            generation <= ring->generation)
            continue;
        ring->generation = generation;
        ring->tail = position;
        ring->sequence = sequence;
        found = true;
    }
    uint64_t head = lc_ring_head(ring);
    return found && ring->sequence > 0 && ring->tail <= head &&
           head - ring->tail <= ring->capacity && ((ring->tail | head) & 7) == 0;
}

int lc_ring_open(struct lc_ring *ring, int fd, bool read_only)
{
    struct lc_ring_header header;
    struct stat st;
    *ring = (struct lc_ring){.fd = fd, .dead = true};
    if (fstat(fd, &st) != 0)
        return errno;
    ssize_t n = pread(fd, &header, sizeof(header), 0);
    if (n < 0)
        return errno;
    if (n != (ssize_t)sizeof(header) || !header_valid(&header, (uint64_t)st.st_size))
        return EBADMSG;
    int error = map(ring, fd, header.capacity, read_only ? PROT_READ : PROT_READ | PROT_WRITE);
    if (error != 0)
        return error;
    if (read_ack(ring))
        return 0;
    ring->fd = -1; /* the caller keeps it */
    lc_ring_close(ring);
    return EBADMSG;
}

void lc_ring_disown(struct lc_ring *ring)
{
    mmap(ring->header, LC_RING_HEADER_BYTES + 2 * (size_t)ring->capacity, PROT_READ | PROT_WRITE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    close(ring->fd);
    ring->fd = -1;
}

void lc_ring_close(struct lc_ring *ring)
{
    if (ring->header != NULL)
        munmap(ring->header, LC_RING_HEADER_BYTES + 2 * (size_t)ring->capacity);
    if (ring->fd >= 0)
        close(ring->fd);
    *ring = (struct lc_ring){.fd = -1};
}

void lc_producer_hex(const unsigned char id[LC_PRODUCER_BYTES], char hex[LC_PRODUCER_HEX + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < LC_PRODUCER_BYTES; i++) {
        hex[2 * i] = digits[id[i] >> 4];
        hex[2 * i + 1] = digits[id[i] & 15];
    }
    hex[LC_PRODUCER_HEX] = '\0';
}

void lc_ring_producer(const struct lc_ring *ring, char hex[LC_PRODUCER_HEX + 1])
{
    lc_producer_hex(ring->header->producer, hex);
}

/* ---- Blocks ---- */

/* Reserves the blocks of [from, to), which is at most one chunk. Async-signal-safe. */
static int reserve(const struct lc_ring *ring, uint64_t from, uint64_t to)
{
    uint64_t start = LC_RING_HEADER_BYTES + (from & (ring->capacity - 1));
    return allocate(ring->fd, 0, start, to - from) == 0 ? 0 : ENOSPC;
}

/* Sees to it that [from, to) has its blocks, and raises reserved_to to match. Chunks begin at
 * multiples of their size, so that a chunk never wraps. */
static int reserve_to(struct lc_ring *ring, uint64_t from, uint64_t to)
{
    uint64_t reserved = atomic_load_explicit(&ring->reserved_to, memory_order_acquire);
    while (reserved < to) {
        /* After a rewind reserved_to may be far behind: what lies between is nobody's. */
        uint64_t start = reserved < from ? from - from % LC_RING_CHUNK : reserved;
        int error = reserve(ring, start, start + LC_RING_CHUNK);
        if (error != 0)
            return error;
        if (atomic_compare_exchange_strong_explicit(&ring->reserved_to, &reserved,
                                                    start + LC_RING_CHUNK, memory_order_acq_rel,
                                                    memory_order_acquire))
            reserved = start + LC_RING_CHUNK;
    }
    return 0;
}

void lc_ring_reserve(struct lc_ring *ring)
{
    uint64_t head = lc_ring_head(ring), want = head + LC_RING_AHEAD;
    uint64_t end = atomic_load_explicit(&ring->free_to, memory_order_relaxed);
    uint64_t before = atomic_load_explicit(&ring->reserved_to, memory_order_relaxed);
    if (want > end)
        want = end;
    if (before >= want || reserve_to(ring, head, want) != 0)
        return;
    /* Page faults are taken here rather than in the callers. Old kernels don't know this advice;
     * then the callers take them. */
    uint64_t from = before > head ? before : head - head % LC_RING_CHUNK;
    madvise(ring->data + (from & (ring->capacity - 1)), LC_RING_CHUNK, MADV_POPULATE_WRITE);
}

/* Frees the blocks of [from, to), which then reads as zeros. May wrap. False when the file system
 * cannot. */
static bool punch(const struct lc_ring *ring, uint64_t from, uint64_t to)
{
    bool done = true;
    while (from < to) {
        uint64_t start = from & (ring->capacity - 1);
        uint64_t n = ring->capacity - start < to - from ? ring->capacity - start : to - from;
        done = allocate(ring->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
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

/* ---- Write ---- */

static uint64_t slot_bytes(const struct lc_record *r)
{
    return (sizeof(struct slot) + r->service.n + r->message.n + 7) & ~(uint64_t)7;
}

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
        /* Sequentially consistent: the sender's going to sleep relies on it (rest() in
         * sender.c). */
    } while (!atomic_compare_exchange_weak(head, &at, at + bytes));
    *position = at;
    return 0;
}

int lc_ring_write(struct lc_ring *ring, const struct lc_record *r)
{
    uint64_t position, bytes = slot_bytes(r);
    CRASH_POINT();
    int error = claim(ring, bytes, &position);
    if (error != 0)
        return error;
    CRASH_POINT();
    struct slot *slot = slot_at(ring, position);
    atomic_store_explicit(&slot->header, bytes | STATE_RESERVED, memory_order_relaxed);
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
    atomic_store_explicit(&slot->header, bytes | STATE_COMMITTED, memory_order_release);
    CRASH_POINT();
    return 0;
}

/* ---- Read ---- */

uint64_t lc_ring_head(const struct lc_ring *ring)
{
    return atomic_load(&ring->header->head);
}

static bool fill(const struct slot *slot, uint64_t bytes, struct lc_record *r)
{
    *r = (struct lc_record){
        .service = {slot->text, slot->service_bytes},
        .message = {slot->text + slot->service_bytes, slot->message_bytes},
        .timestamp_ms = slot->timestamp_ms,
        .level = (enum level)slot->level,
        .flags = slot->flags,
    };
    return slot_bytes(r) == bytes && r->service.n > 0 && r->service.n <= RECORD_SERVICE_MAX &&
           slot->level <= LEVEL_FATAL;
}

/* Where the file has blocks again, from `position` on. To read where it has none would allocate
 * them. */
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
        struct slot *slot = slot_at(ring, *position);
        uint64_t header = atomic_load_explicit(&slot->header, memory_order_acquire);
        uint64_t bytes = header & LENGTH_MASK, state = header - bytes;
        if (header == 0 || state == STATE_RESERVED) {
            if (!ring->dead)
                return LC_RING_BUSY;
            if (header == 0)
                bytes = 8;
        } else if (state != STATE_COMMITTED) {
            return LC_RING_DAMAGED;
        }
        if ((bytes & 7) != 0 || bytes == 0 || bytes > head - *position)
            return LC_RING_DAMAGED;
        if (state == STATE_COMMITTED) {
            if (bytes < sizeof(struct slot) || !fill(slot, bytes, record))
                return LC_RING_DAMAGED;
            *position += bytes;
            return LC_RING_RECORD;
        }
        *position += bytes;
    }
    return LC_RING_EMPTY;
}

static void hand_back(struct lc_ring *ring, uint64_t to)
{
    ring->freed = to;
    atomic_store_explicit(&ring->free_to, to + ring->capacity, memory_order_release);
}

/* Makes [from, to), where records were, zeros again, and returns how far it came. What lies far
 * into a large file gives its blocks back at once, in whole chunks, so that a large ring costs what
 * is in it; the first part keeps them, so that an ordinary ring costs no system calls. */
static uint64_t clean(struct lc_ring *ring, uint64_t from, uint64_t to)
{
    while (from < to) {
        uint64_t start = from & (ring->capacity - 1);
        uint64_t zone =
            start < KEEP_BYTES && KEEP_BYTES < ring->capacity ? KEEP_BYTES : ring->capacity;
        uint64_t end = from + (zone - start) < to ? from + (zone - start) : to;
        if (start >= KEEP_BYTES) {
            /* The zone begins and ends with a chunk, so a part of one is at the end: it waits. */
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
    publish(ring, position, sequence);
    if (ring->dead)
        return; /* nobody writes there any more */
    uint64_t to = clean(ring, ring->freed, position);
    CRASH_POINT();
    hand_back(ring, to);
}

/* Takes the next `bytes` of the empty ring for the reader, as a writer would, and acknowledges
 * them. False when a writer was faster, or the ring is not empty. Nobody else is in there until it
 * is handed back. */
static bool pass_over(struct lc_ring *ring, uint64_t bytes)
{
    uint64_t head = ring->tail;
    if (!atomic_compare_exchange_strong(&ring->header->head, &head, head + bytes))
        return false;
    CRASH_POINT();
    publish(ring, ring->tail + bytes, ring->sequence);
    return true;
}

bool lc_ring_rewind(struct lc_ring *ring)
{
    uint64_t from = ring->tail, offset = from & (ring->capacity - 1);
    if (offset < WINDOW_BYTES || !pass_over(ring, ring->capacity - offset))
        return false;
    /* What waited for its chunk to be complete need not wait any more; what lies behind it is
     * clean. */
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
    /* To begin at the beginning, where nothing waits to be cleaned. */
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
    /* No claim that begins now can succeed, and moving head makes those fail that have begun. */
    uint64_t head = ring->tail;
    atomic_store(&ring->free_to, 0);
    CRASH_POINT();
    return atomic_compare_exchange_strong(&ring->header->head, &head, head + 8);
}
