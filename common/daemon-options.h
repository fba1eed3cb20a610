/* daemon-options.h: the rows that the tables of logd and logworker have in common. `settings` is
 * the struct of the table; its members have the names that stand here. */
#ifndef COMMON_DAEMON_OPTIONS_H
#define COMMON_DAEMON_OPTIONS_H

#include "common/diag.h"
#include "common/http/listening.h"
#include "common/option.h"

#define DAY_MS 86400000

/* const char *redis_text. It may hold a password: only redis_url_parse() may complain about it. */
#define DAEMON_REDIS(settings)                                                                     \
    OPTION_ROW("redis", OPTION_STRING, settings, redis_text),                                      \
        .letter = 'r', .default_text = "redis://127.0.0.1:6379", .metavar = "URL",                 \
        .help = "where Redis is: redis://[USER:PASSWORD@]HOST[:PORT][/DB]\n"                       \
                "or unix://[USER:PASSWORD@]/PATH[?db=N]; percent-encoded"

/* const char *stream */
#define DAEMON_STREAM(settings)                                                                    \
    OPTION_ROW("stream", OPTION_STRING, settings, stream),                                         \
        .letter = 's', .default_text = "logs-stream", .metavar = "KEY",                            \
        .check = option_check_name, .help = "the Redis Stream that carries the records"

/* const char *listen, or struct option_list listen */
#define DAEMON_LISTEN(settings, kind, what)                                                        \
    OPTION_ROW("listen", kind, settings, listen),                                                  \
        .metavar = "ADDR:PORT", .check = listen_check,                                             \
        .help = what "; a numeric address, IPv6 in brackets; port 0 takes a free one"

/* int64_t redis_timeout_ms */
#define DAEMON_REDIS_TIMEOUT(settings)                                                             \
    OPTION_ROW("redis-timeout", OPTION_MS, settings, redis_timeout_ms),                            \
        .default_text = "5s", .min = 1, .max = DAY_MS, .metavar = "TIME",                          \
        .help =                                                                                    \
            "give up a connection to Redis from which nothing comes for so long while an answer "  \
            "is due"

/* int64_t shutdown_timeout_ms */
#define DAEMON_SHUTDOWN_TIMEOUT(settings)                                                          \
    OPTION_ROW("shutdown-timeout", OPTION_MS, settings, shutdown_timeout_ms),                      \
        .default_text = "10s", .max = DAY_MS, .metavar = "TIME",                                   \
        .help = "after SIGTERM or SIGINT, take at most so long to finish what has begun"

/* enum diag_level log_level */
#define DAEMON_LOG_LEVEL(settings)                                                                 \
    OPTION_ROW("log-level", OPTION_CHOICE, settings, log_level),                                   \
        .default_text = "info", .metavar = "LEVEL",                                                \
        .choices = OPTION_CHOICES({"debug", DIAG_DEBUG}, {"info", DIAG_INFO}, {"warn", DIAG_WARN}, \
                                  {"error", DIAG_ERROR}),                                          \
        .help =                                                                                    \
            "print diagnostics of this level and above: debug (each change of a state), info, "    \
            "warn or error"

#endif
