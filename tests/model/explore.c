/* explore.c: a breadth-first search. All states lie in one array in the order in which they were
 * found; a hash table of their numbers says which are known. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "action.h"
#include "check.h"
#include "explore.h"

enum {
    PACKED = (sizeof(struct state) + 15) / 16 * 8,
    NEXT_MAX = 128, /* there are fewer actions */
};

#define TAG 0xffffffff00000000

struct packed {
    uint64_t word[PACKED / 8];
};

struct search {
    const struct model *m;
    struct packed *states;
    uint32_t *parent;
    uint16_t *action;
    size_t count, room;
    uint64_t *table; /* 32 bits of a state's hash, then its number + 1; or 0 */
    size_t slots;    /* a power of two */
};

/* ---- Packing ---- */

static uint64_t squeeze(uint64_t x)
{
    x = (x | x >> 4) & 0x00ff00ff00ff00ff;
    x = (x | x >> 8) & 0x0000ffff0000ffff;
    return (x | x >> 16) & 0xffffffff;
}

static uint64_t spread(uint64_t x)
{
    x = (x | x << 16) & 0x0000ffff0000ffff;
    x = (x | x << 8) & 0x00ff00ff00ff00ff;
    return (x | x << 4) & 0x0f0f0f0f0f0f0f0f;
}

static struct packed pack(const struct state *s)
{
    uint64_t wide[PACKED / 4] = {0};
    struct packed p = {0};
    memcpy(wide, s, sizeof(*s));
    for (int i = 0; i < PACKED / 8; i++) {
        assert(((wide[2 * i] | wide[2 * i + 1]) & 0xf0f0f0f0f0f0f0f0) == 0);
        p.word[i] = squeeze(wide[2 * i]) | squeeze(wide[2 * i + 1]) << 32;
    }
    return p;
}

static void unpack(const struct packed *p, struct state *s)
{
    uint64_t wide[PACKED / 4] = {0};
    for (int i = 0; i < PACKED / 8; i++) {
        wide[2 * i] = spread(p->word[i] & 0xffffffff);
        wide[2 * i + 1] = spread(p->word[i] >> 32);
    }
    memcpy(s, wide, sizeof(*s));
}

/* ---- The set of known states ---- */

static uint64_t hash(const struct packed *p)
{
    uint64_t h = 0;
    for (int i = 0; i < PACKED / 8; i++) {
        h = (h ^ p->word[i]) * 0x9e3779b97f4a7c15;
        h ^= h >> 32;
    }
    return h;
}

/* Nearly each access misses the caches; half of the time would go into finding its page. */
static void use_large_pages(char *p, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), skip = (page - (uintptr_t)p % page) % page;
    if (size > skip)
        (void)madvise(p + skip, (size - skip) / page * page, MADV_HUGEPAGE);
}

static void *grown(void *old, size_t count, size_t size)
{
    void *p = reallocarray(old, count, size);
    if (p == NULL) {
        perror("model");
        exit(69);
    }
    use_large_pages(p, count * size);
    return p;
}

static void insert(struct search *s, uint32_t number)
{
    uint64_t h = hash(&s->states[number]);
    size_t at = h & (s->slots - 1);
    while (s->table[at] != 0)
        at = (at + 1) & (s->slots - 1);
    s->table[at] = (h & TAG) | (number + 1);
}

static void make_table(struct search *s, size_t slots)
{
    free(s->table);
    s->table = grown(NULL, slots, sizeof(*s->table));
    memset(s->table, 0, slots * sizeof(*s->table));
    s->slots = slots;
    for (size_t i = 0; i < s->count; i++)
        insert(s, (uint32_t)i);
}

static bool is_known(const struct search *s, const struct packed *p, uint64_t h)
{
    uint64_t entry;
    for (size_t at = h & (s->slots - 1); (entry = s->table[at]) != 0;
         at = (at + 1) & (s->slots - 1)) {
        if (((entry ^ h) & TAG) == 0 && memcmp(&s->states[(uint32_t)entry - 1], p, sizeof(*p)) == 0)
            return true;
    }
    return false;
}

static void make_room(struct search *s)
{
    if (s->count == s->room) {
        s->room = s->room * 2;
        s->states = grown(s->states, s->room, sizeof(*s->states));
        s->parent = grown(s->parent, s->room, sizeof(*s->parent));
        s->action = grown(s->action, s->room, sizeof(*s->action));
    }
    if (s->count * 2 >= s->slots)
        make_table(s, s->slots * 2);
}

static void add(struct search *s, const struct packed *p, size_t parent, struct action a)
{
    make_room(s);
    s->states[s->count] = *p;
    s->parent[s->count] = (uint32_t)parent;
    s->action[s->count] = action_pack(a);
    insert(s, (uint32_t)s->count++);
}

/* ---- The way to a state ---- */

