/* worker.h: a worker in the model. Each function is a step, in which nobody else does anything. */
#ifndef MODEL_WORKER_H
#define MODEL_WORKER_H

#include "script.h"
#include "state.h"

enum { ALL_STEPS = 15 };

/* Each returns false when the worker is in no phase for it, or when it would change nothing. */
bool worker_start(struct worker *k, const struct model *m);
bool worker_open(struct state *s, const struct model *m, int w);
bool worker_release(struct state *s, const struct model *m, int w); /* and ends, as on SIGTERM */
bool worker_look(struct state *s, int w);                           /* is the opening still good? */
bool worker_read(struct state *s, const struct model *m, int w, int count); /* of at most count */

/* Compares the batch with the log and writes what is missing, up to this number of steps on the
 * disk. Returns how many there were. */
int worker_write(struct state *s, const struct model *m, int w, int steps);

enum commit_result worker_commit(struct state *s, const struct model *m, int w);

/* What it had in memory is gone, and the process too, or only its connections. */
void worker_kill(struct worker *k);
void worker_disconnect(struct worker *k);

/* The commit that it was about to send. */
struct commit worker_batch(const struct worker *k, int w);

/* How often the line of the record stands in the log. */
int worker_lines_of(const struct worker *k, uint8_t record);

#endif
