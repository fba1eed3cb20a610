/* worker.c: a worker in the model (doc/protocol.md, section 5). */
#include <assert.h>
#include <string.h>

#include "notes.h"
#include "worker.h"

static bool has_batch_in_hand(const struct worker *k)
{
    return k->slot.first != 0 && k->slot.first <= k->slot.last;
}

static void forget(struct worker *k)
{
    k->row = k->count = k->cursor = k->removed = k->seen = k->awaits = 0;
    memset(k->batch, 0, sizeof(k->batch));
}

void worker_disconnect(struct worker *k)
{
    forget(k);
    k->phase = PHASE_STANDBY;
}

void worker_kill(struct worker *k)
{
    forget(k);
    k->open_batch = 0;
    k->phase = PHASE_DOWN;
}

int worker_lines_of(const struct worker *k, uint8_t record)
{
    int n = 0;
    for (int i = 0; i < k->lines; i++)
        n += k->line[i] == record;
    return n;
}

/* ---- Files ---- */

static void cut(struct worker *k, int lines)
{
    memset(k->line + lines, 0, (size_t)(k->lines - lines));
    k->lines = (uint8_t)lines;
    if (k->files == 2 && k->boundary > lines)
        k->boundary = (uint8_t)lines;
}

static void append(struct worker *k, uint8_t line)
{
    assert(k->lines < LINES);
    k->line[k->lines++] = line;
}

static void empty_slot(struct worker *k)
{
    k->slot.offset = k->lines;
    k->slot.first = (uint8_t)(k->slot.last + 1);
    k->slot.file = k->files;
}

/* Turns to a new file when the log was moved away. */
static void turn(struct worker *k)
{
    if (!k->moved)
        return;
    k->moved = 0;
    k->files = 2;
    k->boundary = k->lines;
}

/* ---- The opening ---- */

bool worker_start(struct worker *k, const struct model *m)
{
    if (k->phase != PHASE_DOWN)
        return false;
    k->phase = PHASE_STANDBY;
    k->open_batch = has_batch_in_hand(k);
    if (!k->open_batch || m->rules.no_late_turn)
        turn(k);
    return true;
}

static void make_slot(struct worker *k, const struct redis *r, const struct rules *rules)
{
    k->slot.last = k->lines == 0 && !rules->no_fresh_log ? 0 : r->last;
    empty_slot(k);
}

static void cut_taken(struct worker *k)
{
    cut(k, k->slot.offset);
    k->slot.last = (uint8_t)(k->slot.first - 1);
    k->open_batch = 0;
}

static void look_at_notes(const struct state *s, const struct model *m, int w, struct worker *k)
{
    if (!m->rules.no_cut && notes_cover(k, m, s->redis.notes[w]))
        cut_taken(k);
    else
        k->seen = (uint8_t)redis_notes(&s->redis, w);
}

static void begin(struct worker *k, const struct state *s, const struct rules *rules)
{
    const struct redis *r = &s->redis;
    if (k->slot.first == 0)
        make_slot(k, r, rules);
    if (r->length == 0 || r->entry[0].id > k->slot.last)
        k->open_batch = 0;
    k->awaits = k->open_batch && r->entry[0].id == k->slot.first;
    k->removed = (uint8_t)redis_difference(r);
    k->seen = 0;
    k->phase = PHASE_OPEN;
}

bool worker_open(struct state *s, const struct model *m, int w)
{
    struct redis before = s->redis;
    struct worker *k = &s->worker[w];
    bool seen = k->seen;
    if (k->phase != PHASE_STANDBY)
        return false;
    switch (redis_open(s, m, w)) {
    case OPEN_TAKEN:
        look_at_notes(s, m, w, k);
        return true;
    case OPEN_STANDBY:
        k->seen = 0;
        return seen || memcmp(&before, &s->redis, sizeof(before)) != 0;
    default:
        begin(k, s, &m->rules);
        return true;
    }
}

bool worker_release(struct state *s, const struct model *m, int w)
{
    struct worker *k = &s->worker[w];
    if (k->phase != PHASE_OPEN)
        return false;
    redis_release(s, &m->rules, w);
    worker_kill(k);
    return true;
}

bool worker_look(struct state *s, int w)
{
    struct worker *k = &s->worker[w];
    if (k->phase != PHASE_OPEN)
        return false;
    if (s->redis.owner == OWNER(w, CURRENT) &&
        (s->redis.length == 0 || s->redis.entry[0].id > k->cursor))
        return false;
    worker_disconnect(k);
    return true;
}

/* ---- Reading ---- */

static enum row row_of(const struct worker *k, uint8_t id)
{
    if (id > k->slot.last)
        return ROW_NEW;
    if (id < k->slot.first)
        return ROW_OLD;
    return ROW_IN_HAND;
}

static bool belongs(const struct worker *k, const struct model *m, const struct redis *r,
                    uint8_t id, int count)
{
    enum row row = row_of(k, id);
    bool whole = r->entry[0].id == k->slot.first;
    if (k->row == ROW_IN_HAND && row == ROW_IN_HAND && whole)
        return true;
    return k->count < count && (row == k->row || m->rules.no_border);
}

