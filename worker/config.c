/* config.c: the worker's table of options. */
#include "worker/config.h"

#include <stdlib.h>
#include <string.h>

#include "common/daemon-options.h"
#include "common/options.h"
#include "common/redis/keys.h"

#define ROW(name, kind, member) OPTION_ROW(name, kind, struct config, member)

static const char *check_output(const char *value)
{
    if (strcmp(value, "-") == 0)
        return "standard output is not supported yet; give a file (./- for one of that name)";
    return option_check_name(value);
}

static const struct option_spec specs[] = {
    {DAEMON_REDIS(struct config)},
    {DAEMON_STREAM(struct config)},
    {ROW("output", OPTION_STRING, output), .letter = 'o', .default_text = "app.log",
     .metavar = "FILE", .check = check_output,
     .help = "the log file; beside it FILE.state says where the batch in hand begins"},
    {ROW("level", OPTION_LEVEL, level), .letter = 'l', .default_text = "warn", .metavar = "LEVEL",
     .help = "write this level and above: " LEVEL_NAMES},
    {ROW("batch", OPTION_NUMBER, batch), .default_text = "1000", .min = 1, .max = BATCH_MAX,
     .metavar = "N", .help = "read and commit at most so many entries at a time"},
    {ROW("batch-bytes", OPTION_BYTES, batch_bytes), .default_text = "1m", .min = 4096,
     .max = 1 << 28, .metavar = "BYTES",
     .help = "read and commit at most about so much at a time, but at least one entry"},
    {ROW("lease", OPTION_MS, lease_ms), .default_text = "10s", .min = 100, .max = DAY_MS,
     .metavar = "TIME",
     .help = "another worker may take the stream when nothing was heard of its owner for so long"},
    {ROW("look-back", OPTION_BYTES, look_back), .default_text = "64m", .min = 1 << 20,
     .max = 1LL << 40, .metavar = "BYTES",
     .help = "compare at most so much of the log with what Redis still holds"},
    {ROW("fsync", OPTION_SECONDS, fsync_s), .default_text = "never", .min = 1, .max = 86400,
     .choices = OPTION_CHOICES({"never", FSYNC_NEVER}, {"batch", FSYNC_BATCH}), .metavar = "WHEN",
     .help = "never, batch (before each commit), or every so many seconds;\n"
             "only a power cut or a crash of the system makes a difference"},
    {DAEMON_LISTEN(struct config, OPTION_STRING, "answer /metrics, /healthz and /readyz there")},
    {DAEMON_REDIS_TIMEOUT(struct config)},
    {DAEMON_SHUTDOWN_TIMEOUT(struct config)},
    {DAEMON_LOG_LEVEL(struct config)},
};

static const struct options_program program = {
    .name = "logworker",
    .version = LOGPIPE_VERSION,
    .usage = "logworker [OPTION...]",
    .summary = "Writes the records of a Redis Stream to a log file, each exactly once.",
    .specs = specs,
    .count = sizeof(specs) / sizeof(specs[0]),
};

void config_parse(struct config *c, int argc, char **argv)
{
    char err[256];
    *c = (struct config){0};
    options_parse_or_exit(&program, c, argc, argv);
    diag_set_level(c->log_level);
    if (!redis_url_parse(&c->redis, c->redis_text, err, sizeof(err)))
        diag_die(EXIT_USAGE, "--redis (or LOGWORKER_REDIS): %s", err);
    c->dead_key = key_new(c->stream, KEY_DEAD);
    c->owner_key = key_new(c->stream, KEY_OWNER);
    c->account_key = key_new(c->stream, KEY_ACCOUNT);
    if (c->dead_key == NULL || c->owner_key == NULL || c->account_key == NULL)
        diag_die(EXIT_ENVIRONMENT, "out of memory");
}

void config_free(struct config *c)
{
    redis_url_free(&c->redis);
    free(c->dead_key);
    free(c->owner_key);
    free(c->account_key);
}
