/* timestamp.h: RFC 3339 timestamps as milliseconds since 1970-01-01T00:00:00Z, and the clocks. All
 * programs and the library use it. */
#ifndef COMMON_TIMESTAMP_H
#define COMMON_TIMESTAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TIMESTAMP_LEN    24                /* "2026-11-24T02:35:02.123Z" */
#define TIMESTAMP_MIN_MS (-62167219200000) /* 0000-01-01T00:00:00.000Z */
#define TIMESTAMP_MAX_MS 253402300799999   /* 9999-12-31T23:59:59.999Z */

/* Reads an RFC 3339 date-time (doc/protocol.md, section 1). False when it is none; *ms is kept. */
bool timestamp_parse(const char *s, size_t n, int64_t *ms);

/* Writes TIMESTAMP_LEN bytes, no NUL. A time before TIMESTAMP_MIN_MS or after TIMESTAMP_MAX_MS is
 * written as that. */
void timestamp_format(int64_t ms, char out[TIMESTAMP_LEN]);

/* The wall clock, in milliseconds. Async-signal-safe. */
int64_t timestamp_now_ms(void);

/* The monotonic clock, in milliseconds: for deadlines. Async-signal-safe. */
int64_t monotonic_now_ms(void);

#endif
