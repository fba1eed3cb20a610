/* check.h: what must hold in every state of the model, and at the end of every run. */
#ifndef MODEL_CHECK_H
#define MODEL_CHECK_H

#include "state.h"

/* After a rollback or a removal: notes which records Redis has lost before they were in a log, and
 * what else the checks have to know of it. */
void check_losses(struct state *s);

/* A sentence about what is wrong, or NULL. */
const char *check_state(const struct state *s, const struct model *m);

#endif
