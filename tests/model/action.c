/* action.c: everything that can happen in a state of the model. */
#include <stdio.h>
#include <string.h>

#include "action.h"
#include "check.h"
#include "worker.h"

enum kind {
    START,
    ADD,
    COPY,
    ROLLBACK,
    DEL,
    REMOVE, /* the entry at place arg */
    CLOCK,  /* Redis's clock is set to arg */
    EXPIRE,
    ROTATE,
    RESTART,
    OPEN,
    OPEN_DISCONNECT, /* the script runs, its answer doesn't arrive */
    OPEN_KILL,
    LOOK,
    READ, /* at most arg entries */
    WRITE,
    WRITE_KILL, /* after arg steps */
    COMMIT,
    DISCONNECT, /* arg is 1 when Redis may still run the commit */
    KILL,
    RELEASE,
    ORPHAN,
    KINDS
};

/* What an action needs. */
enum need { NONE = 0, WORKER = 1, CRASH = 2, FAULT = 4 };

static const struct {
    const char *text;
    uint8_t needs, first_arg, last_arg;
} table[KINDS] = {
    [START] = {"the start", NONE, 0, 0},
    [ADD] = {"a record is added", NONE, 0, 0},
    [COPY] = {"Redis is copied", NONE, 0, 0},
    [ROLLBACK] = {"Redis is put back to the copy", FAULT, 0, 0},
    [DEL] = {"DEL of the stream", FAULT, 0, 0},
    [REMOVE] = {"XDEL of entry number (from 0)", FAULT, 0, RECORDS - 1},
    [CLOCK] = {"Redis's clock is set back to", FAULT, 1, 3},
    [EXPIRE] = {"the lease expires", FAULT, 0, 0},
    [ROTATE] = {"has its log renamed", WORKER | FAULT, 0, 0},
    [RESTART] = {"starts", WORKER, 0, 0},
    [OPEN] = {"opens", WORKER, 0, 0},
    [OPEN_DISCONNECT] = {"opens, and loses the connection before the answer", WORKER | CRASH, 0, 0},
    [OPEN_KILL] = {"opens, and is killed before the answer", WORKER | CRASH, 0, 0},
    [LOOK] = {"looks, and has to open again", WORKER, 0, 0},
    [READ] = {"reads with COUNT", WORKER, 1, 3},
    [WRITE] = {"writes slot and lines", WORKER, 0, 0},
    [WRITE_KILL] = {"is killed while it writes slot and lines, after steps:", WORKER | CRASH, 0, 7},
    [COMMIT] = {"commits", WORKER, 0, 0},
    [DISCONNECT] = {"loses the connection, commits under way:", WORKER | CRASH, 0, 1},
    [KILL] = {"is killed, commits under way:", WORKER | CRASH, 0, 1},
    [RELEASE] = {"gives the lease back, and ends", WORKER | CRASH, 0, 0},
    [ORPHAN] = {"had a commit under way when its connection broke, which Redis runs now", WORKER, 0,
                0},
};

bool action_next(struct action *a, const struct model *m)
{
    if (a->kind != START && a->arg < table[a->kind].last_arg) {
        a->arg++;
        return true;
    }
    if ((table[a->kind].needs & WORKER) && a->worker + 1 < m->bounds.workers) {
        a->worker++;
    } else {
        a->kind++;
        a->worker = 0;
    }
    if (a->kind == KINDS)
        return false;
    a->arg = table[a->kind].first_arg;
    return true;
}

void action_text(struct action a, char *text, size_t size)
{
    char who[] = "A ", number[8] = "";
    who[0] = (char)(who[0] + a.worker);
    if (table[a.kind].last_arg > 0)
        snprintf(number, sizeof(number), " %d", a.arg);
    snprintf(text, size, "%s%s%s", (table[a.kind].needs & WORKER) ? who : "", table[a.kind].text,
             number);
}

uint16_t action_pack(struct action a)
{
    return (uint16_t)(a.kind << 8 | a.worker << 4 | a.arg);
}

struct action action_unpack(uint16_t packed)
{
    return (struct action){(uint8_t)(packed >> 8), packed >> 4 & 15, packed & 15};
}

/* ---- Redis ---- */

static bool copy(struct state *s)
{
    if (s->has_copy)
        return false;
    s->copy = s->redis;
    s->has_copy = 1;
    return true;
}

/* Connections do not outlive it. */
static bool rollback(struct state *s)
{
    if (!s->has_copy || memcmp(&s->copy, &s->redis, sizeof(s->copy)) == 0)
        return false;
    s->redis = s->copy;
    memset(&s->copy, 0, sizeof(s->copy));
    s->has_copy = 0;
    for (int w = 0; w < WORKERS; w++) {
        s->worker[w].orphan = (struct orphan){0};
        if (s->worker[w].phase > PHASE_STANDBY)
            worker_disconnect(&s->worker[w]);
    }
    s->hurt |= HURT_ROLLBACK;
    return true;
}

static bool del(struct state *s)
{
    if (s->redis.last == 0)
        return false;
    redis_del(&s->redis);
    s->hurt |= HURT_DEL;
    return true;
}

static bool remove_entry(struct state *s, int at)
{
    if (at >= s->redis.length)
        return false;
    redis_remove(&s->redis, at);
    s->redis.removed++;
    s->hurt |= HURT_REMOVE;
    return true;
}

