/* fence.h: ends what is left of this worker's earlier connections. The consumer uses it. */
#ifndef WORKER_FENCE_H
#define WORKER_FENCE_H

#include <stddef.h>
#include <stdint.h>

#include "common/redis/link.h"
#include "worker/config.h"

#define FENCE_NAME_MAX 48

/* One for a link, zero-initialised. It must live as long as the link. */
struct fence {
    struct redis_link *link;
    void (*done)(bool ok, void *arg);
    void *arg;
    const struct config *config;
    char name[FENCE_NAME_MAX];
    size_t shared;     /* bytes of the name that all workers of this consumer have in common */
    uint32_t instance; /* the rest of it: this process; 0: not chosen yet */
    int64_t own;       /* id of this connection; 0: not known */
    bool again;        /* this process was connected before */
    bool refused;      /* an error of this connection was told */
};

/* Gives the connection the name that belongs to stream, group and consumer, and has Redis close all
 * other connections of that name. One of them may have sent a read that the network still holds.
 * That read would mark entries as delivered to this consumer after the replay has passed them by; a
 * later commit covers them, and they would be lost.
 *
 * A process that was connected before may find a connection of another process of that name. Then
 * both are alive and fight for the same entries, and it warns.
 *
 * `done` runs once, with ok false when the connection broke or memory ran out. Redis executes what
 * is sent after that when the others are closed. An account that may not do it is warned about, and
 * goes on. False: done will not run, and the link is to be reset. */
bool fence_send(struct fence *f, struct redis_link *link, const struct config *config,
                void (*done)(bool ok, void *arg), void *arg);

#endif
