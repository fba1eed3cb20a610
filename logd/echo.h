/* echo.h: prints valid records on standard output as they arrive, before api.c stores them, and
 * never waits for their reader. */
#ifndef LOGD_ECHO_H
#define LOGD_ECHO_H

#include <stddef.h>

#include "logd/stats.h"

struct echo;

/* Writes to `fd`, which is not closed. Lines that cannot be written at once are counted in
 * stats->echo_dropped. NULL: out of memory. */
struct echo *echo_new(int fd, struct logd_stats *stats);

/* Writes whole lines of JSON; to a terminal, with their control characters escaped. */
void echo_write(struct echo *e, const char *lines, size_t n);

void echo_free(struct echo *e);

#endif
