/* status.h: the optional HTTP port with /metrics, /healthz and /readyz (port.h). */
#ifndef WORKER_STATUS_H
#define WORKER_STATUS_H

#include <stddef.h>

struct event_base;
struct consumer;
struct status;
struct worker_stats;
struct sink;

/* Listens; pointers are borrowed. While it lives, it asks Redis once a second for the figures that
 * only Redis knows. NULL: err holds a sentence. */
struct status *status_new(struct event_base *base, const char *address, struct consumer *consumer,
                          const struct sink *sink, const struct worker_stats *stats,
                          const char *stream, const char *group, char *err, size_t errlen);

/* After the consumer is freed, since its link may still hold questions. NULL is ignored. */
void status_free(struct status *s);

#endif
