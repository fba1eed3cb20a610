/* config.h: the worker's settings, for main.c and all that it starts. */
#ifndef WORKER_CONFIG_H
#define WORKER_CONFIG_H

#include "common/diag.h"
#include "common/level.h"
#include "common/redis/url.h"

#define BATCH_MAX            10000
#define REDIS_BACKOFF_MIN_MS 50
#define REDIS_BACKOFF_MAX_MS 2000

/* What --fsync may be besides a number of seconds. */
enum fsync_policy {
    FSYNC_BATCH = -1, /* before each commit */
    FSYNC_NEVER = 0,
};

struct config {
    const char *redis_text; /* --redis as it was given */
    struct redis_url redis;
    const char *stream, *output;
    char *dead_key, *owner_key, *account_key; /* owned; derived from stream */
    const char *listen;                       /* of the status port; NULL: none */
    enum level level;                         /* the lowest that is written */
    int64_t batch, batch_bytes;               /* limits of a read: entries, and their bytes */
    int64_t look_back;                        /* bytes of the log that are compared */
    int64_t lease_ms;
    int64_t fsync_s; /* seconds between two, or enum fsync_policy */
    int64_t redis_timeout_ms, shutdown_timeout_ms;
    enum diag_level log_level; /* in force */
};

/* Exits after --help and --version, and with EXIT_USAGE after a mistake. */
void config_parse(struct config *c, int argc, char **argv);

void config_free(struct config *c);

#endif
