/* stream-id.h: the id of a stream entry, "<milliseconds>-<number>". All of the worker uses it. */
#ifndef WORKER_STREAM_ID_H
#define WORKER_STREAM_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STREAM_ID_TEXT_MAX 42 /* two numbers of 20 digits, '-', NUL */

struct stream_id {
    uint64_t ms, seq;
};

/* False when the n bytes at s are not an id in full. */
bool stream_id_parse(struct stream_id *id, const char *s, size_t n);

/* NUL-terminated; returns the length. */
size_t stream_id_format(struct stream_id id, char out[STREAM_ID_TEXT_MAX]);

static inline bool stream_id_after(struct stream_id a, struct stream_id b)
{
    return a.ms != b.ms ? a.ms > b.ms : a.seq > b.seq;
}

#endif
