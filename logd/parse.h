/* parse.h: makes a record of the text of one JSON object (doc/protocol.md, section 1). ingest.c
 * uses it. */
#ifndef LOGD_PARSE_H
#define LOGD_PARSE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/record.h"
#include "common/http/failure.h"

#define PARSE_DEPTH_MAX 64 /* levels of nesting; the record itself is the first */

/* What all records of a body share, and what the spans of the last record point into. */
struct parser {
    const char *body;   /* where the body starts, for offsets in messages */
    size_t max_message; /* bytes */
    int64_t now_ms;     /* for records without a timestamp */
    json_t *tree;       /* owned */
    struct buf fields;  /* owned; the quick reader decodes into it */
};

/* Reads the object that starts at text[0], which is '{'. Returns its length in bytes and fills *r,
 * valid until the next call or parser_free(). It does not look at what follows. Returns 0 when it
 * is no JSON or no valid record; then *f names the record number `index`. */
size_t parse_object(struct parser *p, const char *text, size_t n, size_t index, struct record *r,
                    struct failure *f);

/* The same without the quick reader. What this says is right. */
size_t parse_by_jansson(struct parser *p, const char *text, size_t n, size_t index,
                        struct record *r, struct failure *f);

void parser_free(struct parser *p);

#endif
