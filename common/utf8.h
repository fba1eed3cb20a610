/* utf8.h: UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
 * All programs and the library use it. */
#ifndef COMMON_UTF8_H
#define COMMON_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"

/* Length of the longest valid prefix: n when all of it is valid. */
size_t utf8_valid_prefix(const char *s, size_t n);

static inline bool utf8_valid(const char *s, size_t n)
{
    return utf8_valid_prefix(s, n) == n;
}

/* The largest length up to `max` bytes, and up to n, that does not split a character of s. In
 * invalid text it is at least max - 3. Async-signal-safe. */
size_t utf8_cut(const char *s, size_t n, size_t max);

/* Appends s. Each maximal ill-formed part becomes one U+FFFD (Unicode 15, section 3.9,
 * "substitution of maximal subparts"; the WHATWG decoder does the same). */
void utf8_repair(struct buf *out, const char *s, size_t n);

#endif
