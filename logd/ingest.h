/* ingest.h: makes a batch of records of the body of a request, all of it or none. api.c uses it. */
#ifndef LOGD_INGEST_H
#define LOGD_INGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/http/failure.h"
#include "common/record.h"

enum ingest_format {
    INGEST_JSON,  /* one object, or an array of objects */
    INGEST_LINES, /* one object a line; lines of white space are skipped */
};

struct ingest {
    size_t max_records; /* a body */
    size_t max_message; /* bytes */
    int64_t now_ms;     /* for records without a timestamp */
    struct buf *args;   /* gets INGEST_ARGS Redis arguments a record, as written by resp.h */
    struct buf *lines;  /* gets the line of app.log for each record; NULL: not wanted */
};

/* The values of the fields, in the order of enum record_field; fields is "" when there are none. */
#define INGEST_ARGS FIELD_COUNT

/* Returns the number of records, or 0 with *f set. Then args and lines hold a part of the body:
 * throw it away. */
size_t ingest_body(const struct ingest *in, enum ingest_format format, struct span body,
                   struct failure *f);

#endif
