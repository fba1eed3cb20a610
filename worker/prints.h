/* prints.h: notes of entries and their lines, by which logs tell each other what they have
 * (doc/protocol.md, section 5.4). Batches note them, the sink compares. */
#ifndef WORKER_PRINTS_H
#define WORKER_PRINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "worker/stream-id.h"

/* Appends a note of the entry and its line, with its line feed. */
void prints_add(struct buf *notes, struct stream_id id, const char *line, size_t n);

/* What the notes are compared with. */
struct prints_batch {
    struct stream_id first, last; /* notes of other entries do not count */
    int fd;                       /* the lines are those of this file, */
    int64_t from, size;           /* from here to there */
};

/* *all: whether there are notes of the batch's entries, and each whole line is among them, as often
 * as it is there. False: errno. */
bool prints_cover(struct span notes, const struct prints_batch *b, bool *all);

#endif
