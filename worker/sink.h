/* sink.h: app.log and its state file, with the order of a batch of doc/protocol.md, section 5. The
 * committer writes with it, a batch asks it what stands in the log, the lease asks for its token.
 *
 * A call that touches the disk may fail, for want of space for example. It then returns false with
 * errno, and the caller repeats it with the same arguments until it returns true. It goes on where
 * it stopped. */
#ifndef WORKER_SINK_H
#define WORKER_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "worker/place.h"
#include "worker/stream-id.h"

struct sink;

/* Locks and reads the state, opens and locks the log, and says what it found. The path is borrowed
 * for the sink's life. With sync_batch state and log are fsynced for every batch. At most look_back
 * bytes of the log are compared. NULL: err holds a sentence. */
struct sink *sink_open(const char *path, bool sync_batch, int64_t look_back, char *err,
                       size_t errlen);

/* Which log this is; 32 hexadecimal digits, borrowed. */
const char *sink_token(const struct sink *s);

/* Makes another one, since the log has a twin. */
bool sink_new_token(struct sink *s);

/* The largest id that the state knows of; 0-0 at first. */
struct stream_id sink_last(const struct sink *s);

/* Whether a batch is in hand, which may not be committed; *first is its first entry, *last its last
 * one. */
bool sink_in_hand(const struct sink *s, struct stream_id *first, struct stream_id *last);

/* Size of the log in bytes, without the part of a batch that is being written. */
int64_t sink_offset(const struct sink *s);

/* The stream was opened: forgets what was being written, and compares from now on with what the log
 * and its state hold now. `first` is the stream's first entry, NULL when it is empty; `last` the
 * last id that it has given out. */
bool sink_begin(struct sink *s, const struct stream_id *first, struct stream_id last);

/* Other logs have the lines of these notes (prints.h). When they have all of the batch in hand, it
 * is cut off this log. Then none is in hand, and its entries are new. */
bool sink_surrender(struct sink *s, struct span notes);

enum entry_class sink_class(const struct sink *s, struct stream_id id);

/* Whether the entry's line, with its line feed, stood in the log. Each line is found once. Not for
 * ENTRY_NEW. */
enum line_found sink_find(struct sink *s, enum entry_class class, const char *line, size_t n);

struct sink_batch {
    const struct buf *lines; /* whole ones, at least one; borrowed until the call returns true */
    enum entry_class class;
    struct stream_id first, last; /* its entries */
};

/* Appends the lines of a batch. Another one may follow only after sink_confirm(), or
 * sink_begin(). */
bool sink_write(struct sink *s, const struct sink_batch *b);

/* All entries up to this one are committed. */
void sink_confirm(struct sink *s, struct stream_id last);

/* Turns to the file that has the path now. A batch that is being written for the first time begins
 * anew there; one that may have lines already is finished first. False: the old one stays in use.
 * EBUSY: another worker has locked the new one. */
bool sink_reopen(struct sink *s);

/* fdatasync(2) of log and state. */
bool sink_sync(struct sink *s);

/* Ends the locks. NULL is ignored. */
void sink_close(struct sink *s);

#endif
