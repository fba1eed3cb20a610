/* jsontext.h: strings and white space of JSON text. logd, logworker and the library use it. */
#ifndef COMMON_JSONTEXT_H
#define COMMON_JSONTEXT_H

#include <stdbool.h>

#include "common/buf.h"

/* Insignificant white space (RFC 8259, section 2). */
static inline bool jsontext_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static inline const char *jsontext_skip_space(const char *at, const char *end)
{
    while (at < end && jsontext_is_space(*at))
        at++;
    return at;
}

/* How many bytes from s on need no escape in a JSON string: up to the first control character,
 * quote or backslash; n when there is none. */
size_t jsontext_plain(const char *s, size_t n);

/* Appends s as a JSON string with its quotes. Escapes as ECMAScript's JSON.stringify does
 * (doc/protocol.md, section 4). `s` is valid UTF-8 and may hold NUL bytes. */
void jsontext_string(struct buf *out, const char *s, size_t n);

#endif