static bool set_clock(struct state *s, uint8_t clock)
{
    if (clock >= s->clock)
        return false;
    s->clock = clock;
    return true;
}

static bool expire(struct state *s)
{
    if (s->redis.owner == NOBODY)
        return false;
    s->redis.owner = NOBODY;
    return true;
}

static bool run_orphan(struct state *s, const struct model *m, int w)
{
    struct orphan *o = &s->worker[w].orphan;
    struct commit c = {OWNER(w, o->epoch), o->first, o->last, o->count, o->removed, NULL};
    if (o->count == 0 || redis_commit(&s->redis, &m->rules, &c) == COMMIT_REFUSED)
        return false;
    *o = (struct orphan){0};
    return true;
}

static bool apply_redis(struct state *s, const struct model *m, struct action a)
{
    const struct bounds *b = &m->bounds;
    switch (a.kind) {
    case ADD:
        return redis_add(s, m);
    case COPY:
        return b->rollback && s->faults < b->faults && copy(s);
    case ROLLBACK:
        return b->rollback && rollback(s);
    case DEL:
        return b->del && del(s);
    case REMOVE:
        return b->remove && remove_entry(s, a.arg);
    case CLOCK:
        return b->clock && set_clock(s, a.arg);
    case EXPIRE:
        return b->expire && expire(s);
    }
    return false;
}

/* ---- Workers ---- */

static bool rotate(struct worker *k)
{
    if (k->moved || k->files == 2)
        return false;
    k->moved = 1;
    return true;
}

static void leave_orphan(struct worker *k, int w)
{
    struct commit c = worker_batch(k, w);
    k->orphan = (struct orphan){c.first, c.last, c.count, (uint8_t)c.removed, CURRENT};
}

static bool breaks(struct worker *k, struct action a)
{
    uint8_t needed = a.arg == 1 ? PHASE_WRITTEN : a.kind == KILL ? PHASE_STANDBY : PHASE_OPEN;
    if (k->phase < needed)
        return false;
    if (a.arg == 1)
        leave_orphan(k, a.worker);
    if (a.kind == KILL)
        worker_kill(k);
    else
        worker_disconnect(k);
    return true;
}

/* The script has run, and the worker has done nothing about it. */
static bool open_in_vain(struct state *s, const struct model *m, struct action a)
{
    struct worker *k = &s->worker[a.worker];
    if (k->phase != PHASE_STANDBY || redis_open(s, m, a.worker) != OPEN_DONE)
        return false;
    if (a.kind == OPEN_KILL)
        worker_kill(k);
    return true;
}

static bool write_all(struct state *s, const struct model *m, struct action a)
{
    struct worker *k = &s->worker[a.worker];
    int steps = a.kind == WRITE ? ALL_STEPS : a.arg;
    if (k->phase != PHASE_READ ||
        worker_write(s, m, a.worker, steps) < (a.kind == WRITE ? 0 : steps))
        return false;
    if (a.kind == WRITE_KILL)
        worker_kill(k);
    return true;
}

static bool commit(struct state *s, const struct model *m, int w, const char **wrong)
{
    if (s->worker[w].phase != PHASE_WRITTEN)
        return false;
    if (worker_commit(s, m, w) == COMMIT_UNREAD)
        *wrong = "a commit removed an entry that its worker has not read";
    return true;
}

static bool apply_worker(struct state *s, const struct model *m, struct action a,
                         const char **wrong)
{
    struct worker *k = &s->worker[a.worker];
    switch (a.kind) {
    case ROTATE:
        return m->bounds.rotate && rotate(k);
    case RESTART:
        return worker_start(k, m);
    case OPEN:
        return worker_open(s, m, a.worker);
    case OPEN_DISCONNECT:
    case OPEN_KILL:
        return open_in_vain(s, m, a);
    case LOOK:
        return worker_look(s, a.worker);
    case READ:
        return a.arg <= m->bounds.batch && worker_read(s, m, a.worker, a.arg);
    case WRITE:
    case WRITE_KILL:
        return write_all(s, m, a);
    case COMMIT:
        return commit(s, m, a.worker, wrong);
    case DISCONNECT:
    case KILL:
        return breaks(k, a);
    case RELEASE:
        return worker_release(s, m, a.worker);
    case ORPHAN:
        return run_orphan(s, m, a.worker);
    }
    return false;
}

/* Both workers are alike: A is the one that opens first. */
static bool may_act(const struct state *s, struct action a)
{
    return !(table[a.kind].needs & WORKER) || a.worker == 0 || s->worker[0].slot.first != 0;
}

bool action_apply(struct state *s, const struct model *m, struct action a, const char **wrong)
{
    uint8_t needs = table[a.kind].needs;
    if (!may_act(s, a) || ((needs & CRASH) && s->crashes == m->bounds.crashes) ||
        ((needs & FAULT) && s->faults == m->bounds.faults))
        return false;
    if (!((needs & WORKER) ? apply_worker(s, m, a, wrong) : apply_redis(s, m, a)))
        return false;
    s->crashes = (uint8_t)(s->crashes + ((needs & CRASH) != 0));
    s->faults = (uint8_t)(s->faults + ((needs & FAULT) != 0));
    if (s->faults == m->bounds.faults && s->has_copy) {
        memset(&s->copy, 0, sizeof(s->copy));
        s->has_copy = 0;
    }
    if (a.kind == ROLLBACK || a.kind == DEL || a.kind == REMOVE)
        check_losses(s);
    return true;
}
