/* ring.c: makes, opens and closes rings, and stores what is acknowledged. Its two sides are in
 * ring-write.c and ring-read.c. */
#include "ring-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/crash.h"
#include "common/timestamp.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define MAGIC          "LOGRING2"
#define BOOT_ID        "/proc/sys/kernel/random/boot_id"
#define KEEP_BYTES     ((uint64_t)64 << 20)
#define ALLOCATE_TRIES 10 /* when signals interrupt */

_Static_assert(sizeof(struct lc_ack_slot) == 64, "the layout of the file");
_Static_assert(sizeof(struct lc_ring_header) == 320, "the layout of the file");
_Static_assert(offsetof(struct lc_ring_header, head) == 64, "the layout of the file");
_Static_assert(offsetof(struct lc_ring_header, sent) == 128, "the layout of the file");
_Static_assert(offsetof(struct lc_ring_header, ack) == 192, "the layout of the file");
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

/* ---- Checks ---- */

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static uint64_t ack_check(const struct lc_ring_ack *ack)
{
    uint64_t hash = mix(mix(0x4c6f6752696e6732u, ack->generation), ack->position);
    hash = mix(mix(hash, ack->number), ack->stored);
    return mix(mix(hash, ack->producer[0]), ack->producer[1]);
}

/* ---- Acknowledgements ---- */

/* While the slot changes it is invalid: its old generation does not fit the new check. */
void lc_ack_slot_fill(struct lc_ack_slot *slot, const struct lc_ring_ack *ack)
{
    atomic_store_explicit(&slot->check, ack_check(ack), memory_order_relaxed);
    CRASH_POINT();
    atomic_store_explicit(&slot->position, ack->position, memory_order_release);
    CRASH_POINT();
    atomic_store_explicit(&slot->number, ack->number, memory_order_release);
    CRASH_POINT();
    atomic_store_explicit(&slot->stored, ack->stored, memory_order_release);
    CRASH_POINT();
    atomic_store_explicit(&slot->producer[0], ack->producer[0], memory_order_release);
    CRASH_POINT();
    atomic_store_explicit(&slot->producer[1], ack->producer[1], memory_order_release);
    CRASH_POINT();
    atomic_store_explicit(&slot->generation, ack->generation, memory_order_release);
    CRASH_POINT();
}

void lc_ring_publish(struct lc_ring *ring, const struct lc_ring_ack *ack)
{
    uint64_t generation = ring->ack.generation + 1;
    ring->ack = *ack;
    ring->ack.generation = generation;
    lc_ack_slot_fill(&ring->header->ack[generation & 1], &ring->ack);
    atomic_store(&ring->done, ack->number);
}

bool lc_ring_find_ack(const struct lc_ring_header *header, struct lc_ring_ack *ack)
{
    *ack = (struct lc_ring_ack){0};
    for (int i = 0; i < 2; i++) {
        const struct lc_ack_slot *slot = &header->ack[i];
        struct lc_ring_ack a = {
            .generation = atomic_load_explicit(&slot->generation, memory_order_acquire),
            .position = atomic_load_explicit(&slot->position, memory_order_acquire),
            .number = atomic_load_explicit(&slot->number, memory_order_acquire),
            .stored = atomic_load_explicit(&slot->stored, memory_order_acquire),
            .producer = {atomic_load_explicit(&slot->producer[0], memory_order_acquire),
                         atomic_load_explicit(&slot->producer[1], memory_order_acquire)},
        };
        if (atomic_load_explicit(&slot->check, memory_order_relaxed) == ack_check(&a) &&
            a.generation > ack->generation)
            *ack = a;
    }
    return ack->generation > 0;
}

/* ---- Mapping ---- */

static size_t mapped_bytes(uint64_t capacity)
{
    return LC_RING_HEADER_BYTES + 2 * (size_t)capacity;
}

/* Without access at first: after mlockall(MCL_FUTURE) the kernel would fill all of it. */
static int map(struct lc_ring *ring, int fd, uint64_t capacity)
{
    size_t data = (size_t)capacity, all = mapped_bytes(capacity);
    char *base = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return errno;
    if (mmap(base, LC_RING_HEADER_BYTES + data, PROT_NONE, MAP_SHARED | MAP_FIXED, fd, 0) ==
            MAP_FAILED ||
        mmap(base + LC_RING_HEADER_BYTES + data, data, PROT_NONE, MAP_SHARED | MAP_FIXED, fd,
             LC_RING_HEADER_BYTES) == MAP_FAILED ||
        munlock(base, all) != 0 || mprotect(base, all, PROT_READ | PROT_WRITE) != 0) {
        int error = errno;
        munmap(base, all);
        return error;
    }
    ring->header = (struct lc_ring_header *)(void *)base;
    ring->data = base + LC_RING_HEADER_BYTES;
    ring->capacity = capacity;
    return 0;
}

