/* explore.h: goes through all states of the model, the nearest first. */
#ifndef MODEL_EXPLORE_H
#define MODEL_EXPLORE_H

#include <stddef.h>

#include "state.h"

struct result {
    size_t states;
    int depth;
    const char *wrong; /* NULL when nothing is */
    double seconds;
};

/* Prints the shortest way to what is wrong when print says so. */
struct result explore(const struct model *m, bool print);

#endif
