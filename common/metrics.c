/* metrics.c: writes the Prometheus text format. Both daemons use it. */
#include "common/metrics.h"

#include <inttypes.h>
#include <math.h>

/* In HELP text a backslash and a line feed are escaped. */
static void add_help(struct buf *out, const char *help)
{
    for (; *help != '\0'; help++) {
        if (*help == '\\')
            buf_add_lit(out, "\\\\");
        else if (*help == '\n')
            buf_add_lit(out, "\\n");
        else
            buf_add_char(out, *help);
    }
}

void metrics_head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s ", name);
    add_help(out, help);
    buf_printf(out, "\n# TYPE %s %s\n", name, type);
}

void metrics_counter(struct buf *out, const char *name, const char *help, uint64_t value)
{
    metrics_head(out, name, "counter", help);
    buf_printf(out, "%s %" PRIu64 "\n", name, value);
}

void metrics_gauge(struct buf *out, const char *name, const char *help, double value)
{
    metrics_head(out, name, "gauge", help);
    if (isnan(value))
        buf_printf(out, "%s NaN\n", name);
    else if (isinf(value))
        buf_printf(out, "%s %cInf\n", name, value > 0 ? '+' : '-');
    else
        buf_printf(out, "%s %.15g\n", name, value);
}

void metrics_start_time(struct buf *out, int64_t start_ms)
{
    metrics_gauge(out, "process_start_time_seconds",
                  "When the process started, in seconds since 1970 UTC.",
                  (double)start_ms / 1000.0);
}

void metrics_sample(struct buf *out, const char *name, const char *labels, uint64_t value)
{
    buf_printf(out, "%s{%s} %" PRIu64 "\n", name, labels, value);
}
