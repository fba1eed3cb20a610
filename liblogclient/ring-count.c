/* ring-count.c: counts the records that stand in a ring while others write and read it.
 *
 * It reads the file, not the mapping: the sender may give back the blocks of what is being read. To
 * touch such a page would allocate it, or, on a full file system, be a SIGBUS. What was read counts
 * when the acknowledged position is still no further: before that moves, nothing behind it is
 * cleaned or written anew. */
#include "ring-count-internal.h"

#include <errno.h>
#include <unistd.h>

#define WINDOW_WORDS 256 /* few, since a signal handler's stack may be small */
/* A header that is reserved and not stored yet, or a hole that the sender is about to pass over,
 * is there for some instructions; for longer where a thread was interrupted. */
#define TRIES_MAX 1000

struct walk {
    const struct lc_ring *ring;
    uint64_t at;    /* the next record */
    uint64_t count; /* of the records before it */
};

/* Goes on at the acknowledged position when that is further: what was counted is gone. */
static bool catch_up(struct walk *w)
{
    struct lc_ring_ack ack;
    if (!lc_ring_find_ack(w->ring->header, &ack))
        return false;
    if (ack.position > w->at) {
        w->at = ack.position;
        w->count = 0;
    }
    return true;
}

/* Whether all from w->at on is still as it was when it was read. That was before: the kernel drops
 * its reference to a page, a full barrier, after it has copied it. */
static bool unchanged(const struct walk *w)
{
    struct lc_ring_ack ack;
    return lc_ring_find_ack(w->ring->header, &ack) && ack.position <= w->at;
}

/* Counts the whole records in the words that stand at w->at, up to what is none. */
static void count_in(struct walk *w, const uint64_t *words, size_t n)
{
    size_t i = 0;
    while (i < n && (words[i] & ~(uint64_t)LC_SLOT_LENGTH) == LC_SLOT_COMMITTED) {
        uint64_t bytes = words[i] & LC_SLOT_LENGTH;
        if (bytes < sizeof(struct lc_slot) || (bytes & 7) != 0)
            break;
        w->at += bytes;
        w->count++;
        i += bytes / sizeof(*words);
    }
}

/* Counts on as far as one look into the file goes. False when there was nothing to be counted. */
static bool step(struct walk *w, uint64_t head)
{
    uint64_t words[WINDOW_WORDS], bytes = sizeof(words), before = w->at;
    uint64_t offset = w->at & (w->ring->capacity - 1);
    if (bytes > head - w->at)
        bytes = head - w->at;
    ssize_t n = pread(w->ring->fd, words, bytes, (off_t)(LC_RING_HEADER_BYTES + offset));
    if (n > 0 && unchanged(w))
        count_in(w, words, (size_t)n / sizeof(*words));
    return w->at > before;
}

uint64_t lc_ring_count(const struct lc_ring *ring)
{
    struct walk w = {.ring = ring};
    uint64_t head = lc_ring_head(ring);
    int saved = errno, tries = 0;
    while (tries < TRIES_MAX) {
        bool found = catch_up(&w);
        if (found && w.at >= head)
            break;
        tries = found && step(&w, head) ? 0 : tries + 1;
    }
    errno = saved;
    return w.count;
}
