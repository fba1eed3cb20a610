/* logsend-input-internal.h: what logsend sends, words or lines of standard input. For logsend.c. */
#ifndef LC_LOGSEND_INPUT_INTERNAL_H
#define LC_LOGSEND_INPUT_INTERNAL_H

#include "logsend-run-internal.h"

/* The remedy for a text that is no service; NULL when it is one. Static. */
const char *logsend_check_service(const char *value);

/* Sends the words as one message. Sets run->failed, with a message, when it could not. */
void logsend_operands(struct logsend_run *run, int count, char **words);

/* Sends each line of standard input. Sets run->failed, with a message, for a line that it could
 * not send. */
void logsend_lines(struct logsend_run *run);

#endif
