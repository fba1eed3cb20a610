/* tail.h: what an earlier life of the worker has written behind its last commit. For sink.c. */
#ifndef WORKER_TAIL_H
#define WORKER_TAIL_H

#include "worker/state.h"

struct tail {
    int fd;       /* the file with the tail, until it is settled; -1: none */
    int64_t size; /* bytes of the tail */
    int lost;     /* errno: why the file that may have a tail cannot be seen; 0: there is none */
};

/* Looks behind the last commit: in the log, which is open, or in its directory, when the commit
 * speaks of another file. */
void tail_find(struct tail *t, const char *path, int log, const struct stat *st,
               const struct state_commit *last);

/* Cuts the tail when Redis delivers its entries `again`. Else it stays, since nobody has its lines
 * but the log. Says what it did, and what a file that cannot be seen may mean. False: errno; repeat
 * the call. With again = false it never fails. Once settled it does nothing. */
bool tail_settle(struct tail *t, const char *path, const struct state_commit *last, bool sync,
                 bool again);

void tail_close(struct tail *t);

#endif
