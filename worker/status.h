/* status.h: the status port (--listen): /metrics, /healthz and /readyz. For main.c. */
#ifndef WORKER_STATUS_H
#define WORKER_STATUS_H

#include <stddef.h>

#include "worker/config.h"

struct event_base;
struct consumer;
struct sink;
struct status;
struct worker_stats;

/* Listens on config->listen. All pointers are borrowed. NULL: err holds a sentence. */
struct status *status_new(struct event_base *base, const struct config *config,
                          struct consumer *consumer, const struct sink *sink,
                          const struct worker_stats *stats, char *err, size_t errlen);

/* After the event loop has ended. NULL is ignored. */
void status_free(struct status *s);

#endif
