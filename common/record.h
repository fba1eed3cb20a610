/* record.h: a log record, its limits, and its line in app.log. The contract is doc/protocol.md,
 * sections 1 and 4. */
#ifndef COMMON_RECORD_H
#define COMMON_RECORD_H

#include <stdint.h>

#include "common/buf.h"
#include "common/level.h"

#define RECORD_SERVICE_MAX         128   /* bytes */
#define RECORD_MESSAGE_MAX_DEFAULT 65536 /* bytes */

struct record {
    struct span service; /* borrowed, like all spans here; 1 to RECORD_SERVICE_MAX bytes */
    struct span message; /* valid UTF-8 */
    struct span fields;  /* compact JSON object of the other members; n is 0 when there are none */
    int64_t timestamp_ms;
    enum level level;
};

/* NULL when s may be a service name, else what is wrong with it: a clause such as "is empty",
 * static. */
const char *record_service_error(const char *s, size_t n);

/* The same for text that need not be UTF-8 yet. Async-signal-safe. */
const char *record_service_form_error(const char *s, size_t n);

/* Appends the line of app.log, '\n' included. The record is valid. */
void record_write_line(struct buf *out, const struct record *r);

#endif
