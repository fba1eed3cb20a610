/* source-internal.h: the rings that a sender drains: the client's own, and those that dead
 * processes left in the ring directory. All of it belongs to the sender's thread. */
#ifndef LC_SOURCE_INTERNAL_H
#define LC_SOURCE_INTERNAL_H

#include "batch-internal.h"
#include "client-internal.h"
#include "leftover-internal.h"
#include "ringdir-internal.h"

#define LC_NOWHERE     UINT64_MAX
#define LC_ADOPTED_MAX 16 /* rings drained at the same time */
#define LC_LEFT_MAX    32 /* files that are remembered because they cannot be moved away */

struct lc_source {
    struct lc_ring *ring;        /* the client's own; NULL: a leftover */
    struct lc_leftover leftover; /* unless `ring` */
    int dir;                     /* of the leftover's file; owned */
    char name[LC_RING_NAME_MAX]; /* of the leftover's file */
    uint64_t bad;                /* position of a record that logd refused, or LC_NOWHERE */
    char bad_text[300];          /* what logd said of it */
    size_t max_records; /* in a batch; less than the setting after one was too large, or too slow */

    /* Of a leftover. */
    int64_t retry_ms;    /* nothing is sent before that, by the monotonic clock */
    int failures;        /* in a row */
    int alone;           /* of these, how many had others taken meanwhile */
    uint64_t taken_then; /* lc_sources.taken when it failed last */
    bool announced;      /* what is missing or damaged in it was reported */
    bool progress;       /* some of it was acknowledged */
};

struct lc_sources {
    logclient_t *client;
    struct lc_source own;
    struct lc_source *adopted[LC_ADOPTED_MAX]; /* owned */
    int adopted_count;
    int turn;                   /* whose turn it is: 0 own, else adopted[turn - 1] */
    int64_t search_ms;          /* when lc_sources_search() is due, by the monotonic clock */
    bool search_at_once;        /* however short ago the last search was */
    uint64_t taken;             /* batches that logd has taken, of all sources */
    char strange[400];          /* what was reported last of files that were passed over */
    uint64_t left[LC_LEFT_MAX]; /* inodes of files that cannot be moved away; 0: none */
    unsigned left_next;
};

/* The client's directory, name and ring must be there. */
void lc_sources_init(struct lc_sources *sources, logclient_t *client);

/* Leaves adopted rings to others. */
void lc_sources_free(struct lc_sources *sources);

/* Looks after the own ring's file and, unless adoption is off, searches for leftovers. Call it when
 * search_ms has come; it says when to do so again. True when there are adopted rings. */
bool lc_sources_search(struct lc_sources *sources, int64_t now_ms);

/* When something is to be done without a new record: a search, or something with a leftover. */
int64_t lc_sources_deadline(const struct lc_sources *sources, int64_t now_ms);

/* The next source in turn. adopted_count + 1 calls see all. */
struct lc_source *lc_sources_next(struct lc_sources *sources);

/* Whether something may be sent from the source now. Goes on with a leftover's opening. After
 * false, a leftover may be gone. */
bool lc_source_may_send(struct lc_sources *sources, struct lc_source *source, int64_t now_ms);

/* ---- One source ---- */

/* Position of the first record that is not done. */
static inline uint64_t lc_source_tail(const struct lc_source *source)
{
    return source->ring != NULL ? source->ring->ack.position : source->leftover.tail;
}

/* The last acknowledgement. */
static inline const struct lc_ring_ack *lc_source_ack(const struct lc_source *source)
{
    return source->ring != NULL ? &source->ring->ack : &source->leftover.ack;
}

/* What lc_batch_fill() reads. */
struct lc_reader lc_source_reader(struct lc_source *source);

/* Log-Skip for a batch that begins with this number. */
uint64_t lc_source_skip(const struct lc_source *source, uint64_t first);

/* The number behind the last record that was ever part of a request. */
uint64_t lc_source_sent(const struct lc_source *source);

/* Whether that is known to be true. */
bool lc_source_knows_sent(const struct lc_source *source);

/* Stores it; call it before each request. False when that failed: the request must not be sent, and
 * the source is tried again later. */
bool lc_source_note_sent(struct lc_sources *sources, struct lc_source *source, uint64_t number,
                         int64_t now_ms);

/* Somebody else sends under the same id: takes another one. The records from `first` on count as
 * never sent. Reports it. */
void lc_source_renew(struct lc_sources *sources, struct lc_source *source, uint64_t first);

/* All up to `position`, which is so many records more, is stored; `number` is the next one's. */
void lc_source_acknowledge(struct lc_sources *sources, struct lc_source *source, uint64_t position,
                           uint64_t number, uint64_t records);

/* Drops the record at source->bad, which is the first one, and reports it. */
void lc_source_reject(struct lc_sources *sources, struct lc_source *source);

/* Half of the time to the whole, by chance, so that processes do not come back all at once. */
int64_t lc_with_chance(int64_t ms);

/* A leftover's batch was not taken. It waits, and nothing else does: the longer when logd takes
 * other batches meanwhile. */
void lc_source_back_off(struct lc_sources *sources, struct lc_source *source, int64_t now_ms);

/* Lets a leftover go after it was read: LC_RING_EMPTY, all is done: removes the file, or, when not
 * all of it could be read, moves it aside; LC_RING_DAMAGED: it has changed: begins again with it,
 * or moves it aside; LC_RING_BUSY: leaves it to others. */
void lc_source_release(struct lc_sources *sources, struct lc_source *source, enum lc_ring_read why);

#endif
