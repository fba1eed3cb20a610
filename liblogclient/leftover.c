/* leftover.c: reads the ring of a dead process, and notes in its file what was delivered. */
#include "leftover-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "leftover-scan-internal.h"

#define MAGIC        "LOGRING2"
#define MAGIC_BEFORE "LOGRING1"
#define SUFFIX       ".ring"
#define BUDGET_BYTES (1 << 20) /* of one step of the search */

/* ---- Opening ---- */

static ssize_t read_header(int fd, struct lc_ring_header *header)
{
    ssize_t n;
    do
        n = pread(fd, header, sizeof(*header), 0);
    while (n < 0 && errno == EINTR);
    return n;
}

static bool all_zero(const void *p, size_t n)
{
    const unsigned char *bytes = p;
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0;
}

static bool is_capacity(uint64_t bytes)
{
    return bytes >= LC_LEFTOVER_MIN_BYTES && bytes <= (uint64_t)LC_RING_MAX_BYTES &&
           (bytes & (bytes - 1)) == 0;
}

/* The id that the file is named after. */
static bool id_of_name(const char *name, unsigned char id[LC_ID_BYTES])
{
    memset(id, 0, LC_ID_BYTES);
    if (strlen(name) < LC_ID_HEX || strcmp(name + LC_ID_HEX, SUFFIX) != 0)
        return false;
    for (int i = 0; i < LC_ID_HEX; i++) {
        int digit = lc_hex_digit(name[i]);
        if (digit < 0)
            return false;
        id[i / 2] = (unsigned char)(id[i / 2] << 4 | digit);
    }
    return true;
}

/* The header never reached the disk, but the directory did. */
static bool rebuild(struct lc_leftover *l, const char *name, uint64_t size)
{
    struct lc_ring_header *h = &l->header;
    if (!all_zero(h, sizeof(*h)) || size < LC_RING_HEADER_BYTES ||
        !is_capacity(size - LC_RING_HEADER_BYTES) || !id_of_name(name, h->id))
        return false;
    memcpy(h->magic, MAGIC, sizeof(h->magic));
    h->header_bytes = LC_RING_HEADER_BYTES;
    h->capacity = size - LC_RING_HEADER_BYTES;
    l->ack = (struct lc_ring_ack){.number = 1, .stored = 1};
    memcpy(l->ack.producer, h->id, sizeof(l->ack.producer));
    l->rebuilt = true;
    return true;
}

static int understand(struct lc_leftover *l, const char *name)
{
    struct lc_ring_header *h = &l->header;
    struct stat st;
    ssize_t n = read_header(l->fd, h);
    if (n < 0 || fstat(l->fd, &st) != 0)
        return errno;
    if (n >= (ssize_t)sizeof(h->magic) && memcmp(h->magic, MAGIC_BEFORE, sizeof(h->magic)) == 0)
        return ENOTSUP;
    if (n < (ssize_t)sizeof(*h))
        return EBADMSG;
    uint64_t size = (uint64_t)st.st_size;
    if (rebuild(l, name, size))
        return 0;
    if (memcmp(h->magic, MAGIC, sizeof(h->magic)) != 0 || h->header_bytes != LC_RING_HEADER_BYTES ||
        !is_capacity(h->capacity) || size <= LC_RING_HEADER_BYTES ||
        !lc_ring_find_ack(h, &l->ack) || l->ack.generation == UINT64_MAX)
        return EBADMSG;
    l->damaged = size < LC_RING_HEADER_BYTES + h->capacity;
    return 0;
}

static void begin_search(struct lc_leftover *l)
{
    const struct lc_ring_header *h = &l->header;
    unsigned char boot[LC_ID_BYTES];
    uint64_t head = atomic_load_explicit(&h->head, memory_order_relaxed);
    lc_boot_id(boot);
    memcpy(l->key, h->id, sizeof(l->key));
    l->sent = atomic_load_explicit(&h->sent, memory_order_relaxed);
    l->at = l->ack.position;
    l->search_end = lc_head_position(head, l->at);
    l->same_boot = !all_zero(boot, sizeof(boot)) && memcmp(boot, h->boot, sizeof(boot)) == 0;
    if (l->same_boot && (l->search_end < l->at || l->search_end - l->at > h->capacity ||
                         l->at % sizeof(uint64_t) != 0)) {
        l->same_boot = false;
        l->damaged = true;
    }
    if (!l->same_boot) {
        l->at = 0;
        l->search_end = h->capacity;
        l->lost = true;
    }
}

