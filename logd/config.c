/* config.c: logd's table of options. */
#include "logd/config.h"

#include <unistd.h>

#include "common/daemon-options.h"
#include "common/options.h"

#define BODY_LIMIT (1LL << 30)

#define ROW(name, kind, member) OPTION_ROW(name, kind, struct logd_config, member)

static const struct option_spec specs[] = {
    {DAEMON_LISTEN(struct logd_config, OPTION_LIST, "listen there"), .letter = 'l',
     .default_text = "127.0.0.1:4000"},
    {DAEMON_REDIS(struct logd_config)},
    {DAEMON_STREAM(struct logd_config)},
    {ROW("echo", OPTION_BOOL, echo),
     .help = "print each valid record on standard output as it arrives, and again when it is sent\n"
             "again, in the form of app.log; the default when standard output is a terminal"},
    {ROW("max-body", OPTION_BYTES, max_body), .default_text = "8m", .min = 1, .max = BODY_LIMIT,
     .metavar = "BYTES", .help = "answer 413 to larger bodies"},
    {ROW("max-records", OPTION_NUMBER, max_records), .default_text = "10000", .min = 1,
     .max = 1000000, .metavar = "N", .help = "answer 413 to bodies with more records"},
    {ROW("max-message", OPTION_BYTES, max_message), .default_text = "64k", .min = 1,
     .max = BODY_LIMIT, .metavar = "BYTES", .help = "answer 400 to longer messages"},
    {ROW("max-in-flight", OPTION_BYTES, max_in_flight), .default_text = "64m", .min = 1,
     .max = 1LL << 40, .metavar = "BYTES",
     .help = "answer 503 while more than that waits for Redis, or is being received;\n"
             "logd may need about twice that in memory"},
    {ROW("max-connections", OPTION_NUMBER, max_connections), .default_text = "1000", .min = 1,
     .max = 1000000, .metavar = "N", .help = "accept no more HTTP connections at a time"},
    {ROW("request-timeout", OPTION_MS, request_timeout_ms), .default_text = "10s", .min = 1,
     .max = DAY_MS, .metavar = "TIME",
     .help = "answer 408 when a request is not complete so long after its first byte"},
    {ROW("idle-timeout", OPTION_MS, idle_timeout_ms), .default_text = "60s", .min = 1,
     .max = DAY_MS, .metavar = "TIME",
     .help = "close connections that send no request for so long"},
    {DAEMON_REDIS_TIMEOUT(struct logd_config)},
    {ROW("producer-ttl", OPTION_MS, producer_ttl_ms), .default_text = "7d", .min = 1000,
     .max = 3650LL * DAY_MS, .metavar = "TIME",
     .help = "remember for so long what a producer has sent, from its last batch on"},
    {DAEMON_SHUTDOWN_TIMEOUT(struct logd_config)},
    {DAEMON_LOG_LEVEL(struct logd_config)},
};

static const struct options_program program = {
    .name = "logd",
    .version = LOGPIPE_VERSION,
    .usage = "logd [OPTION...]",
    .summary = "Takes log records over HTTP and puts them into a Redis Stream.",
    .specs = specs,
    .count = sizeof(specs) / sizeof(specs[0]),
};

void config_parse(struct logd_config *c, int argc, char **argv)
{
    char err[256];
    *c = (struct logd_config){.echo = isatty(STDOUT_FILENO)};
    options_parse_or_exit(&program, c, argc, argv);
    diag_set_level(c->log_level);
    if (!redis_url_parse(&c->redis, c->redis_text, err, sizeof(err)))
        diag_die(EXIT_USAGE, "--redis (or LOGD_REDIS): %s", err);
}

void config_free(struct logd_config *c)
{
    option_list_free(&c->listen);
    redis_url_free(&c->redis);
}
