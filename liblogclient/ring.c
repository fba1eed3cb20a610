/* ring.c: makes, opens and closes rings, and stores what is acknowledged. Its two sides are in
 * ring-write.c and ring-read.c. */
#include "ring-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crash.h"
#include "common/timestamp.h"

#define MAGIC          "LOGRING1"
#define ALLOCATE_TRIES 10 /* when signals interrupt */

_Static_assert(sizeof(struct lc_ring_header) == 192, "the layout of the file");
_Static_assert(offsetof(struct lc_ring_header, head) == 64, "the layout of the file");
_Static_assert(offsetof(struct lc_ring_header, ack) == 128, "the layout of the file");
_Static_assert(offsetof(struct lc_slot, text) == 24, "the layout of the file");

/* Not posix_fallocate(3): it falls back to writing, and others write to the file. */
int lc_ring_allocate(int fd, int mode, uint64_t offset, uint64_t bytes)
{
    int saved = errno, error = EINTR;
    for (int i = 0; i < ALLOCATE_TRIES && error == EINTR; i++)
        error = fallocate(fd, mode, (off_t)offset, (off_t)bytes) == 0 ? 0 : errno;
    errno = saved;
    return error;
}

/* ---- Acknowledgements ---- */

static uint64_t rotl(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static uint64_t ack_check(uint64_t generation, uint64_t position, uint64_t sequence)
{
    return generation ^ rotl(position, 21) ^ rotl(sequence, 42) ^ 0x4c6f6752696e6731u;
}

void lc_ring_publish(struct lc_ring *ring, uint64_t position, uint64_t sequence)
{
    uint64_t generation = ring->generation + 1;
    struct lc_ack_slot *slot = &ring->header->ack[generation & 1];
    /* While the slot changes it is invalid: its old generation does not fit the new check. */
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

bool lc_ring_find_ack(const struct lc_ring_header *header, struct lc_ring_ack *ack)
{
    *ack = (struct lc_ring_ack){0};
    for (int i = 0; i < 2; i++) {
        const struct lc_ack_slot *slot = &header->ack[i];
        uint64_t generation = atomic_load_explicit(&slot->generation, memory_order_acquire);
        uint64_t position = atomic_load_explicit(&slot->position, memory_order_acquire);
        uint64_t sequence = atomic_load_explicit(&slot->sequence, memory_order_acquire);
        if (atomic_load_explicit(&slot->check, memory_order_relaxed) !=
                ack_check(generation, position, sequence) ||
            generation <= ack->generation)
            continue;
        *ack = (struct lc_ring_ack){generation, position, sequence};
    }
    return ack->generation > 0;
}

/* Takes over what is acknowledged. */
static bool read_ack(struct lc_ring *ring)
{
    struct lc_ring_ack ack;
    bool found = lc_ring_find_ack(ring->header, &ack);
    ring->generation = ack.generation;
    ring->tail = ack.position;
    ring->sequence = ack.sequence;
    uint64_t head = lc_ring_head(ring);
    return found && ring->sequence > 0 && ring->tail <= head &&
           head - ring->tail <= ring->capacity && ((ring->tail | head) & 7) == 0;
}

/* ---- Mapping ---- */

static size_t mapped_bytes(uint64_t capacity)
{
    return LC_RING_HEADER_BYTES + 2 * (size_t)capacity;
}

static int map(struct lc_ring *ring, int fd, uint64_t capacity, int protection)
{
    size_t data = (size_t)capacity, all = mapped_bytes(capacity);
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

/* ---- Life cycle ---- */

/* Halves the capacity until the process may have a file of that size. Trying it out would raise
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
    lc_ring_publish(ring, 0, 1);
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
    /* Blocks first: on a full file system a store into a hole is a SIGBUS in the caller. */
    if ((error = lc_ring_allocate(fd, 0, 0, sizeof(struct lc_ring_header))) != 0 ||
        (error = lc_ring_allocate(fd, 0, LC_RING_HEADER_BYTES, LC_RING_CHUNK)) != 0 ||
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
    mmap(ring->header, mapped_bytes(ring->capacity), PROT_READ | PROT_WRITE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    close(ring->fd);
    ring->fd = -1;
}

void lc_ring_close(struct lc_ring *ring)
{
    if (ring->header != NULL)
        munmap(ring->header, mapped_bytes(ring->capacity));
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
