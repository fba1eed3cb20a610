/* record.h: a log record, its fields with their limits, and its line in app.log. logd, logworker
 * and the library use it. doc/protocol.md, sections 1, 3.1 and 4, has the rules. */
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

/* In the order in which logd writes them into an entry of the stream. All but the last are members
 * of the JSON object that a client sends, too. */
enum record_field {
    FIELD_SERVICE,
    FIELD_LEVEL,
    FIELD_MESSAGE,
    FIELD_TIMESTAMP, /* a client may leave it out */
    FIELD_FIELDS,    /* all other members; an entry without any leaves it out */
    FIELD_COUNT,
    FIELD_MEMBERS = FIELD_FIELDS,
};

/* What is known of each: its name, also NUL-terminated, and what a client has to send: "it must be
 * a string". */
struct record_rule {
    struct span name;
    const char *form;
};
extern const struct record_rule record_rules[FIELD_COUNT];

/* The field of this name, or FIELD_COUNT. */
enum record_field record_find(struct span name);

/* Sets a member. NULL when the value is right, else what is wrong with it: a clause such as "is
 * empty", static; the member is undefined then. Of a message nothing is checked. */
const char *record_set(struct record *r, enum record_field member, struct span value);

/* NULL when s may be a service name, else what is wrong with it, likewise. */
const char *record_service_error(const char *s, size_t n);

/* The same for text that need not be UTF-8 yet. Async-signal-safe. */
const char *record_service_form_error(const char *s, size_t n);

/* Appends the line of app.log, '\n' included. The record is valid. */
void record_write_line(struct buf *out, const struct record *r);

#endif
