/* source.c: the rings that a sender drains, and the search for those of dead processes. */
#include "source-internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "common/timer.h"
#include "fd-internal.h"
#include "report-internal.h"

#define SEARCH_EVERY_MS 2000

static void search_in(struct lc_sources *all, int64_t ms)
{
    struct timeval tv = timer_timeval(ms);
    event_add(all->search, &tv);
}

static void search_at_once(struct lc_sources *all)
{
    all->search_at_once = true;
    search_in(all, 0);
}

/* Counts and reports a dead process's ring that was moved aside. */
static void report_damaged(logclient_t *c, const char *name, const char *what)
{
    char text[2 * LC_RING_NAME_MAX + 80];
    atomic_fetch_add(&c->count.damaged, 1);
    snprintf(text, sizeof(text), "ring %s %s; moved to %s.damaged", name, what, name);
    lc_report(c, LOGCLIENT_RING_DAMAGED, text);
}

/* ---- One source ---- */

void lc_source_acknowledge(struct lc_sources *all, struct lc_source *source, uint64_t position,
                           uint64_t records, _Atomic uint64_t *counter)
{
    lc_ring_acknowledge(source->ring, position, source->ring->sequence + records);
    /* Not before: nobody shall find a record counted and still in the ring. And a flush that ends
     * finds it counted. */
    atomic_fetch_add(counter, records);
    if (source == &all->own)
        lc_publish_progress(all->client);
}

/* The record's sequence number goes with it. */
void lc_source_reject(struct lc_sources *all, struct lc_source *source)
{
    struct lc_counters *count = &all->client->count;
    struct lc_record record;
    uint64_t position = source->bad;
    source->bad = LC_NOWHERE;
    if (lc_ring_read(source->ring, &position, &record) != LC_RING_RECORD)
        return;
    source->skip++;
    lc_source_acknowledge(all, source, position, 1,
                          source == &all->own ? &count->rejected : &count->adopted_rejected);
    lc_report(all->client, LOGCLIENT_BAD_RECORD, source->bad_text);
}

void lc_source_release(struct lc_sources *all, struct lc_source *source, enum lc_ring_read why)
{
    int dir = all->client->dir;
    if (why == LC_RING_EMPTY)
        unlinkat(dir, source->name, 0);
    if (why == LC_RING_DAMAGED) {
        lc_ringdir_set_aside(dir, source->name);
        report_damaged(all->client, source->name, "is damaged behind what was delivered");
    }
    lc_hold_forks();
    lc_ring_close(source->ring);
    for (int i = 0; i < all->adopted_count; i++)
        if (all->adopted[i] == source)
            all->adopted[i] = all->adopted[--all->adopted_count];
    lc_allow_forks();
    free(source);
    if (all->adopted_count == 0 && why != LC_RING_BUSY)
        search_at_once(all); /* there may be more than fitted */
}

/* ---- Adoption ---- */

static void adopt(struct lc_sources *all, struct lc_ring *ring, const char *name)
{
    struct lc_source *source = calloc(1, sizeof(*source));
    if (source == NULL) {
        lc_ring_close(ring);
        return;
    }
    source->adopted = *ring;
    source->ring = &source->adopted;
    source->bad = LC_NOWHERE;
    source->max_records = (size_t)all->client->options->batch_records;
    strcpy(source->name, name);
    all->adopted[all->adopted_count++] = source;
}

/* Adopts rings until there are no more, or until one is damaged, whose name is then in `name`.
 * False when another process is searching. */
static bool search(struct lc_sources *all, char name[LC_RING_NAME_MAX], enum lc_adopt *found)
{
    struct lc_adoption adoption;
    struct lc_ring ring;
    /* Many processes may share the directory. One search is enough for all of them, but not for one
     * that has just begun, or has just found something. */
    int64_t pause = all->search_at_once ? 0 : SEARCH_EVERY_MS / 4 * 3;
    all->search_at_once = false;
    if (!lc_adoption_begin(&adoption, all->client->dir, pause))
        return false;
    *found = LC_ADOPT_NONE;
    while (all->adopted_count < LC_ADOPTED_MAX &&
           (*found = lc_adoption_next(&adoption, &ring, name)) == LC_ADOPT_RING)
        adopt(all, &ring, name);
    lc_adoption_end(&adoption);
    return !adoption.failed || *found != LC_ADOPT_NONE;
}

/* Others may remove the own ring's file, as systemd does in /dev/shm. */
static void check_own_file(logclient_t *c)
{
    struct stat st;
    if (c->name[0] == '\0' || fstatat(c->dir, c->name, &st, AT_SYMLINK_NOFOLLOW) == 0 ||
        atomic_exchange(&c->count.fallback, 1) != 0)
        return;
    lc_report(c, LOGCLIENT_RING_FALLBACK,
              "the ring file was removed: what is queued is in memory only");
}

static void on_search(evutil_socket_t fd, short what, void *arg)
{
    struct lc_sources *all = arg;
    enum lc_adopt found;
    char name[LC_RING_NAME_MAX];
    (void)fd, (void)what;
    search_in(all, SEARCH_EVERY_MS);
    check_own_file(all->client);
    if (!all->client->options->adopt || all->adopted_count == LC_ADOPTED_MAX)
        return;
    int held[STDERR_FILENO + 1];
    lc_hold_forks();
    size_t n = lc_hold_standard(held);
    bool searched = search(all, name, &found);
    lc_release_standard(held, n);
    lc_allow_forks();
    if (!searched)
        return;
    if (found == LC_ADOPT_DAMAGED) {
        report_damaged(all->client, name, "cannot be read");
        search_at_once(all); /* on with it */
    }
    if (all->adopted_count > 0)
        all->found(all->arg);
    else if (found == LC_ADOPT_NONE)
        atomic_fetch_add(&all->client->count.idle_searches, 1);
}

/* ---- All sources ---- */

struct lc_source *lc_sources_next(struct lc_sources *all)
{
    all->turn = all->turn >= all->adopted_count ? 0 : all->turn + 1;
    return all->turn == 0 ? &all->own : all->adopted[all->turn - 1];
}

bool lc_sources_init(struct lc_sources *all, logclient_t *client, struct event_base *base,
                     void (*found)(void *arg), void *arg)
{
    const logclient_options_t *o = client->options;
    *all = (struct lc_sources){
        .client = client,
        .own = {.ring = &client->ring, .bad = LC_NOWHERE, .max_records = (size_t)o->batch_records},
        .search = evtimer_new(base, on_search, all),
        .found = found,
        .arg = arg,
    };
    if (all->search == NULL)
        return false;
    if (client->dir >= 0)
        search_at_once(all);
    return true;
}

void lc_sources_free(struct lc_sources *all)
{
    while (all->adopted_count > 0)
        lc_source_release(all, all->adopted[0], LC_RING_BUSY);
    if (all->search != NULL)
        event_free(all->search);
}

void lc_sources_close_inherited(struct lc_sources *all)
{
    for (int i = 0; i < all->adopted_count; i++)
        lc_ring_close(&all->adopted[i]->adopted);
}
