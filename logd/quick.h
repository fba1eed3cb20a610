/* quick.h: reads the records that nearly all clients send: flat objects of the four members, with
 * string values. It builds no tree. parse.c uses it.
 *
 * It accepts, or says that it does not know. What it accepts, jansson accepts with the same result:
 * tests/fuzz compares the two. parse.c finds and words all errors. */
#ifndef LOGD_QUICK_H
#define LOGD_QUICK_H

#include <stddef.h>
#include <stdint.h>

#include "common/record.h"

/* Reads the object that starts at text[0], which is '{'. Returns its length in bytes and fills *r.
 * The spans of *r point into text and scratch, until the next call. now_ms is for a record without
 * a timestamp. Returns 0 when it does not know. */
size_t quick_object(const char *text, size_t n, size_t max_message, int64_t now_ms,
                    struct buf *scratch, struct record *r);

#endif
