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
    {ROW("group", OPTION_STRING, group), .default_text = "logworkers", .metavar = "NAME",
     .check = option_check_name, .help = "the consumer group; it is made if it is missing"},
    {ROW("consumer", OPTION_STRING, consumer), .default_text = "logworker", .metavar = "NAME",
     .check = option_check_name, .help = "the name in the group; one name belongs to one log file"},
    {ROW("output", OPTION_STRING, output), .letter = 'o', .default_text = "app.log",
     .metavar = "FILE", .check = check_output,
     .help = "the log file; beside it FILE.state keeps what is committed"},
    {ROW("level", OPTION_LEVEL, level), .letter = 'l', .default_text = "warn", .metavar = "LEVEL",
     .help = "write this level and above: " LEVEL_NAMES},
    {ROW("batch", OPTION_NUMBER, batch), .default_text = "128", .min = 1, .max = BATCH_MAX,
     .metavar = "N", .help = "read and commit at most so many entries at a time"},
    {ROW("fsync", OPTION_SECONDS, fsync_s), .default_text = "never", .min = 1, .max = 86400,
     .choices = OPTION_CHOICES({"never", FSYNC_NEVER}, {"batch", FSYNC_BATCH}), .metavar = "WHEN",
     .help = "never, batch (before each acknowledgement), or every so many seconds;\n"
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
    c->lineage_key = key_new(c->stream, KEY_LINEAGE);
    if (c->dead_key == NULL || c->lineage_key == NULL)
        diag_die(EXIT_ENVIRONMENT, "out of memory");
}

void config_free(struct config *c)
{
    redis_url_free(&c->redis);
    free(c->dead_key);
    free(c->lineage_key);
}
