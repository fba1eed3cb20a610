/* setup.h: what Redis is asked for after every connect, before the consumer reads anything. */
#ifndef WORKER_SETUP_H
#define WORKER_SETUP_H

#include "common/redis/link.h"
#include "worker/config.h"

/* Makes the stream, its group and its lineage where they are missing; the reply is the lineage.
 * Warns when Redis may evict the stream. False: not sent, and cb will not run. */
bool setup_send(struct redis_link *link, const struct config *config, redis_reply_cb *cb,
                void *arg);

#endif
