/* check.c: what must hold in every state of the model, and at the end of every run. From each state
 * the run is brought to an end without another fault: all commits under way are gone, and the
 * workers own the stream in turn until everything is read. */
#include <stddef.h>

#include "check.h"
#include "worker.h"

enum { TURNS = 4, STEPS = 40 };

static bool in_a_log(const struct state *s, uint8_t record)
{
    return worker_lines_of(&s->worker[0], record) + worker_lines_of(&s->worker[1], record) > 0;
}

void check_losses(struct state *s)
{
    for (uint8_t r = 1; r <= s->records; r++) {
        uint8_t bit = (uint8_t)(1 << (r - 1));
        s->lost &= (uint8_t)~bit;
        if (!redis_has_record(&s->redis, r) && !in_a_log(s, r))
            s->lost |= bit;
        if (!in_a_log(s, r))
            s->unplaced |= bit;
    }
    s->touched = (uint8_t)((1 << s->records) - 1);
    s->unopened = 1;
}

static bool is_nowhere(const struct state *s)
{
    for (uint8_t r = 1; r <= s->records; r++) {
        if (!(s->lost >> (r - 1) & 1) && !redis_has_record(&s->redis, r) && !in_a_log(s, r))
            return true;
    }
    return false;
}

static bool keeps_the_law(const struct state *s)
{
    const struct redis *r = &s->redis;
    return r->remade || redis_difference(r) == r->removed;
}

/* ---- The end ---- */

static bool advance(struct state *s, const struct model *m, int w)
{
    switch (s->worker[w].phase) {
    case PHASE_DOWN:
        return worker_start(&s->worker[w], m);
    case PHASE_STANDBY:
        return worker_open(s, m, w);
    case PHASE_OPEN:
        return worker_look(s, w) || worker_read(s, m, w, m->bounds.batch);
    case PHASE_READ:
        return worker_write(s, m, w, ALL_STEPS) >= 0;
    default:
        worker_commit(s, m, w);
        return true;
    }
}

/* False when it does not end. */
static bool run_to_the_end(struct state *s, const struct model *m, int first)
{
    s->worker[0].orphan = s->worker[1].orphan = (struct orphan){0};
    for (int turn = 0; turn < TURNS; turn++) {
        int w = m->bounds.workers == 1 ? 0 : (first + turn) % WORKERS, steps = 0;
        s->redis.owner = NOBODY;
        while (steps < STEPS && advance(s, m, w))
            steps++;
        if (steps == STEPS)
            return false;
    }
    return s->redis.length == 0;
}

static int bits_of(const struct state *s, const struct model *m, uint8_t bits, uint8_t text)
{
    int n = 0;
    for (uint8_t r = 1; r <= s->records; r++)
        n += content(m, r) == text && (bits >> (r - 1) & 1);
    return n;
}

static int lines_of(const struct worker *k, const struct model *m, uint8_t text)
{
    int n = 0;
    for (int i = 0; i < k->lines; i++)
        n += k->line[i] < TORN && content(m, k->line[i]) == text;
    return n;
}

static const char *count(const struct state *s, const struct model *m, uint8_t text)
{
    int records = bits_of(s, m, 15, text);
    int may_miss = bits_of(s, m, m->bounds.equal ? s->lost | s->unplaced : s->lost, text);
    int a = lines_of(&s->worker[0], m, text), b = lines_of(&s->worker[1], m, text);
    if (a + b < records - may_miss)
        return "at the end, a record is in no log";
    if (a > records || b > records)
        return "at the end, a record stands twice in one log";
    if (a + b > records && bits_of(s, m, s->touched, text) == 0)
        return "at the end, a record stands in both logs";
    return NULL;
}

static bool has_torn_line(const struct worker *k)
{
    for (int i = 0; i < k->lines; i++) {
        if (k->line[i] >= TORN)
            return true;
    }
    return false;
}

static const char *check_end(const struct state *s, const struct model *m)
{
    for (uint8_t r = 1; r <= s->records; r++) {
        const char *wrong = count(s, m, content(m, r));
        if (wrong != NULL)
            return wrong;
    }
    for (int w = 0; w < WORKERS && s->hurt == 0 && s->touched == 0; w++) {
        if (s->worker[w].files == 1 && has_torn_line(&s->worker[w]))
            return "at the end, a torn line stands in a log";
    }
    return NULL;
}

const char *check_state(const struct state *s, const struct model *m)
{
    if (!keeps_the_law(s))
        return "the law of the account does not hold";
    if (!m->bounds.equal && is_nowhere(s))
        return "a record is neither in Redis nor in a log";
    for (int first = 0; first < m->bounds.workers; first++) {
        struct state end = *s;
        const char *wrong = "the run does not end";
        if (run_to_the_end(&end, m, first))
            wrong = check_end(&end, m);
        if (wrong != NULL)
            return wrong;
    }
    return NULL;
}
