/* notes.h: what logs tell each other in the model (doc/protocol.md, section 5.4). For script.c and
 * worker.c. */
#ifndef MODEL_NOTES_H
#define MODEL_NOTES_H

#include "state.h"

/* Bits of the lines behind the slot's offset, in its file. */
unsigned notes_lines_behind(const struct worker *k);

/* Do the notes of other logs have all lines of the batch in hand? */
bool notes_cover(const struct worker *k, const struct model *m, const uint8_t *notes);

#endif
