/* reply.h: reads what Redis answers. */
#ifndef COMMON_REDIS_REPLY_H
#define COMMON_REDIS_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

struct redis_reply;

enum redis_reply_type {
    REPLY_STRING,
    REPLY_STATUS,
    REPLY_ERROR,
    REPLY_INTEGER,
    REPLY_NIL,
    REPLY_ARRAY,
};

/* A reply, and all that comes out of it, is borrowed until the callback returns. */
enum redis_reply_type reply_type(const struct redis_reply *r);
struct span reply_span(const struct redis_reply *r); /* STRING, STATUS, ERROR; else empty */
int64_t reply_integer(const struct redis_reply *r);  /* INTEGER; else 0 */
size_t reply_count(const struct redis_reply *r);     /* ARRAY; else 0 */
const struct redis_reply *reply_at(const struct redis_reply *r, size_t i); /* i < reply_count() */

/* Whether it is an ERROR whose first word is `code`, such as "NOSCRIPT". */
bool reply_is_error(const struct redis_reply *r, const char *code);

#endif
