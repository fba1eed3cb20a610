/* entry.h: makes a stream entry a record, or says why it is malformed (doc/protocol.md, section
 * 3.1). For batch.c. */
#ifndef WORKER_ENTRY_H
#define WORKER_ENTRY_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/record.h"

#define ENTRY_SPANS_MAX  (2 * FIELD_COUNT) /* names and values of a well-formed entry */
#define ENTRY_REASON_MAX 256               /* with its NUL */

/* `spans` are names and values in turn. The entry has `count` of them; only the first
 * ENTRY_SPANS_MAX need be there. `scratch` takes what has to be rewritten. *r borrows both. The
 * message has no limit: logd has accepted it. False: `reason` is a sentence in valid UTF-8. */
bool entry_read(struct record *r, const struct span *spans, size_t count, struct buf *scratch,
                char reason[ENTRY_REASON_MAX]);

#endif
