/* metrics.h: writes the Prometheus text exposition format 0.0.4. Both daemons use it. */
#ifndef COMMON_METRICS_H
#define COMMON_METRICS_H

#include <stdint.h>

#include "common/buf.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* One metric with its HELP and TYPE lines and one sample without labels. */
void metrics_counter(struct buf *out, const char *name, const char *help, uint64_t value);
void metrics_gauge(struct buf *out, const char *name, const char *help, double value);

/* When the process started, in milliseconds since 1970 UTC. All Prometheus clients have this
 * metric. */
void metrics_start_time(struct buf *out, int64_t start_ms);

/* A metric with labels: first the HELP and TYPE lines, then one sample a call. `labels` is such as
 * "code=\"200\"". */
void metrics_head(struct buf *out, const char *name, const char *type, const char *help);
void metrics_sample(struct buf *out, const char *name, const char *labels, uint64_t value);

#endif
