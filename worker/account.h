/* account.h: what Redis says of the stream and of what was removed from it (doc/protocol.md,
 * section 3.6). The lease keeps it; commit.c adds to it, status.c tells it. */
#ifndef WORKER_ACCOUNT_H
#define WORKER_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/stream-id.h"

struct redis_reply;

/* All zero until Redis has said it for the first time. */
struct account {
    int64_t length; /* entries in the stream */
    int64_t added;  /* entries that were ever added to it */
    int64_t written, filtered, dead;
    int64_t groups;         /* consumer groups of the stream */
    struct stream_id first; /* 0-0: the stream is empty */
    int64_t dead_letters;
    int64_t removed; /* entries that somebody else has removed */
};

/* Takes length, added, written, filtered and dead from the elements of the reply from `at` on.
 * False: they are not there, or not numbers. */
bool account_take(struct account *a, const struct redis_reply *reply, size_t at);

/* Compares. Warns when somebody has removed entries since the last time. False: the stream was
 * removed, and made anew. */
bool account_check(struct account *a, const char *stream);

#endif
