/* consumer.h: reads the stream as a member of its group, and hands batches to the committer. */
#ifndef WORKER_CONSUMER_H
#define WORKER_CONSUMER_H

#include <stdbool.h>

#include "worker/commit.h"

struct consumer;

/* `finished` runs after consumer_stop(), when all is done that can be. All pointers are borrowed
 * for the consumer's life. NULL: out of memory. */
struct consumer *consumer_new(struct event_base *base, const struct config *config,
                              struct sink *sink, struct worker_stats *stats,
                              void (*finished)(void *arg), void *arg);

/* NULL when entries are read and can be acknowledged, else why not. */
const char *consumer_problem(const struct consumer *c);

struct committer *consumer_committer(struct consumer *c);

/* Reads no more; finishes the batch in hand and waits for its acknowledgement. */
void consumer_stop(struct consumer *c);

void consumer_free(struct consumer *c);

#endif
