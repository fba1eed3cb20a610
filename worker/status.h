/* status.h: the optional HTTP port with /metrics, /healthz and /readyz: the only file of the worker
 * that knows evhttp. */
#ifndef WORKER_STATUS_H
#define WORKER_STATUS_H

#include <stddef.h>

struct event_base;
struct consumer;
struct status;
struct stats;
struct writer;

/* NULL, or what is to be done about an address: the check of the option. */
const char *status_check(const char *address);

/* Listens; pointers are borrowed. While it lives, it asks Redis once a second for the figures that
 * only Redis knows. NULL: err holds a sentence. */
struct status *status_new(struct event_base *base, const char *address, struct consumer *consumer,
                          const struct writer *writer, const struct stats *stats,
                          const char *stream, const char *group, char *err, size_t errlen);

/* After the consumer is freed, since its link may still hold questions. NULL is ignored. */
void status_free(struct status *s);

#endif
