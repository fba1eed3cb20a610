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

/* The id after this one, the smallest that is larger. Of the largest: itself. */
static inline struct stream_id stream_id_next(struct stream_id id)
{
    if (id.seq < UINT64_MAX)
        return (struct stream_id){id.ms, id.seq + 1};
    return id.ms < UINT64_MAX ? (struct stream_id){id.ms + 1, 0} : id;
}

/* The id before this one, the largest that is smaller. Of 0-0: itself. */
static inline struct stream_id stream_id_previous(struct stream_id id)
{
    if (id.seq > 0)
        return (struct stream_id){id.ms, id.seq - 1};
    return id.ms > 0 ? (struct stream_id){id.ms - 1, UINT64_MAX} : id;
}

static inline bool stream_id_equal(struct stream_id a, struct stream_id b)
{
    return a.ms == b.ms && a.seq == b.seq;
}

static inline bool stream_id_after(struct stream_id a, struct stream_id b)
{
    return a.ms != b.ms ? a.ms > b.ms : a.seq > b.seq;
}

#endif
