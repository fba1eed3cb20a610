/* source.c: the rings that a sender drains, and the search for those of dead processes. */
#include "source-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report-internal.h"

#define SEARCH_EVERY_MS 2000
#define ALONE_MAX_MS    300000 /* between attempts with a batch that alone is not taken */
#define REPORT_BYTES    (2 * LC_RING_NAME_MAX + 200)
#define DOUBLINGS_MAX   16

static void search_at_once(struct lc_sources *all)
{
    all->search_ms = 0;
    all->search_at_once = true;
}

/* ---- Reports ---- */

static void report_strange(struct lc_sources *all, const char *text)
{
    if (text[0] == '\0' || strcmp(text, all->strange) == 0)
        return;
    snprintf(all->strange, sizeof(all->strange), "%s", text);
    lc_report(all->client, LOGCLIENT_RING_DAMAGED, text);
}

/* Counts and reports a dead process's file that was moved aside, if it could be. */
static void report_damaged(struct lc_sources *all, const char *name, const char *what, bool moved)
{
    char text[REPORT_BYTES];
    atomic_fetch_add(&all->client->count.damaged, 1);
    if (moved)
        snprintf(text, sizeof(text), "ring %s %s; moved to %s.damaged", name, what, name);
    else
        snprintf(text, sizeof(text), "ring %s %s; it cannot be moved aside", name, what);
    lc_report(all->client, LOGCLIENT_RING_DAMAGED, text);
}

static void report_missing(struct lc_sources *all, const struct lc_source *source)
{
    const struct lc_leftover *l = &source->leftover;
    char text[REPORT_BYTES];
    if (l->missing == 0 || (l->same_boot && !l->damaged))
        return;
    snprintf(text, sizeof(text), "up to %" PRIu64 " record%s of ring %s %s", l->missing,
             l->missing == 1 ? "" : "s", source->name,
             l->damaged ? "cannot be read" : "had not reached the disk when the machine stopped");
    lc_report(all->client, LOGCLIENT_RECORDS_MISSING, text);
}

/* ---- One source ---- */

static enum lc_ring_read read_ring(void *from, uint64_t *position, struct lc_record *record)
{
    return lc_ring_read(from, position, record);
}

static enum lc_ring_read read_leftover(void *from, uint64_t *position, struct lc_record *record)
{
    return lc_leftover_read(from, position, record);
}

struct lc_reader lc_source_reader(struct lc_source *source)
{
    return source->ring != NULL ? (struct lc_reader){read_ring, source->ring}
                                : (struct lc_reader){read_leftover, &source->leftover};
}

/* In a file of one moment, numbers without a record were never accepted. In another, the record did
 * not reach the disk: a gap, which logd counts. */
uint64_t lc_source_skip(const struct lc_source *source, uint64_t first)
{
    const struct lc_ring_ack *ack = lc_source_ack(source);
    bool whole = source->ring != NULL || source->leftover.same_boot;
    return (whole ? first : ack->number) - ack->stored;
}

uint64_t lc_source_sent(const struct lc_source *source)
{
    return source->ring != NULL ? atomic_load(&source->ring->header->sent) : source->leftover.sent;
}

bool lc_source_knows_sent(const struct lc_source *source)
{
    return source->ring != NULL || source->leftover.same_boot;
}

bool lc_source_note_sent(struct lc_sources *all, struct lc_source *source, uint64_t number,
                         int64_t now_ms)
{
    if (number <= lc_source_sent(source)) /* a part of a batch that was sent before */
        return true;
    if (source->ring != NULL) {
        atomic_store(&source->ring->header->sent, number);
        return true;
    }
    /* The next heir would take our own records for somebody else's. */
    if (lc_leftover_note_sent(&source->leftover, number) == 0)
        return true;
    lc_source_back_off(all, source, now_ms);
    return false;
}

/* A crash in the midst of it leaves the new id with a number that is too large. That does no
 * harm. */
void lc_source_renew(struct lc_sources *all, struct lc_source *source, uint64_t first)
{
    uint64_t producer[2];
    if (getrandom(producer, sizeof(producer), 0) != (ssize_t)sizeof(producer))
        return;
    if (source->ring != NULL) {
        struct lc_ring_ack ack = source->ring->ack;
        memcpy(ack.producer, producer, sizeof(ack.producer));
        lc_ring_publish(source->ring, &ack);
        atomic_store(&source->ring->header->sent, first);
    } else {
        lc_leftover_rename_producer(&source->leftover, producer);
        lc_leftover_note_sent(&source->leftover, first);
    }
    lc_report(all->client, LOGCLIENT_PRODUCER_TWIN,
              "logd knows records under numbers that were never sent from here: a copy of this "
              "machine or of the ring file is running; records go on under a new producer id");
}

