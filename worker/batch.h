/* batch.h: the entries of one read, made ready to be committed: lines for the log, letters for the
 * dead, ids to acknowledge. It copies all that it needs from the reply. */
#ifndef WORKER_BATCH_H
#define WORKER_BATCH_H

#include "common/buf.h"
#include "worker/config.h"
#include "worker/stats.h"
#include "worker/stream-id.h"

struct redis_reply;

struct stream_batch {
    struct buf lines; /* for the log */
    struct buf ids;   /* to delete and acknowledge after the commit, as RESP arguments */
    size_t id_count;
    struct buf dead;      /* commands, each of which moves one malformed entry */
    struct buf dead_ends; /* size_t: where in `dead` each command ends */
    size_t dead_count;
    size_t dead_moved;                         /* how many of them Redis has confirmed */
    struct stream_id last;                     /* the last entry of the read */
    struct stream_id last_fresh;               /* the last one that was not committed before */
    bool fresh;                                /* there is such a one */
    bool replayed;                             /* read from the pending entries */
    uint64_t read, written, filtered, skipped; /* what stats.h counts, for this batch */
    struct buf scratch;
};

/* Fills the batch from the entries of a reply; those up to `committed` are skipped. False: out of
 * memory, or a reply that makes no sense, which *why says. */
bool batch_read(struct stream_batch *b, const struct config *config,
                const struct redis_reply *entries, struct stream_id committed, const char **why);

/* The command for the next dead letter. */
struct span batch_next_dead(const struct stream_batch *b);

void batch_free(struct stream_batch *b);

#endif
