/* quick.h: reads the records that nearly all clients send, without a tree: a flat object of the
 * four members, with string values.
 *
 * It only ever accepts or says that it does not know: what it accepts, parse.c would accept with
 * the same result (tests/fuzz compares the two), and all errors are found and worded there. */
#ifndef LOGD_QUICK_H
#define LOGD_QUICK_H

#include <stddef.h>
#include <stdint.h>

#include "common/record.h"

/* Reads the object that starts at text[0], which is '{'. Returns its length and fills *r, whose
 * spans point into text and scratch, valid until the next call; now_ms is for a record without a
 * timestamp. Returns 0 when it is not sure. */
size_t quick_object(const char *text, size_t n, size_t max_message, int64_t now_ms,
                    struct buf *scratch, struct record *r);

#endif
