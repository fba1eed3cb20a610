/* jsontext.h: writes JSON text. */
#ifndef COMMON_JSONTEXT_H
#define COMMON_JSONTEXT_H

#include "common/buf.h"

/* Appends s as a JSON string with its quotes, escaped as ECMAScript's JSON.stringify does
 * (doc/protocol.md, section 4). `s` is valid UTF-8; NUL bytes are allowed. */
void jsontext_string(struct buf *out, const char *s, size_t n);

#endif
