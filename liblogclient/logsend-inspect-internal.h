/* logsend-inspect-internal.h: logsend --inspect. For logsend.c. */
#ifndef LC_LOGSEND_INSPECT_INTERNAL_H
#define LC_LOGSEND_INSPECT_INTERNAL_H

#include <stdbool.h>

/* Lists the rings of a directory on standard output, with their records as lines of app.log when
 * `print`. Returns an exit code. */
int logsend_inspect(const char *dir, bool print);

#endif