static void print_redis(const struct redis *r)
{
    static const char *owners[] = {"-", "A*", "A", "B*", "B"};
    printf("[");
    for (int i = 0; i < r->length; i++)
        printf("%s%d:r%d", i > 0 ? " " : "", r->entry[i].id, r->entry[i].record);
    printf("] last=%d owner=%s added=%d written=%d token=%c claims=%d", r->last, owners[r->owner],
           r->added, r->written, r->token ? '@' + r->token : '-', r->claims);
    for (int i = 0; i < WORKERS * RECORDS; i++) {
        if (r->notes[i / RECORDS][i % RECORDS] != 0)
            printf(" %c:%d:r%d", 'A' + i / RECORDS, r->notes[i / RECORDS][i % RECORDS],
                   i % RECORDS + 1);
    }
}

static void print_worker(const struct worker *k, int w)
{
    static const char *phases[] = {"down", "standby", "open", "read", "written"};
    printf("\n        %c %s", 'A' + w, phases[k->phase]);
    for (int i = 0; i < k->count; i++)
        printf(" %d:r%d", k->batch[i].id, k->batch[i].record);
    printf("; slot offset=%d first=%d last=%d; log", k->slot.offset, k->slot.first, k->slot.last);
    for (int i = 0; i < k->lines; i++)
        printf("%s r%d%s", k->files == 2 && k->boundary == i ? " |" : "", k->line[i] % TORN,
               k->line[i] >= TORN ? "~" : "");
    printf("%s", k->moved ? " (moved)" : "");
}

static void print_state(const struct packed *p, const struct model *m)
{
    struct state s;
    unpack(p, &s);
    printf("        ");
    print_redis(&s.redis);
    for (int w = 0; w < m->bounds.workers; w++)
        print_worker(&s.worker[w], w);
    printf("\n");
}

static void print_way(const struct search *s, size_t number)
{
    char text[128];
    if (number > 0)
        print_way(s, s->parent[number]);
    action_text(action_unpack(s->action[number]), text, sizeof(text));
    printf("    %s\n", text);
    print_state(&s->states[number], s->m);
}

/* ---- The search ---- */

static void begin(struct search *s, const struct model *m)
{
    struct state first;
    struct packed packed;
    memset(&first, 0, sizeof(first));
    first.clock = (uint8_t)(m->bounds.clock ? 3 : 1);
    for (int w = 0; w < WORKERS; w++)
        first.worker[w].files = 1;
    *s = (struct search){.m = m, .room = 1 << 16};
    s->states = grown(NULL, s->room, sizeof(*s->states));
    s->parent = grown(NULL, s->room, sizeof(*s->parent));
    s->action = grown(NULL, s->room, sizeof(*s->action));
    make_table(s, 1 << 18);
    packed = pack(&first);
    add(s, &packed, 0, (struct action){0});
}

/* A state that follows another. */
struct next {
    struct state state;
    struct packed packed;
    uint64_t hash;
    struct action action;
    const char *wrong;
};

static int follow(const struct search *s, size_t number, struct next next[NEXT_MAX])
{
    struct action a = {0};
    struct state from;
    int n = 0;
    unpack(&s->states[number], &from);
    while (action_next(&a, s->m)) {
        struct next *to = &next[n];
        to->state = from;
        to->wrong = NULL;
        if (!action_apply(&to->state, s->m, a, &to->wrong))
            continue;
        to->action = a;
        to->packed = pack(&to->state);
        to->hash = hash(&to->packed);
        __builtin_prefetch(&s->table[to->hash & (s->slots - 1)]);
        n++;
    }
    return n;
}

/* The caches are to have by then what is_known() looks at. */
static void prepare(const struct search *s, const struct next *next, int n)
{
    for (int i = 0; i < n; i++) {
        uint64_t entry = s->table[next[i].hash & (s->slots - 1)];
        if (entry != 0)
            __builtin_prefetch(&s->states[(uint32_t)entry - 1]);
    }
}

/* Adds the states that follow this one. */
static const char *expand(struct search *s, size_t number)
{
    struct next next[NEXT_MAX];
    int n = follow(s, number, next);
    prepare(s, next, n);
    for (int i = 0; i < n; i++) {
        const char *wrong = next[i].wrong;
        if (wrong == NULL && is_known(s, &next[i].packed, next[i].hash))
            continue;
        add(s, &next[i].packed, number, next[i].action);
        if (wrong == NULL)
            wrong = check_state(&next[i].state, s->m);
        if (wrong != NULL)
            return wrong;
    }
    return NULL;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void end(struct search *s)
{
    free(s->states);
    free(s->parent);
    free(s->action);
    free(s->table);
}

struct result explore(const struct model *m, bool print)
{
    struct search s;
    struct result r = {.seconds = now()};
    size_t level = 1;
    begin(&s, m);
    for (size_t i = 0; i < s.count && r.wrong == NULL; i++) {
        if (i == level) {
            r.depth++;
            level = s.count;
        }
        r.wrong = expand(&s, i);
    }
    if (r.wrong != NULL && print)
        print_way(&s, s.count - 1);
    r.states = s.count;
    r.seconds = now() - r.seconds;
    end(&s);
    return r;
}
