/* batch.h: the entries of one read, made ready for the commit: lines for the log, dead letters, ids
 * to acknowledge. The consumer fills it, the committer works it off. It copies what it needs from
 * the reply. */
#ifndef WORKER_BATCH_H
#define WORKER_BATCH_H

#include "common/buf.h"
#include "worker/config.h"
#include "worker/stream-id.h"

struct redis_reply;

/* All zero at first; a batch that was used may be filled again. */
struct stream_batch {
    struct buf lines; /* for the log */
    struct buf ids;   /* to delete and acknowledge after the commit, as RESP arguments */
    size_t id_count;
    struct buf dead;   /* commands; each moves one malformed entry */
    struct buf places; /* where they lie in it; see batch_next_dead() */
    size_t dead_count;
    size_t dead_moved;                         /* how many of them Redis has confirmed */
    struct stream_id last;                     /* the last entry of the read */
    struct stream_id last_fresh;               /* the last one that was not committed before */
    bool fresh;                                /* there is such a one */
    bool replayed;                             /* read from the pending entries */
    uint64_t read, written, filtered, skipped; /* what stats.h counts, for this batch */
    struct buf scratch;
};

/* The next malformed entry to move; the spans are borrowed from the batch. */
struct dead_letter {
    struct span command; /* for Redis */
    struct span reason;  /* a sentence in UTF-8 */
    struct stream_id id;
};

/* Fills the batch from the entries of a reply to XREADGROUP; it skips those up to `committed`.
 * False: out of memory, or a reply that makes no sense, which *why says. */
bool batch_read(struct stream_batch *b, const struct config *config,
                const struct redis_reply *entries, struct stream_id committed, const char **why);

/* Only while dead_moved < dead_count. */
struct dead_letter batch_next_dead(const struct stream_batch *b);

void batch_free(struct stream_batch *b);

#endif
