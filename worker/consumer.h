/* consumer.h: reads the stream while this worker owns it, and hands batches to the committer. For
 * main; status asks it how it is. */
#ifndef WORKER_CONSUMER_H
#define WORKER_CONSUMER_H

#include <stdbool.h>

#include "worker/account.h"
#include "worker/commit.h"

struct consumer;

/* `finished` runs once or several times, when all is done that can be after consumer_stop(),
 * perhaps from inside that call. All pointers are borrowed for the consumer's life. NULL: out of
 * memory. */
struct consumer *consumer_new(struct event_base *base, const struct config *config,
                              struct sink *sink, struct worker_stats *stats,
                              void (*finished)(void *arg), void *arg);

/* Why entries cannot be read or committed; borrowed. NULL: they can. */
const char *consumer_problem(const struct consumer *c);

/* Whether Redis answers. */
bool consumer_connected(const struct consumer *c);

const struct account *consumer_account(const struct consumer *c);

struct committer *consumer_committer(struct consumer *c);

/* Reads no more, finishes the batch in hand, and gives the lease back. */
void consumer_stop(struct consumer *c);

void consumer_free(struct consumer *c);

#endif
