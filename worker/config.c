#include "worker/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/diag.h"
#include "common/http/listening.h"
#include "common/record.h"
#include "common/redis/keys.h"

#define DAY_MS    86400000
#define MAX_BYTES (1LL << 30)

static struct config parsed;
static const char *redis, *level, *fsync_text; /* of it, as they were given */

static const char *check_name(const char *value)
{
    return *value == '\0' ? "give a name" : NULL;
}

static const char *check_level(const char *value)
{
    return level_parse(value, strlen(value)) == LEVEL_INVALID ? "give one of " LEVEL_NAMES : NULL;
}

/* "never": 0; "batch": -1; else seconds as milliseconds. False: none of these. */
static bool parse_fsync(const char *value, int64_t *ms)
{
    char *end;
    long seconds;
    *ms = strcmp(value, "batch") == 0 ? -1 : 0;
    if (*ms != 0 || strcmp(value, "never") == 0)
        return true;
    errno = 0;
    seconds = strtol(value, &end, 10);
    *ms = seconds * 1000;
    if (*end == 's')
        end++;
    return errno == 0 && *value >= '1' && *value <= '9' && *end == '\0' && seconds <= 86400;
}

static const char *check_fsync(const char *value)
{
    int64_t ms;
    return parse_fsync(value, &ms) ? NULL
                                   : "give never, batch, or a number of seconds from 1 to 86400";
}

static const struct option_spec specs[] = {
    {.name = "redis",
     .letter = 'r',
     .type = OPTION_STRING,
     .target = &redis,
     .default_text = "redis://127.0.0.1:6379",
     .metavar = "URL",
     .help = "where Redis is: redis://[USER:PASSWORD@]HOST[:PORT][/DB]\nor "
             "unix://[USER:PASSWORD@]/PATH[?db=N]; percent-encoded"},
    {.name = "stream",
     .letter = 's',
     .type = OPTION_STRING,
     .target = &parsed.stream,
     .default_text = "logs-stream",
     .metavar = "KEY",
     .check = check_name,
     .help = "the stream to read"},
    {.name = "group",
     .type = OPTION_STRING,
     .target = &parsed.group,
     .default_text = "logworkers",
     .metavar = "NAME",
     .check = check_name,
     .help = "the consumer group; it is made if it is missing"},
    {.name = "consumer",
     .type = OPTION_STRING,
     .target = &parsed.consumer,
     .default_text = "logworker",
     .metavar = "NAME",
     .check = check_name,
     .help = "the name in the group; one name belongs to one log file"},
    {.name = "output",
     .letter = 'o',
     .type = OPTION_STRING,
     .target = &parsed.output,
     .default_text = "app.log",
     .metavar = "FILE",
     .check = check_name,
     .help = "the log file; beside it FILE.state keeps what is committed"},
    {.name = "level",
     .letter = 'l',
     .type = OPTION_STRING,
     .target = &level,
     .default_text = "warn",
     .metavar = "LEVEL",
     .check = check_level,
     .help = "write this level and above: " LEVEL_NAMES},
    {.name = "batch",
     .type = OPTION_NUMBER,
     .target = &parsed.batch,
     .default_text = "128",
     .min = 1,
     .max = BATCH_MAX,
     .metavar = "N",
     .help = "read and commit at most so many entries at a time"},
    {.name = "fsync",
     .type = OPTION_STRING,
     .target = &fsync_text,
     .default_text = "never",
     .metavar = "WHEN",
     .check = check_fsync,
     .help = "never, batch (before each acknowledgement), or every so many seconds;\n"
             "only a power cut or a crash of the system makes a difference"},
    {.name = "listen",
     .type = OPTION_STRING,
     .target = &parsed.listen,
     .metavar = "ADDR:PORT",
     .check = listen_check,
     .help = "answer /metrics, /healthz and /readyz there; port 0 takes a free one"},
    {.name = "max-message",
     .type = OPTION_BYTES,
     .target = &parsed.message_max,
     .default_text = "64k",
     .min = 1,
     .max = MAX_BYTES,
     .metavar = "BYTES",
     .help = "longer messages are malformed; logd has the same option"},
    {.name = "redis-timeout",
     .type = OPTION_MS,
     .target = &parsed.redis_timeout_ms,
     .default_text = "5s",
     .min = 1,
     .max = DAY_MS,
     .metavar = "TIME",
     .help = "give a connection to Redis up from which nothing comes for so long, though an answer "
             "is due"},
    {.name = "shutdown-timeout",
     .type = OPTION_MS,
     .target = &parsed.shutdown_timeout_ms,
     .default_text = "10s",
     .min = 1,
     .max = DAY_MS,
     .metavar = "TIME",
     .help = "after SIGTERM, wait at most so long for the disk and for Redis"},
};

static void derive(struct config *c)
{
    char err[256];
    if (!redis_url_parse(&c->redis, redis, err, sizeof(err)))
        diag_die(EXIT_USAGE, "--redis (or LOGWORKER_REDIS): %s", err);
    c->level = level_parse(level, strlen(level));
    parse_fsync(fsync_text, &c->fsync_interval_ms);
    c->fsync_batch = c->fsync_interval_ms < 0;
    if (c->fsync_batch)
        c->fsync_interval_ms = 0;
    c->dead_key = key_new(c->stream, KEY_DEAD);
    c->lineage_key = key_new(c->stream, KEY_LINEAGE);
    if (c->dead_key == NULL || c->lineage_key == NULL)
        diag_die(EXIT_ENVIRONMENT, "out of memory");
}

void config_parse(struct config *c, int argc, char **argv)
{
    const struct options_program program = {
        .name = "logworker",
        .version = LOGPIPE_VERSION,
        .usage = "logworker [OPTION...]",
        .summary = "Writes the records of a Redis Stream to a log file, each exactly once.",
        .specs = specs,
        .count = sizeof(specs) / sizeof(specs[0]),
    };
    char err[512];
    switch (options_parse(&program, argc, argv, NULL, err, sizeof(err))) {
    case OPTIONS_RUN:
        *c = parsed;
        derive(c);
        return;
    case OPTIONS_EXIT:
        exit(EXIT_OK);
    case OPTIONS_ERROR:
        break;
    }
    diag_die(EXIT_USAGE, "%s", err);
}

void config_free(struct config *c)
{
    redis_url_free(&c->redis);
    free(c->dead_key);
    free(c->lineage_key);
}
