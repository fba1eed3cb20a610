/* batch-internal.h: the body of one request, made from the records at the tail of a ring. For
 * sender.c, and for logsend --inspect. */
#ifndef LC_BATCH_INTERNAL_H
#define LC_BATCH_INTERNAL_H

#include "ring-read-internal.h"

/* What records come out of: a ring, or a leftover. */
struct lc_reader {
    enum lc_ring_read (*read)(void *from, uint64_t *position, struct lc_record *record);
    void *from;
};

struct lc_batch {
    struct buf body;  /* NDJSON */
    uint64_t *ends;   /* position behind each record; `limit` entries */
    uint64_t first;   /* number of the first record; the others have the numbers behind it */
    size_t count;     /* records in it */
    size_t limit;     /* records at most */
    size_t repaired;  /* records with bytes replaced by U+FFFD */
    struct buf clean; /* scratch: a repaired text */
};

/* False when out of memory. */
bool lc_batch_init(struct lc_batch *batch, size_t limit);
void lc_batch_free(struct lc_batch *batch);

/* Fills the batch from `position` on: at most max_records, not beyond position `stop`, until the
 * body has max_bytes, and only records with consecutive numbers. A repaired message is cut to
 * message_max bytes. Returns what ended it; LC_RING_RECORD for a limit, or a gap. With body.failed
 * set, out of memory, the batch must not be sent. */
enum lc_ring_read lc_batch_fill(struct lc_batch *batch, const struct lc_reader *reader,
                                uint64_t position, uint64_t stop, size_t max_records,
                                size_t max_bytes, size_t message_max);

#endif
