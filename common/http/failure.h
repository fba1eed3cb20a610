/* failure.h: why a request is refused: everything that goes into an error answer (doc/protocol.md,
 * section 2.1). common/http makes failures, and so do all parts of logd that look at a request. */
#ifndef COMMON_HTTP_FAILURE_H
#define COMMON_HTTP_FAILURE_H

#include <stddef.h>

#include "common/buf.h"

enum failure_stored {
    STORED_UNSAID,
    STORED_NOTHING, /* "stored":false */
    STORED_UNKNOWN, /* "stored":null */
};

struct failure {
    int status;        /* HTTP */
    int retry_after;   /* seconds; 0: no Retry-After */
    const char *allow; /* value of Allow, static; NULL: none */
    enum failure_stored stored;
    long index;     /* number of the record at fault, from 0; -1: none is */
    char field[64]; /* its member at fault, "" for the record as a whole; only with an index */
    char text[512]; /* one sentence with the remedy; may hold bytes that are not UTF-8 */
};

/* Sets status and text, and nothing else: no index, no `stored`, no Retry-After, no Allow. */
void failure_set(struct failure *f, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for the record number `index`. */
void failure_set_record(struct failure *f, size_t index, const char *field, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Sets status 503, a Retry-After of one second, and what became of the request's records. */
void failure_set_unavailable(struct failure *f, enum failure_stored stored, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Appends text from outside as a JSON string, with what is not UTF-8 replaced. */
void failure_add_string(struct buf *out, const char *s);

/* Appends the JSON object that the client gets. */
void failure_write(const struct failure *f, struct buf *out);

#define FAILURE_SHOWN_MAX 64

/* Writes a value for use in a message: quoted, cut to about 40 bytes, control characters as '?'.
 * Returns out. */
const char *failure_show(char out[FAILURE_SHOWN_MAX], const char *value, size_t n);

#endif
