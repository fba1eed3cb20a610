/* chunks.h: checks the framing of a chunked body, for connection.c (doc/protocol.md, section 2.3).
 * evhttp takes "+5" and "0x5" for sizes, and lines that end without CR. */
#ifndef COMMON_HTTP_CHUNKS_H
#define COMMON_HTTP_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One request; zero-initialised at its first byte. */
struct chunks {
    enum {
        CHUNKS_HEAD,     /* request line and headers */
        CHUNKS_SIZE,     /* the line with the size of a chunk */
        CHUNKS_DATA,     /* the bytes of a chunk */
        CHUNKS_DATA_END, /* the CR LF after them */
        CHUNKS_DONE,     /* no body in chunks, or its last chunk has been seen */
    } state;
    bool chunked;    /* a Transfer-Encoding has been seen */
    bool begun;      /* a line that is not empty has been seen */
    char line[24];   /* the beginning of the present line */
    size_t line_len; /* of the whole line so far */
    uint64_t left;   /* CHUNKS_DATA: bytes of the chunk that are still to come */
};

/* Looks at the next bytes from the connection, which may reach beyond the request. False: the
 * chunks are malformed. */
bool chunks_feed(struct chunks *c, const char *p, size_t n);

#endif
