/* api.h: what logd answers to each request: POST /api/log, /healthz, /readyz and /metrics. main.c
 * gives it to the HTTP server. */
#ifndef LOGD_API_H
#define LOGD_API_H

#include <stddef.h>

#include "common/http/message.h"
#include "logd/echo.h"
#include "logd/stats.h"
#include "logd/store.h"

struct api {
    struct store *store; /* all borrowed */
    struct echo *echo;   /* NULL: records are not echoed */
    struct logd_stats *stats;
    size_t max_records;
    size_t max_message; /* bytes */
    struct buf lines;   /* scratch, owned */
};

/* For http_config.headers. */
extern const char *const api_headers[];

/* The handler for http_config.handle; `arg` is a struct api. */
void api_handle(struct http_exchange *x, const struct http_request *r, void *arg);

void api_free(struct api *a);

#endif
