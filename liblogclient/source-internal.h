/* source-internal.h: the rings that a sender drains: the client's own, and those that dead
 * processes left in the ring directory. All of it belongs to the sender's thread. */
#ifndef LC_SOURCE_INTERNAL_H
#define LC_SOURCE_INTERNAL_H

#include "client-internal.h"
#include "ring-read-internal.h"

#define LC_NOWHERE     UINT64_MAX
#define LC_ADOPTED_MAX 16 /* rings drained at the same time */

struct event;
struct event_base;

struct lc_source {
    struct lc_ring *ring;
    struct lc_ring adopted;      /* what `ring` points to, unless that is the client's own */
    char name[LC_RING_NAME_MAX]; /* of an adopted ring's file */
    uint64_t bad;                /* position of a record that logd refused, or LC_NOWHERE */
    char bad_text[300];          /* what logd said of it */
    uint64_t skip;               /* rejected records since the last batch that was taken */
    size_t max_records; /* in a batch; less than the setting after one was too large, or too slow */
};

struct lc_sources {
    logclient_t *client;
    struct lc_source own;
    struct lc_source *adopted[LC_ADOPTED_MAX]; /* owned */
    int adopted_count;
    int turn;             /* whose turn it is: 0 own, else adopted[turn - 1] */
    struct event *search; /* timer: the next look into the ring directory */
    bool search_at_once;  /* however short ago the last search was */
    void (*found)(void *arg);
    void *arg;
};

/* Begins to look after the own ring's file and, unless adoption is off, to search. `found` runs
 * after each search that leaves adopted rings. False when out of memory; lc_sources_free() is right
 * even then. */
bool lc_sources_init(struct lc_sources *sources, logclient_t *client, struct event_base *base,
                     void (*found)(void *arg), void *arg);

/* Leaves adopted rings to others. */
void lc_sources_free(struct lc_sources *sources);

/* For the child of a fork: closes the rings that its parent adopted. */
void lc_sources_close_inherited(struct lc_sources *sources);

/* The next source in turn. adopted_count + 1 calls see all. */
struct lc_source *lc_sources_next(struct lc_sources *sources);

/* All up to `position`, which is so many records more, is done, and counted in `counter`. */
void lc_source_acknowledge(struct lc_sources *sources, struct lc_source *source, uint64_t position,
                           uint64_t records, _Atomic uint64_t *counter);

/* Drops the record at source->bad, which is the first one, and reports it. */
void lc_source_reject(struct lc_sources *sources, struct lc_source *source);

/* Lets an adopted ring go. LC_RING_EMPTY unlinks it, LC_RING_DAMAGED moves it aside, LC_RING_BUSY
 * leaves it to others. */
void lc_source_release(struct lc_sources *sources, struct lc_source *source, enum lc_ring_read why);

#endif