bool worker_read(struct state *s, const struct model *m, int w, int count)
{
    struct worker *k = &s->worker[w];
    const struct redis *r = &s->redis;
    int i = 0;
    while (i < r->length && r->entry[i].id <= k->cursor)
        i++;
    if (k->phase != PHASE_OPEN || i == r->length)
        return false;
    k->row = (uint8_t)row_of(k, r->entry[i].id);
    if (k->awaits && k->row != ROW_IN_HAND && !m->rules.no_awaited) {
        worker_disconnect(k);
        return true;
    }
    for (; i < r->length && belongs(k, m, r, r->entry[i].id, count); i++)
        k->batch[k->count++] = r->entry[i];
    k->cursor = k->batch[k->count - 1].id;
    k->phase = PHASE_READ;
    return true;
}

/* ---- Comparing and writing ---- */

/* Bits of the lines that the batch may be found in. */
static unsigned candidates(const struct worker *k, const struct model *m)
{
    if (m->rules.no_comparison || k->row == ROW_NEW)
        return 0;
    return k->row == ROW_OLD ? (1u << k->lines) - 1 : notes_lines_behind(k);
}

static bool found(const struct worker *k, const struct model *m, uint8_t record, unsigned *lines)
{
    for (int i = 0; i < k->lines; i++) {
        if ((*lines >> i & 1) && k->line[i] < TORN &&
            content(m, k->line[i]) == content(m, record)) {
            if (!m->rules.no_multiset)
                *lines &= ~(1u << i);
            return true;
        }
    }
    return false;
}

static int missing(const struct worker *k, const struct model *m, uint8_t *todo)
{
    unsigned lines = candidates(k, m);
    int n = 0;
    for (int i = 0; i < k->count; i++) {
        if (!found(k, m, k->batch[i].record, &lines))
            todo[n++] = k->batch[i].record;
    }
    return n;
}

static bool step(int *done, int steps)
{
    if (*done >= steps)
        return false;
    ++*done;
    return true;
}

/* Makes room behind a torn line. Returns false when the line that follows ends up in it. */
static bool mend_torn(struct worker *k, const struct model *m, uint8_t next)
{
    uint8_t begins = k->files == 2 ? k->boundary : 0;
    if (k->lines == begins || k->line[k->lines - 1] < TORN)
        return true;
    if (m->rules.no_torn_cut)
        return false;
    if (content(m, k->line[k->lines - 1] - TORN) == content(m, next))
        cut(k, k->lines - 1);
    return true;
}

static void write_slot(struct worker *k)
{
    if (k->row == ROW_NEW)
        k->slot = (struct slot){k->lines, k->batch[0].id, k->batch[k->count - 1].id, k->files};
    else if (k->row == ROW_OLD || k->slot.file != k->files)
        empty_slot(k);
    k->open_batch = has_batch_in_hand(k);
}

static void write_lines(struct worker *k, const uint8_t *todo, int n, int *done, int steps)
{
    for (int i = 0; i < n; i++) {
        if (!step(done, steps))
            return;
        append(k, (uint8_t)(todo[i] + TORN));
        if (!step(done, steps))
            return;
        k->line[k->lines - 1] = todo[i];
    }
}

int worker_write(struct state *s, const struct model *m, int w, int steps)
{
    struct worker *k = &s->worker[w];
    uint8_t todo[RECORDS];
    int n = missing(k, m, todo), done = 0, lost = 0;
    if (k->row == ROW_NEW)
        k->open_batch = 0;
    if (!k->open_batch || m->rules.no_late_turn)
        turn(k);
    if (n > 0)
        lost = !mend_torn(k, m, todo[0]);
    if (n > 0 && !m->rules.no_slot_before && step(&done, steps))
        write_slot(k);
    uint8_t offset = k->lines;
    write_lines(k, todo + lost, n - lost, &done, steps);
    if (n > 0 && m->rules.no_slot_before && step(&done, steps)) {
        write_slot(k);
        if (k->row != ROW_IN_HAND)
            k->slot.offset = offset;
    }
    k->phase = PHASE_WRITTEN;
    return done;
}

/* ---- The commit ---- */

struct commit worker_batch(const struct worker *k, int w)
{
    return (struct commit){OWNER(w, CURRENT), k->batch[0].id, k->batch[k->count - 1].id,
                           k->count,          k->removed,     k->batch};
}

enum commit_result worker_commit(struct state *s, const struct model *m, int w)
{
    struct worker *k = &s->worker[w];
    struct commit c = worker_batch(k, w);
    enum commit_result result = redis_commit(&s->redis, &m->rules, &c);
    if (result == COMMIT_REFUSED) {
        worker_disconnect(k);
        return result;
    }
    uint8_t cursor = k->cursor, removed = k->removed;
    forget(k);
    k->cursor = cursor;
    k->removed = removed;
    k->phase = PHASE_OPEN;
    return result;
}