int lc_leftover_open(struct lc_leftover *l, int fd, const char *name)
{
    *l = (struct lc_leftover){.fd = fd};
    int error = understand(l, name);
    if (error == 0) {
        begin_search(l);
        error = lc_leftover_search(l);
    }
    if (error != 0) {
        l->fd = -1; /* the caller's */
        lc_leftover_close(l);
    }
    return error;
}

int lc_leftover_search(struct lc_leftover *l)
{
    return l->searched ? 0 : lc_leftover_scan(l, BUDGET_BYTES);
}

bool lc_leftover_is_empty(const struct lc_leftover *l)
{
    return l->searched && l->tail == l->end && !l->damaged && (l->same_boot || l->missing == 0);
}

void lc_leftover_close(struct lc_leftover *l)
{
    if (l->fd >= 0)
        close(l->fd);
    free(l->runs);
    buf_free(&l->window);
    *l = (struct lc_leftover){.fd = -1};
}

/* ---- Reading ---- */

/* The run that holds the position, which is before the end. */
static struct lc_run *run_at(struct lc_leftover *l, uint64_t position)
{
    size_t low = 0, high = l->run_count;
    const struct lc_run *hint = &l->runs[l->run];
    if (position >= hint->base && position - hint->base < hint->bytes)
        return &l->runs[l->run];
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (l->runs[middle].base <= position)
            low = middle;
        else
            high = middle;
    }
    l->run = low;
    return &l->runs[low];
}

enum lc_ring_read lc_leftover_read(struct lc_leftover *l, uint64_t *position,
                                   struct lc_record *record)
{
    uint64_t bytes;
    if (!l->searched)
        return LC_RING_BUSY;
    if (*position >= l->end)
        return LC_RING_EMPTY;
    const struct lc_run *run = run_at(l, *position);
    uint64_t into = *position - run->base;
    enum lc_slot_kind kind =
        lc_leftover_look(l, run->place + into, run->bytes - into, record, &bytes);
    if (kind == LC_SLOT_UNKNOWN)
        return LC_RING_BUSY;
    if (kind != LC_SLOT_RECORD || record->number - run->number >= run->count)
        return LC_RING_DAMAGED;
    *position += bytes;
    return LC_RING_RECORD;
}

/* ---- What is noted in the file ---- */

static int write_at(int fd, const void *p, size_t n, size_t offset)
{
    ssize_t written;
    do
        written = pwrite(fd, p, n, (off_t)offset);
    while (written < 0 && errno == EINTR);
    return written == (ssize_t)n ? 0 : written < 0 ? errno : EIO;
}

static int publish(struct lc_leftover *l, struct lc_ring_ack ack)
{
    ack.generation = l->ack.generation + 1;
    size_t i = ack.generation & 1;
    lc_ack_slot_fill(&l->header.ack[i], &ack);
    l->ack = ack;
    if (!l->rebuilt)
        return write_at(l->fd, &l->header.ack[i], sizeof(l->header.ack[i]),
                        offsetof(struct lc_ring_header, ack) + i * sizeof(l->header.ack[i]));
    int error = write_at(l->fd, &l->header, sizeof(l->header), 0);
    l->rebuilt = error != 0;
    return error;
}

int lc_leftover_acknowledge(struct lc_leftover *l, uint64_t position, uint64_t number,
                            uint64_t stored)
{
    struct lc_ring_ack ack = l->ack;
    ack.number = number;
    ack.stored = stored;
    /* Elsewhere the number must do: records need not lie in their order. */
    if (l->same_boot && !l->damaged) {
        const struct lc_run *run = position < l->end ? run_at(l, position) : NULL;
        ack.position = run != NULL ? run->place + (position - run->base) : l->search_end;
    }
    l->tail = position;
    return publish(l, ack);
}

int lc_leftover_rename_producer(struct lc_leftover *l, const uint64_t producer[2])
{
    struct lc_ring_ack ack = l->ack;
    memcpy(ack.producer, producer, sizeof(ack.producer));
    return publish(l, ack);
}

int lc_leftover_note_sent(struct lc_leftover *l, uint64_t number)
{
    if (!l->same_boot || number == l->sent)
        return 0;
    l->sent = number;
    return write_at(l->fd, &number, sizeof(number), offsetof(struct lc_ring_header, sent));
}