/* A leftover that cannot be written to is sent again by the next heir, and Redis knows it. */
static void acknowledge(struct lc_source *source, uint64_t position, uint64_t number,
                        uint64_t stored)
{
    if (source->ring != NULL) {
        lc_ring_acknowledge(source->ring, position, number, stored);
    } else {
        lc_leftover_acknowledge(&source->leftover, position, number, stored);
        source->progress = true;
    }
}

void lc_source_acknowledge(struct lc_sources *all, struct lc_source *source, uint64_t position,
                           uint64_t number, uint64_t records)
{
    struct lc_counters *count = &all->client->count;
    acknowledge(source, position, number, number);
    all->taken++;
    source->failures = source->alone = 0;
    /* Not before: nobody shall find a record counted and still in the ring. And a flush that ends
     * finds it counted. */
    atomic_fetch_add(source->ring != NULL ? &count->delivered : &count->adopted, records);
    if (source->ring != NULL)
        lc_publish_progress(all->client);
}

/* The record's number goes with it. */
void lc_source_reject(struct lc_sources *all, struct lc_source *source)
{
    struct lc_counters *count = &all->client->count;
    struct lc_reader reader = lc_source_reader(source);
    struct lc_record record;
    uint64_t position = source->bad;
    source->bad = LC_NOWHERE;
    if (reader.read(reader.from, &position, &record) != LC_RING_RECORD)
        return;
    /* Numbers without a record that lie before it are passed over with it. */
    uint64_t stored = record.number - lc_source_skip(source, record.number);
    acknowledge(source, position, record.number + 1, stored);
    atomic_fetch_add(source->ring != NULL ? &count->rejected : &count->adopted_rejected, 1);
    if (source->ring != NULL)
        lc_publish_progress(all->client);
    lc_report(all->client, LOGCLIENT_BAD_RECORD, source->bad_text);
}

int64_t lc_with_chance(int64_t ms)
{
    uint32_t chance = 0;
    if (getrandom(&chance, sizeof(chance), GRND_NONBLOCK) < 0)
        chance = (uint32_t)getpid();
    return ms / 2 + (int64_t)(chance % (uint32_t)(ms / 2 + 1));
}

static int64_t doubled(int64_t ms, int times, int64_t most)
{
    ms <<= times < DOUBLINGS_MAX ? times : DOUBLINGS_MAX;
    return ms < most ? ms : most;
}

void lc_source_back_off(struct lc_sources *all, struct lc_source *source, int64_t now_ms)
{
    const logclient_options_t *o = all->client->options;
    if (source->failures > 0 && all->taken != source->taken_then)
        source->alone++;
    int64_t ms = source->alone > 1
                     ? doubled(o->backoff_max_ms, source->alone - 1, ALONE_MAX_MS)
                     : doubled(o->backoff_min_ms, source->failures, o->backoff_max_ms);
    source->failures++;
    source->taken_then = all->taken;
    source->retry_ms = now_ms + lc_with_chance(ms);
}

/* ---- Files that go ---- */

/* A file that could not be removed or renamed would be found again by each search. */
static void remember_if_there(struct lc_sources *all, int dir, const char *name)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        all->left[all->left_next++ % LC_LEFT_MAX] = (uint64_t)st.st_ino;
}

static bool is_remembered(const struct lc_sources *all, int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return false;
    for (int i = 0; i < LC_LEFT_MAX; i++)
        if (all->left[i] == (uint64_t)st.st_ino)
            return true;
    return false;
}

static void set_aside(struct lc_sources *all, const struct lc_source *source, const char *what)
{
    bool moved = lc_ringdir_set_aside(source->dir, source->name);
    report_damaged(all, source->name, what, moved);
    remember_if_there(all, source->dir, source->name);
}

static void close_source(struct lc_source *source)
{
    lc_leftover_close(&source->leftover);
    close(source->dir);
    free(source);
}

void lc_source_release(struct lc_sources *all, struct lc_source *source, enum lc_ring_read why)
{
    if (why == LC_RING_EMPTY && source->leftover.damaged) {
        set_aside(all, source, "is damaged; what could be read of it was delivered");
    } else if (why == LC_RING_EMPTY) {
        unlinkat(source->dir, source->name, 0);
        remember_if_there(all, source->dir, source->name);
    } else if (why == LC_RING_DAMAGED && !source->progress) {
        set_aside(all, source, "changes while it is read");
    }
    for (int i = 0; i < all->adopted_count; i++)
        if (all->adopted[i] == source)
            all->adopted[i] = all->adopted[--all->adopted_count];
    close_source(source);
    /* There may be more than fitted, or more in this one than was read. */
    if (why == LC_RING_DAMAGED || (all->adopted_count == 0 && why != LC_RING_BUSY))
        search_at_once(all);
}

/* ---- Adoption ---- */

