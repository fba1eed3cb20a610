/* lease.h: who owns the stream (doc/protocol.md, section 3.4): the opening, the renewal, and giving
 * it back. For the consumer; committer and status ask it.
 *
 * All events run from the event loop, never from inside a call of this header. All calls belong to
 * the thread of the event base. */
#ifndef WORKER_LEASE_H
#define WORKER_LEASE_H

#include <stdbool.h>

#include "worker/account.h"
#include "worker/config.h"
#include "worker/scripts.h"
#include "worker/sink.h"

struct event_base;
struct lease;

/* What an opening has found in the stream. */
struct lease_opening {
    bool empty; /* no entries */
    struct stream_id first;
};

struct lease_events {
    /* The completions of lease_open(), one of: the stream is this worker's, and the sink has begun;
     * it is another's; */
    void (*opened)(const struct lease_opening *o, void *arg);
    void (*standby)(void *arg);
    /* or it failed for this reason. NULL: the connection broke. */
    void (*failed)(const char *why, void *arg);
    /* A look, each second: the stream is this worker's still, and what Redis said is in the
     * account. */
    void (*looked)(void *arg);
    /* It is not this worker's any more, or was made anew: it must be opened again. */
    void (*lost)(const char *why, void *arg);
    /* The completion of lease_give_back(). */
    void (*given_back)(void *arg);
};

/* Copies the events; all pointers are borrowed for the lease's life. NULL: out of memory. */
struct lease *lease_new(struct event_base *base, const struct config *config, struct sink *sink,
                        struct redis_link *link, const struct lease_events *events, void *arg);

/* Opens the stream. False: not sent, and there is no completion. */
bool lease_open(struct lease *l);

/* Nobody reads any more: what looks say is only told. `replaced`: a commit was refused, since the
 * lease is another one now. */
void lease_close(struct lease *l, bool replaced);

/* Who owns the stream when it is another one; borrowed until the next opening. */
const char *lease_owner(const struct lease *l);

/* Gives the stream back, if it is this worker's. False: not sent, and there is no completion. */
bool lease_give_back(struct lease *l);

/* Begins a commit; `count` arguments must follow. */
void lease_begin_commit(const struct lease *l, size_t count, struct buf *out);

/* Whether a commit is to note its lines (prints.h) for logs that owned the stream before. */
bool lease_noting(const struct lease *l);

struct account *lease_account(struct lease *l);

/* After the link was freed. NULL is ignored. */
void lease_free(struct lease *l);

#endif