int lc_ring_populate(void *start, size_t bytes)
{
    int saved = errno, error = EINTR;
    for (int i = 0; i < ALLOCATE_TRIES && (error == EINTR || error == EAGAIN); i++)
        error = madvise(start, bytes, MADV_POPULATE_WRITE) == 0 ? 0 : errno;
    if (error == EFAULT) /* where a store would be a SIGBUS */
        error = ENOSPC;
    errno = saved;
    return error;
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

int lc_hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void lc_boot_id(unsigned char boot[LC_ID_BYTES])
{
    char text[64] = "";
    int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC), digits = 0;
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    memset(boot, 0, LC_ID_BYTES);
    for (ssize_t i = 0; i < n && digits < LC_ID_HEX; i++) {
        int digit = lc_hex_digit(text[i]);
        if (digit < 0)
            continue; /* a hyphen */
        boot[digits / 2] = (unsigned char)(boot[digits / 2] << 4 | digit);
        digits++;
    }
}

static int fill_header(struct lc_ring *ring)
{
    struct lc_ring_header *h = ring->header;
    struct lc_ring_ack ack = {.number = 1, .stored = 1};
    if (getrandom(h->id, sizeof(h->id), 0) != (ssize_t)sizeof(h->id))
        return errno;
    memcpy(ring->key, h->id, sizeof(ring->key));
    memcpy(ack.producer, h->id, sizeof(ack.producer));
    lc_boot_id(h->boot);
    h->header_bytes = LC_RING_HEADER_BYTES;
    h->owner_pid = (uint32_t)getpid();
    h->capacity = ring->capacity;
    h->created_ms = timestamp_now_ms();
    atomic_store_explicit(&h->sent, 1, memory_order_relaxed);
    atomic_store_explicit(&h->head, lc_head_make(0, 1), memory_order_relaxed);
    lc_ring_publish(ring, &ack);
    memcpy(h->magic, MAGIC, sizeof(h->magic));
    return 0;
}

/* The pages of the header and of the first records, so that no store finds a full file system. */
static int reserve_first(struct lc_ring *ring)
{
    int error = ring->whole ? 0 : lc_ring_populate(ring->header, sizeof(struct lc_ring_header));
    return error != 0 || ring->whole ? error : lc_ring_populate(ring->data, LC_RING_FIRST);
}

static int create(struct lc_ring *ring, int fd, uint64_t capacity, bool whole)
{
    *ring = (struct lc_ring){.fd = -1, .whole = whole, .keep = KEEP_BYTES};
    uint64_t bytes = LC_RING_HEADER_BYTES + capacity;
    if (ftruncate(fd, (off_t)bytes) != 0)
        return errno;
    int error = whole ? lc_ring_allocate(fd, 0, 0, bytes) : 0;
    if (error != 0 || (error = map(ring, fd, capacity)) != 0)
        return error;
    if ((error = reserve_first(ring)) != 0 || (error = fill_header(ring)) != 0) {
        lc_ring_close(ring);
        return error;
    }
    ring->fd = fd;
    atomic_store_explicit(&ring->free_to, capacity, memory_order_relaxed);
    atomic_store_explicit(&ring->reserved_to, whole ? UINT64_MAX : LC_RING_FIRST,
                          memory_order_relaxed);
    return 0;
}

/* Whether less of it might do. */
static bool too_large(int error)
{
    return error == ENOMEM || error == EAGAIN || error == ENOSPC || error == EDQUOT ||
           error == EFBIG;
}

int lc_ring_create(struct lc_ring *ring, int fd, uint64_t capacity, bool whole)
{
    int error = EFBIG;
    *ring = (struct lc_ring){.fd = -1};
    for (capacity = permitted(capacity); capacity >= LC_RING_MIN_BYTES; capacity /= 2) {
        error = create(ring, fd, capacity, whole);
        if (error == EINVAL && !whole) { /* Linux before 5.14 cannot populate */
            whole = true;
            error = create(ring, fd, capacity, whole);
        }
        if (!too_large(error))
            break;
    }
    return error;
}

void lc_ring_disown(struct lc_ring *ring)
{
    mmap(ring->header, mapped_bytes(ring->capacity), PROT_READ | PROT_WRITE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
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

void lc_id_hex(const void *id, char hex[LC_ID_HEX + 1])
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *bytes = id;
    for (int i = 0; i < LC_ID_BYTES; i++) {
        hex[2 * i] = digits[bytes[i] >> 4];
        hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    hex[LC_ID_HEX] = '\0';
}
