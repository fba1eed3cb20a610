/* leftover-scan.c: finds the records in a leftover's file. */
#include "leftover-scan-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define WINDOW_BYTES (128 * 1024) /* is read at once */
#define PAGE_BYTES   4096
#define RUNS_MAX     ((size_t)1 << 20) /* what no crash leaves */
#define WORK_FACTOR  16                /* times the capacity: so much work, and no more */
#define WORK_MIN     ((uint64_t)64 << 20)

/* ---- The file ---- */

/* What cannot be read is zeros, and damage. */
static void read_part(struct lc_leftover *l, char *to, uint64_t n, uint64_t offset)
{
    while (n > 0) {
        ssize_t got = pread(l->fd, to, (size_t)n, (off_t)(LC_RING_HEADER_BYTES + offset));
        uint64_t done = (uint64_t)got;
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            uint64_t page = PAGE_BYTES - offset % PAGE_BYTES;
            done = got < 0 && page < n ? page : n;
            memset(to, 0, (size_t)done);
            l->damaged = true;
        }
        to += done;
        offset += done;
        n -= done;
    }
}

static bool refill(struct lc_leftover *l, uint64_t offset, uint64_t n)
{
    uint64_t capacity = l->header.capacity;
    uint64_t want = n + WINDOW_BYTES < capacity ? n + WINDOW_BYTES : capacity;
    uint64_t first = capacity - offset < want ? capacity - offset : want;
    buf_clear(&l->window);
    if (!buf_reserve(&l->window, (size_t)want))
        return false;
    read_part(l, l->window.data, first, offset);
    read_part(l, l->window.data + first, want - first, 0);
    l->window.len = (size_t)want;
    l->window_offset = offset;
    l->work += want;
    return true;
}

/* n bytes, at most the capacity, at a multiple of 8. NULL when out of memory. */
static const char *fetch(struct lc_leftover *l, uint64_t offset, uint64_t n)
{
    uint64_t into = (offset - l->window_offset) & (l->header.capacity - 1);
    if (into + n <= l->window.len)
        return l->window.data + into;
    return refill(l, offset, n) ? l->window.data : NULL;
}

/* ---- Slots ---- */

/* One line in the body of a request. */
static bool can_be_sent(const struct lc_record *r)
{
    const char *text = r->message.p;
    size_t n = r->message.n;
    if (r->number == 0)
        return false;
    return (r->flags & LC_FLAG_JSON) == 0 ||
           (n > 0 && text[0] == '{' && memchr(text, '\n', n) == NULL);
}

static enum lc_slot_kind look_closer(struct lc_leftover *l, uint64_t offset, const char *p,
                                     uint64_t bytes, struct lc_record *record)
{
    const struct lc_slot *slot = (const struct lc_slot *)(const void *)p;
    uint64_t header = atomic_load_explicit(&slot->header, memory_order_relaxed);
    uint64_t pad = slot->sizes >> LC_SIZES_PAD_LOW;
    if (bytes < sizeof(*slot) + (slot->sizes & LC_SIZES_SERVICE) + pad)
        return LC_SLOT_STRANGE;
    size_t n = (size_t)(bytes - sizeof(*slot) - pad);
    if ((slot->sizes & LC_SIZES_TEXT) != 0)
        l->work += bytes;
    if (slot->check != lc_slot_check(l->key, offset, header, slot, slot->text, n))
        return LC_SLOT_STRANGE;
    return lc_slot_record(slot, header, slot->text, record) && can_be_sent(record) ? LC_SLOT_RECORD
                                                                                   : LC_SLOT_POISON;
}

enum lc_slot_kind lc_leftover_look(struct lc_leftover *l, uint64_t place, uint64_t room,
                                   struct lc_record *record, uint64_t *bytes)
{
    uint64_t offset = place & (l->header.capacity - 1), header;
    const char *p = fetch(l, offset, sizeof(header));
    if (p == NULL)
        return LC_SLOT_UNKNOWN;
    memcpy(&header, p, sizeof(header));
    uint64_t state = header & LC_SLOT_STATE_MASK;
    *bytes = (header & LC_SLOT_UNITS_MASK) << 3;
    if (header == 0)
        return LC_SLOT_FREE;
    if (*bytes < sizeof(struct lc_slot) || *bytes > room)
        return LC_SLOT_STRANGE;
    if (state == LC_SLOT_RESERVED) {
        record->number = header >> LC_SLOT_NUMBER_LOW;
        return LC_SLOT_PASSED;
    }
    if (state != LC_SLOT_COMMITTED)
        return LC_SLOT_STRANGE;
    p = fetch(l, offset, *bytes);
    return p == NULL ? LC_SLOT_UNKNOWN : look_closer(l, offset, p, *bytes, record);
}

/* ---- Runs ---- */

static int new_run(struct lc_leftover *l, const struct lc_run *run)
{
    if (l->run_count == l->run_room) {
        size_t room = l->run_room == 0 ? 8 : 2 * l->run_room;
        struct lc_run *runs = reallocarray(l->runs, room, sizeof(*runs));
        if (runs == NULL)
            return ENOMEM;
        l->runs = runs;
        l->run_room = room;
    }
    l->runs[l->run_count++] = *run;
    return 0;
}

