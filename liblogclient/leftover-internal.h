/* leftover-internal.h: the ring that a dead process left, or, to look at, one in use. It is read
 * with pread(2), never mapped: whatever the file system or the file's owner does, there is an error
 * and no signal (doc/protocol.md, section 6). */
#ifndef LC_LEFTOVER_INTERNAL_H
#define LC_LEFTOVER_INTERNAL_H

#include "leftover-state-internal.h"

/* Opens the file and begins to search it for its records; most files are done then. `name` is the
 * file's. Takes fd on success. Returns 0, EBADMSG when the file is no ring, ENOTSUP when it is one
 * of version 0.1.0, or an errno. */
int lc_leftover_open(struct lc_leftover *leftover, int fd, const char *name);

/* Goes on with the search for a few milliseconds, unless it has ended. Returns 0, or ENOMEM: call
 * it again. */
int lc_leftover_search(struct lc_leftover *leftover);

/* True when there is nothing in it: nothing to deliver, nothing to report. */
bool lc_leftover_is_empty(const struct lc_leftover *leftover);

/* Reads the record at *position. Its texts stay until the next call. LC_RING_BUSY: out of memory,
 * or not yet searched. LC_RING_DAMAGED: reading the file failed, or it was changed. */
enum lc_ring_read lc_leftover_read(struct lc_leftover *leftover, uint64_t *position,
                                   struct lc_record *record);

/* Stores in the file that all before `position` is done; the record there, or the next that there
 * would be, has this number. Returns 0 or an errno. */
int lc_leftover_acknowledge(struct lc_leftover *leftover, uint64_t position, uint64_t number,
                            uint64_t stored);

/* Stores in the file that its records are sent under another id from now on. Returns 0 or an
 * errno. */
int lc_leftover_rename_producer(struct lc_leftover *leftover, const uint64_t producer[2]);

/* Stores in the file that all below this number was part of a request. Returns 0 or an errno. */
int lc_leftover_note_sent(struct lc_leftover *leftover, uint64_t number);

/* Closes the file and frees what was allocated; the file stays. */
void lc_leftover_close(struct lc_leftover *leftover);

#endif
