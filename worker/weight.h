/* weight.h: how many entries to ask for, by what the last ones weighed (doc/protocol.md, section
 * 3.3). The consumer uses it. */
#ifndef WORKER_WEIGHT_H
#define WORKER_WEIGHT_H

#include <stddef.h>
#include <stdint.h>

struct weight {
    int64_t entries_max, bytes_max; /* of a batch */
    int64_t ceiling;                /* of the next counts: lower after a read that failed */
    int64_t careful;                /* entries that have to pass until the ceiling rises */
    int64_t count;                  /* to ask for */
    size_t heaviest;                /* bytes of the heaviest entry of late */
};

static inline int64_t weight_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Before the first read after an opening. */
static inline void weight_begin(struct weight *w)
{
    w->count = 1;
}

/* After a read that brought so many entries, the heaviest of which had so many bytes. */
static inline void weight_learn(struct weight *w, uint64_t entries, size_t heaviest)
{
    int64_t fits;
    w->heaviest -= w->heaviest / 4;
    if (heaviest > w->heaviest)
        w->heaviest = heaviest;
    fits = w->bytes_max / (int64_t)w->heaviest;
    w->careful -= weight_least(w->careful, (int64_t)entries);
    if (w->careful == 0)
        w->ceiling = weight_least(w->ceiling * 2, w->entries_max);
    w->count = weight_least(weight_least(w->count * 8, w->ceiling), fits > 1 ? fits : 1);
}

/* After a read that did not fit into memory, or whose connection broke. */
static inline void weight_fail(struct weight *w)
{
    w->ceiling = w->count > 8 ? w->count / 8 : 1;
    w->careful = w->count;
}

#endif