static int add(struct lc_leftover *l, uint64_t place, uint64_t number, uint64_t bytes)
{
    struct lc_run *last = l->run_count > 0 ? &l->runs[l->run_count - 1] : NULL;
    if (number < l->ack.number)
        return 0;
    if (last != NULL && last->number + last->count == number &&
        last->place + last->bytes == place) {
        last->count++;
        last->bytes += bytes;
        return 0;
    }
    if (l->run_count == RUNS_MAX) {
        l->damaged = true;
        return 0;
    }
    struct lc_run run = {.number = number, .count = 1, .place = place, .bytes = bytes};
    return new_run(l, &run);
}

static int by_number(const void *a, const void *b)
{
    const struct lc_run *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

/* Takes out what no writer does: two records of one number, or, where all is of one moment, numbers
 * that do not ascend. */
static void sort(struct lc_leftover *l)
{
    size_t kept = 0;
    for (size_t i = 1; i < l->run_count && l->same_boot; i++)
        if (l->runs[i].number < l->runs[i - 1].number)
            l->damaged = true;
    if (l->run_count > 0)
        qsort(l->runs, l->run_count, sizeof(*l->runs), by_number);
    for (size_t i = 0; i < l->run_count; i++) {
        const struct lc_run *before = kept > 0 ? &l->runs[kept - 1] : NULL;
        if (before != NULL && l->runs[i].number < before->number + before->count)
            l->damaged = true;
        else
            l->runs[kept++] = l->runs[i];
    }
    l->run_count = kept;
}

static void finish(struct lc_leftover *l)
{
    uint64_t next = l->ack.number;
    sort(l);
    for (size_t i = 0; i < l->run_count; i++) {
        struct lc_run *run = &l->runs[i];
        run->base = l->end;
        l->end += run->bytes;
        l->missing += run->number - next;
        next = run->number + run->count;
    }
    /* The header may be of a later moment than the data. */
    uint64_t head = atomic_load_explicit(&l->header.head, memory_order_relaxed);
    uint64_t behind = lc_head_number(head, l->ack.number);
    if (head != 0 && behind > next && behind - next <= l->header.capacity / sizeof(struct lc_slot))
        l->missing += behind - next;
    l->searched = true;
}

/* ---- The search ---- */

static void pass_zeros(struct lc_leftover *l)
{
    static const uint64_t zero = 0;
    uint64_t mask = l->header.capacity - 1, into = ((l->at & mask) - l->window_offset) & mask;
    while (l->at < l->search_end && into < l->window.len &&
           memcmp(l->window.data + into, &zero, sizeof(zero)) == 0) {
        l->at += sizeof(zero);
        into += sizeof(zero);
    }
}

/* Whether a writer that may still lie in the ring was given this number: few words that are
 * something else hold one. */
static bool was_given(const struct lc_leftover *l, uint64_t number)
{
    uint64_t head = atomic_load_explicit(&l->header.head, memory_order_relaxed);
    uint64_t next = lc_head_number(head, l->ack.number);
    return number < next && next - number <= l->header.capacity / sizeof(struct lc_slot);
}

/* In a file of one moment, lengths lead from record to record, until they lead to something
 * strange. Then, and in any other file, only a check says where a record begins. */
static int step(struct lc_leftover *l)
{
    struct lc_record record;
    uint64_t bytes, room = l->same_boot ? l->search_end - l->at : l->header.capacity;
    enum lc_slot_kind kind = lc_leftover_look(l, l->at, room, &record, &bytes);
    if (kind == LC_SLOT_PASSED && (l->lost || !was_given(l, record.number)))
        kind = LC_SLOT_STRANGE;
    if (kind == LC_SLOT_UNKNOWN ||
        (kind == LC_SLOT_RECORD && add(l, l->at, record.number, bytes) != 0))
        return ENOMEM;
    if (kind == LC_SLOT_FREE) {
        pass_zeros(l);
        return 0;
    }
    l->at += kind == LC_SLOT_STRANGE ? sizeof(uint64_t) : bytes;
    l->damaged = l->damaged || kind == LC_SLOT_POISON || (kind == LC_SLOT_STRANGE && l->same_boot);
    l->lost = !l->same_boot || kind == LC_SLOT_STRANGE || (kind != LC_SLOT_RECORD && l->lost);
    return 0;
}

int lc_leftover_scan(struct lc_leftover *l, uint64_t budget_bytes)
{
    uint64_t most = WORK_FACTOR * l->header.capacity;
    uint64_t pause = l->work + budget_bytes;
    most = most < WORK_MIN ? WORK_MIN : most;
    while (l->at < l->search_end && l->work < pause) {
        if (l->work > most) {
            l->damaged = true;
            break;
        }
        if (step(l) != 0)
            return ENOMEM;
    }
    if (!l->searched && (l->at >= l->search_end || l->work > most))
        finish(l);
    return 0;
}
