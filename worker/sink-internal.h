/* sink-internal.h: what the two halves of the sink share: sink.c opens and knows the slots,
 * sink-write.c appends and turns to other files. */
#ifndef WORKER_SINK_INTERNAL_H
#define WORKER_SINK_INTERNAL_H

#include <limits.h>
#include <sys/stat.h>

#include "worker/reconcile.h"
#include "worker/sink.h"
#include "worker/state.h"

struct sink {
    const char *path; /* of the log; borrowed */
    char state_path[PATH_MAX];
    bool sync_batch; /* fsync state and log for every batch */
    int64_t look_back;
    int fd;             /* the log, for appending; locked */
    uint64_t dev, ino;  /* of fd */
    struct state state; /* what is on disk */
    char token[STATE_TOKEN_LEN + 1];
    struct reconcile reconcile;

    int64_t base;   /* size of the log without what the batch in hand has added since `done` */
    size_t done;    /* bytes of the batch in hand that lie before base */
    size_t written; /* bytes of the batch in hand that lie after base */
    bool noted;     /* the state file has the slot of the batch in hand: appending may begin */
    bool in_hand;   /* the batch of the slot may not be committed */
    bool fresh;     /* that batch is being written for the first time */
    bool late;      /* the path leads to another file: to be turned to before the next new batch */
    bool settled;   /* a last line that was cut short was seen to, since sink_begin() */
};

/* Takes the log as it is: its whole size is the base of what follows. */
void sink_rebase(struct sink *s, const struct stat *st);

/* Writes a slot with the log's token, and fsyncs it when that is wanted. False: errno. */
bool sink_write_slot(struct sink *s, const struct state_slot *slot);

/* A slot with no batch in hand. */
bool sink_write_idle_slot(struct sink *s, struct stream_id last);

/* Fsyncs a slot whose fsync has failed, when that is wanted. False: errno. */
bool sink_sync_slot(struct sink *s);

/* Turns to the new file as soon as no batch is in hand. Until that works, the old one stays in
 * use. */
void sink_turn_late(struct sink *s);

#endif
