/* groups.h: the consumer groups that others have on the stream (doc/protocol.md, section 3.3). For
 * the consumer. */
#ifndef WORKER_GROUPS_H
#define WORKER_GROUPS_H

#include "common/redis/link.h"
#include "worker/account.h"
#include "worker/config.h"

/* One for a link, which it must outlive; all zero at first. */
struct groups {
    const struct config *config;
    struct redis_link *link;
    struct stream_id first; /* of the stream, when it was asked; 0-0: it was empty */
    bool asking;
    bool warned;
};

/* To be called after each look: when the stream has groups, destroys the one of version 0.1.0 if
 * none of its pending entries is in the stream, and warns once of others. */
void groups_look(struct groups *g, struct redis_link *link, const struct config *config,
                 const struct account *account);

#endif
