/* script.c: Redis in the model. */
#include <string.h>

#include "notes.h"
#include "script.h"

int redis_difference(const struct redis *r)
{
    return r->added - r->length - r->written;
}

int redis_owner(const struct redis *r)
{
    return r->owner == NOBODY ? -1 : (r->owner - 1) / 2;
}

bool redis_has_record(const struct redis *r, uint8_t record)
{
    for (int i = 0; i < r->length; i++) {
        if (r->entry[i].record == record)
            return true;
    }
    return false;
}

/* After a rollback or a removal, another log may still live in what was before: its worker has not
 * opened since, or its ids are ahead. */
static bool is_known_elsewhere(const struct state *s, uint8_t id)
{
    for (int w = 0; w < WORKERS; w++) {
        const struct worker *k = &s->worker[w];
        if (k->phase >= PHASE_OPEN && k->removed != redis_difference(&s->redis))
            return true;
        if (s->hurt != 0 && w != redis_owner(&s->redis) && id <= k->slot.last)
            return true;
    }
    return false;
}

/* After a DEL nothing but the clock makes ids, and a clock that was set back does not hit the very
 * same millisecond and number again. */
static bool may_give(struct state *s, const struct model *m, uint8_t id)
{
    uint8_t *half = &s->given[(id - 1) / 4], bit = (uint8_t)(1 << (id - 1) % 4);
    if (!m->bounds.del)
        return true;
    if ((s->hurt & HURT_DEL) && (*half & bit))
        return false;
    *half |= bit;
    return true;
}

bool redis_add(struct state *s, const struct model *m)
{
    struct redis *r = &s->redis;
    uint8_t id = (uint8_t)(r->last + 1);
    if (id < s->clock)
        id = s->clock;
    if (s->records == m->bounds.records || !may_give(s, m, id))
        return false;
    s->records++;
    if (s->unopened)
        s->unplaced |= (uint8_t)(1 << (s->records - 1));
    if (s->unopened || is_known_elsewhere(s, id))
        s->touched |= (uint8_t)(1 << (s->records - 1));
    r->entry[r->length++] = (struct entry){id, s->records};
    r->last = id;
    r->added++;
    if (!m->bounds.behind)
        s->clock++;
    return true;
}

void redis_remove(struct redis *r, int at)
{
    memmove(&r->entry[at], &r->entry[at + 1], (size_t)(r->length - at - 1) * sizeof(struct entry));
    r->entry[--r->length] = (struct entry){0, 0};
}

void redis_del(struct redis *r)
{
    memset(r->entry, 0, sizeof(r->entry));
    r->length = r->last = r->added = 0;
    r->removed = 0;
    r->remade = 1;
}

/* ---- The opening ---- */

/* The lease of the opening before this one is stale from now on: in the copy, and in a commit that
 * is still under way. Redis is going to refuse that one, so that it needs not be kept. */
static void age(struct state *s, const struct rules *rules, int w)
{
    if (s->copy.owner == OWNER(w, CURRENT))
        s->copy.owner = OWNER(w, STALE);
    if (s->worker[w].orphan.count > 0 && rules->no_lease)
        s->worker[w].orphan.epoch = STALE;
    else
        s->worker[w].orphan = (struct orphan){0};
}

/* An opening that finds the stream made anew puts entries-added right. */
static void mend_account(struct redis *r)
{
    if (redis_difference(r) < 0)
        r->added = (uint8_t)(r->added - redis_difference(r));
    r->remade = 0;
}

int redis_notes(const struct redis *r, int w)
{
    int n = 0;
    for (int i = 0; i < RECORDS; i++)
        n += r->notes[w][i] != 0;
    return n;
}

/* Are there notes for a batch in hand that its worker has not looked at? */
static bool has_news(const struct state *s, const struct rules *rules, int w)
{
    const struct worker *k = &s->worker[w];
    int notes = redis_notes(&s->redis, w);
    if (!k->open_batch || (k->seen > 0 && rules->no_news))
        return false;
    return notes > k->seen;
}

static void end_claim(struct redis *r, const struct rules *rules, int w)
{
    if (!rules->no_claim_end)
        r->claims &= (uint8_t) ~(1 << w);
    memset(r->notes[w], 0, sizeof(r->notes[w]));
}

static void note_opening(struct redis *r, const struct rules *rules, int w)
{
    if (r->token != 0)
        r->claims |= (uint8_t)(1 << (r->token - 1));
    end_claim(r, rules, w);
    r->token = (uint8_t)(w + 1);
}

void redis_release(struct state *s, const struct rules *rules, int w)
{
    if (s->redis.owner != OWNER(w, CURRENT))
        return;
    s->redis.owner = NOBODY;
    if (!s->worker[w].open_batch || rules->no_hand_release)
        s->redis.token = 0;
}

/* For the checks: the stream is taken back while the other log has only a part of the batch in
 * hand. Then all of that may stand in both (5.5). */
static void excuse(struct state *s, const struct model *m, int w)
{
    const struct worker *k = &s->worker[w];
    if (k->seen == 0 || notes_cover(k, m, s->redis.notes[w]))
        return;
    for (int i = k->slot.offset; i < k->lines; i++)
        s->touched |= (uint8_t)(1 << (k->line[i] % TORN - 1));
}

enum open_result redis_open(struct state *s, const struct model *m, int w)
{
    struct redis *r = &s->redis;
    if (has_news(s, &m->rules, w))
        return OPEN_TAKEN;
    if (redis_owner(r) != -1 && redis_owner(r) != w) {
        if (!s->worker[w].open_batch || m->rules.no_hand_standby)
            end_claim(r, &m->rules, w);
        return OPEN_STANDBY;
    }
    age(s, &m->rules, w);
    r->owner = OWNER(w, CURRENT);
    if (!m->rules.no_raise && r->last < s->worker[w].slot.last)
        r->last = s->worker[w].slot.last;
    excuse(s, m, w);
    note_opening(r, &m->rules, w);
    mend_account(r);
    s->unopened = 0;
    return OPEN_DONE;
}

/* ---- The commit ---- */

static bool owns(const struct redis *r, const struct rules *rules, uint8_t owner)
{
    if (rules->no_lease)
        return true;
    return r->owner == owner;
}

static bool is_as_read(const struct redis *r, const struct rules *rules, const struct commit *c)
{
    if (!rules->no_law && redis_difference(r) != c->removed)
        return false;
    return rules->no_first_entry || (r->length > 0 && r->entry[0].id == c->first);
}

static bool was_read(const struct commit *c, struct entry e)
{
    for (int i = 0; i < c->count; i++) {
        if (c->batch == NULL || (c->batch[i].id == e.id && c->batch[i].record == e.record))
            return true;
    }
    return false;
}

static void note(struct redis *r, struct entry e)
{
    for (int w = 0; w < WORKERS; w++) {
        if (r->claims >> w & 1)
            r->notes[w][e.record - 1] = e.id;
    }
}

enum commit_result redis_commit(struct redis *r, const struct rules *rules, const struct commit *c)
{
    enum commit_result result = COMMIT_DONE;
    if (!owns(r, rules, c->owner) || !is_as_read(r, rules, c))
        return COMMIT_REFUSED;
    while (r->length > 0 && r->entry[0].id <= c->last) {
        if (!was_read(c, r->entry[0]))
            result = COMMIT_UNREAD;
        note(r, r->entry[0]);
        redis_remove(r, 0);
    }
    r->written = (uint8_t)(r->written + c->count);
    return result;
}
