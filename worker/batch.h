/* batch.h: the entries of one read, made ready for the commit: lines for the log, dead letters,
 * counts. The consumer fills it, the committer works it off. It copies what it needs from the
 * reply. */
#ifndef WORKER_BATCH_H
#define WORKER_BATCH_H

#include "worker/config.h"
#include "worker/sink.h"

struct redis_reply;

/* All zero at first; a batch that was used may be filled again. */
struct stream_batch {
    enum entry_class class;       /* of all its entries */
    struct stream_id first, last; /* its entries */
    struct buf lines;             /* to append to the log */
    struct buf dead;              /* id and reason of each malformed entry, as RESP arguments */
    size_t dead_count;
    bool noting;       /* whether to make notes; set before batch_read() */
    struct buf notes;  /* of the lines (prints.h), also of those that stand in the log already */
    struct buf told;   /* the same for people: a NUL-terminated sentence each */
    uint64_t read;     /* entries */
    uint64_t lined;    /* lines to append */
    uint64_t found;    /* records that stand in the log already */
    uint64_t unplaced; /* lines to append that the log may have, farther back */
    uint64_t filtered; /* records below the level */
    size_t heaviest;   /* bytes of the heaviest entry */
    struct buf scratch;
};

/* Fills the batch from the entries of a reply to XREAD or XRANGE; asks the sink which of them stand
 * in the log. It ends where the class of the entries changes: `last` says how far it came. False:
 * out of memory, the log cannot be read, or a reply that makes no sense, which *why says; static,
 * or valid until the next call. */
bool batch_read(struct stream_batch *b, const struct config *config, struct sink *sink,
                const struct redis_reply *entries, const char **why);

void batch_free(struct stream_batch *b);

#endif
