/* entry.h: a stream entry becomes a record, or the reason why it is malformed (doc/protocol.md,
 * section 3.1). */
#ifndef WORKER_ENTRY_H
#define WORKER_ENTRY_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/record.h"

#define ENTRY_SPANS_MAX  (2 * FIELD_COUNT) /* names and values of a well-formed entry */
#define ENTRY_REASON_MAX 256               /* with its NUL */

/* `spans` are names and values in turn, borrowed by *r; `count` is how many the entry has, of which
 * only the first ENTRY_SPANS_MAX need be there. `scratch` holds what had to be rewritten and is
 * borrowed by *r, too. False: `reason` is a sentence in valid UTF-8. */
bool entry_read(struct record *r, const struct span *spans, size_t count, size_t message_max,
                struct buf *scratch, char reason[ENTRY_REASON_MAX]);

#endif
