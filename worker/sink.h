/* sink.h: app.log and its state file, with the exact commit of doc/protocol.md, section 5. For the
 * committer; consumer, status and main ask it what is committed.
 *
 * A call that touches the disk may fail, for want of space for example. It then returns false with
 * errno, and the caller repeats it with the same arguments until it returns true. It goes on where
 * it stopped. */
#ifndef WORKER_SINK_H
#define WORKER_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "worker/stream-id.h"

struct sink;

/* Locks and reads the state, opens and locks the log, and says what it found. The path is borrowed
 * for the sink's life. With sync_batch every commit fsyncs log and state. NULL: err holds a
 * sentence. */
struct sink *sink_open(const char *path, bool sync_batch, char *err, size_t errlen);

/* Largest id that is handled in this lineage; 0-0 at first. */
struct stream_id sink_id(const struct sink *s);

/* Of that id; borrowed. "": none is known yet. */
const char *sink_lineage(const struct sink *s);

/* Committed size of the log in bytes. */
int64_t sink_offset(const struct sink *s);

/* Says which data set the following ids belong to. False: it is not the one of the state; nothing
 * of it is committed yet, and an uncommitted tail stays. Only between batches. */
bool sink_adopt(struct sink *s, const char *lineage);

/* Decides about the uncommitted tail of an earlier run, once, before the first batch. With `again`
 * Redis has delivered its entries again, so it is cut. Without it stays, since nobody has its lines
 * but the log. */
bool sink_settle(struct sink *s, bool again);

/* Appends whole lines, and commits them together with id. */
bool sink_commit(struct sink *s, const struct buf *lines, struct stream_id id);

/* Turns to the file that has the path now. A batch in hand begins anew there. False: the old one
 * stays in use. EBUSY: another worker has locked the new one. */
bool sink_reopen(struct sink *s);

/* Takes off the log what an unfinished batch has appended. */
bool sink_rollback(struct sink *s);

/* fdatasync(2) of log and state. */
bool sink_sync(struct sink *s);

/* Ends the locks. NULL is ignored. */
void sink_close(struct sink *s);

#endif
