/* action.h: everything that can happen in a state of the model. */
#ifndef MODEL_ACTION_H
#define MODEL_ACTION_H

#include <stddef.h>

#include "state.h"

struct action {
    uint8_t kind, worker, arg;
};

/* Goes through all actions: starts with {0}. Returns false behind the last one. */
bool action_next(struct action *a, const struct model *m);

/* Returns false when it can't happen in s, which may be changed all the same. *wrong is set to a
 * sentence when the action itself breaks a rule, else left alone. */
bool action_apply(struct state *s, const struct model *m, struct action a, const char **wrong);

/* Writes what the action is, in words. */
void action_text(struct action a, char *text, size_t size);

uint16_t action_pack(struct action a);
struct action action_unpack(uint16_t packed);

#endif