/* Takes the leftover. False when it cannot be kept, for lack of descriptors or memory. */
static bool adopt(struct lc_sources *all, struct lc_leftover *leftover, int dir, const char *name)
{
    struct lc_source *source = calloc(1, sizeof(*source));
    int own_dir = fcntl(dir, F_DUPFD_CLOEXEC, 0);
    if (source == NULL || own_dir < 0 || is_remembered(all, leftover->fd)) {
        lc_leftover_close(leftover);
        if (own_dir >= 0)
            close(own_dir);
        bool lacking = source == NULL || own_dir < 0;
        free(source);
        return !lacking;
    }
    source->leftover = *leftover;
    source->dir = own_dir;
    source->bad = LC_NOWHERE;
    source->max_records = (size_t)all->client->options->batch_records;
    snprintf(source->name, sizeof(source->name), "%s", name);
    all->adopted[all->adopted_count++] = source;
    return true;
}

/* Adopts what it finds. False when another process is searching, or not all could be looked at. */
static bool search_in(struct lc_sources *all, int dir, int64_t pause_ms)
{
    struct lc_adoption search;
    struct lc_leftover leftover;
    char name[LC_RING_NAME_MAX];
    enum lc_adopt found = LC_ADOPT_NONE;
    if (!lc_adoption_begin(&search, dir, pause_ms))
        return false;
    while (all->adopted_count < LC_ADOPTED_MAX && !search.failed &&
           !atomic_load(&all->client->stop) &&
           (found = lc_adoption_next(&search, &leftover, name)) != LC_ADOPT_NONE) {
        if (found == LC_ADOPT_RING)
            search.failed = !adopt(all, &leftover, dir, name) || search.failed;
        else
            report_damaged(all, name, "cannot be read", true);
    }
    report_strange(all, search.strange);
    lc_adoption_end(&search);
    return !search.failed && found == LC_ADOPT_NONE;
}

/* Others may remove the own ring's file, as systemd does in /dev/shm. */
static void check_own_file(logclient_t *c)
{
    struct stat st;
    if (c->name[0] == '\0' || fstat(c->ring.fd, &st) != 0 || st.st_nlink > 0 ||
        atomic_exchange(&c->count.fallback, 1) != 0)
        return;
    lc_report(c, LOGCLIENT_RING_FALLBACK,
              "the ring file was removed: what is queued is in memory only");
}

bool lc_sources_search(struct lc_sources *all, int64_t now_ms)
{
    logclient_t *c = all->client;
    /* Many processes may share the directory. One search is enough for all of them, but not for one
     * that has just begun, or has just found something. */
    int64_t pause_ms = all->search_at_once ? 0 : SEARCH_EVERY_MS / 4 * 3;
    all->search_at_once = false;
    all->search_ms = now_ms + SEARCH_EVERY_MS;
    check_own_file(c);
    if (c->options->adopt && c->dirs.count > 0 && all->adopted_count < LC_ADOPTED_MAX) {
        bool whole = true;
        for (int i = 0; i < c->dirs.count; i++)
            whole = search_in(all, c->dirs.fds[i], pause_ms) && whole;
        if (whole && all->adopted_count == 0)
            atomic_fetch_add(&c->count.idle_searches, 1);
    }
    return all->adopted_count > 0;
}

/* ---- All sources ---- */

int64_t lc_sources_deadline(const struct lc_sources *all, int64_t now_ms)
{
    int64_t deadline = all->search_ms;
    for (int i = 0; i < all->adopted_count; i++) {
        const struct lc_source *source = all->adopted[i];
        if (source->retry_ms <= now_ms)
            return now_ms;
        if (source->retry_ms < deadline)
            deadline = source->retry_ms;
    }
    return deadline;
}

struct lc_source *lc_sources_next(struct lc_sources *all)
{
    all->turn = all->turn >= all->adopted_count ? 0 : all->turn + 1;
    return all->turn == 0 ? &all->own : all->adopted[all->turn - 1];
}

bool lc_source_may_send(struct lc_sources *all, struct lc_source *source, int64_t now_ms)
{
    if (source->ring != NULL)
        return true;
    if (now_ms < source->retry_ms)
        return false;
    if (lc_leftover_search(&source->leftover) != 0)
        source->retry_ms = now_ms + SEARCH_EVERY_MS;
    if (!source->leftover.searched)
        return false;
    if (!source->announced)
        report_missing(all, source);
    source->announced = true;
    return true;
}

void lc_sources_init(struct lc_sources *all, logclient_t *client)
{
    *all = (struct lc_sources){
        .client = client,
        .own = {.ring = &client->ring,
                .dir = -1,
                .bad = LC_NOWHERE,
                .max_records = (size_t)client->options->batch_records},
    };
    search_at_once(all);
}

void lc_sources_free(struct lc_sources *all)
{
    while (all->adopted_count > 0)
        lc_source_release(all, all->adopted[0], LC_RING_BUSY);
}
