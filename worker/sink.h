/* sink.h: app.log and its state file, with the exact commit of doc/protocol.md, section 5.
 *
 * Every call that touches the disk may fail, for want of space for example; it then returns false
 * with errno, and is called again with the same arguments until it returns true. It goes on where
 * it stopped. */
#ifndef WORKER_SINK_H
#define WORKER_SINK_H

#include <limits.h>

#include "common/buf.h"
#include "worker/state.h"

struct sink {
    const char *path; /* of the log; borrowed */
    char state_path[PATH_MAX];
    bool sync_batch;    /* fsync log and state in every commit */
    int fd;             /* the log, for appending */
    uint64_t dev, ino;  /* of fd */
    struct state state; /* what is on disk */
    char boot[STATE_TOKEN_LEN + 1];

    struct stream_id id;               /* largest id that is handled; 0-0 at first */
    char lineage[STATE_TOKEN_LEN + 1]; /* of id; empty: none is known yet */
    int64_t base;   /* size of the log without what the batch in hand has added since `done` */
    size_t done;    /* bytes of the batch in hand that lie before base */
    size_t written; /* bytes of the batch in hand that lie after base */
    bool noted; /* the state file says that base bytes of this very file are committed: appending
                   may begin */

    int tail_fd; /* a log with a tail that was never committed, until sink_settle() decides; else
                    -1 */
    int64_t tail_size; /* bytes of that tail */
    int lost;          /* errno: why the file that may have such a tail cannot be seen; 0: it can,
                          or sink_settle() has decided */
};

/* Locks and reads the state, opens the log and says what it found. False: err holds a sentence. */
bool sink_open(struct sink *w, const char *path, bool sync_batch, char *err, size_t errlen);

/* Says which data set the following ids belong to. Returns false when it is not the one of the
 * state: then nothing is committed of it yet, and an uncommitted tail stays. Only between batches.
 */
bool sink_lineage(struct sink *w, const char *lineage);

/* Decides about the uncommitted tail of an earlier run, once, before the first batch: with `again`,
 * Redis has delivered the entries behind it again, so it is cut; without, it stays, since nobody
 * has its lines but the log. */
bool sink_settle(struct sink *w, bool again);

/* Appends whole lines and commits them together with id. */
bool sink_commit(struct sink *w, const struct buf *lines, struct stream_id id);

/* Turns to the file that has the path now; a batch in hand begins anew there. False: the old one
 * stays in use. */
bool sink_reopen(struct sink *w);

/* Bytes of the log that are committed. */
int64_t sink_offset(const struct sink *s);

/* Takes what an unfinished batch has appended off the log. */
bool sink_rollback(struct sink *w);

/* fdatasync(2) of log and state. */
bool sink_sync(struct sink *w);

void sink_close(struct sink *w);

#endif
