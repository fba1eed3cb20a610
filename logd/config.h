/* config.h: logd's settings, for main.c. */
#ifndef LOGD_CONFIG_H
#define LOGD_CONFIG_H

#include "common/diag.h"
#include "common/option.h"
#include "common/redis/url.h"

struct logd_config {
    struct option_list listen; /* each passes listen_check() */
    const char *redis_text;    /* --redis as it was given */
    struct redis_url redis;
    const char *stream;
    bool echo;
    int64_t max_body, max_message; /* bytes */
    int64_t max_in_flight;         /* bytes */
    int64_t max_records, max_connections;
    int64_t request_timeout_ms, idle_timeout_ms, redis_timeout_ms, shutdown_timeout_ms;
    int64_t producer_ttl_ms;
    enum diag_level log_level; /* in force */
};

/* Exits after --help and --version, and with EXIT_USAGE after a mistake. */
void config_parse(struct logd_config *c, int argc, char **argv);

void config_free(struct logd_config *c);

#endif
