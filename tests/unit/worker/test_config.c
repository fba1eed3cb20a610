/* test_config.c: the worker's options and what follows from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "worker/config.h"
#include "tests/unit/common/child.h"

static struct config config;
static char text[16384];

/* Parses the words of a line, which are split at spaces. */
static void parse(const void *line)
{
    char *argv[WORDS_MAX];
    int argc = split_words(argv, (char[]){"logworker"}, line);
    config_parse(&config, argc, argv);
}

static void refused(const char *line, const char *message)
{
    assert_int_equal(run_child(parse, line, text, sizeof(text)), EXIT_USAGE);
    assert_non_null(strstr(text, message));
}

static int setup(void **state)
{
    (void)state;
    return clearenv();
}

static int teardown(void **state)
{
    (void)state;
    config_free(&config);
    config = (struct config){0};
    return 0;
}

static void test_defaults(void **state)
{
    (void)state;
    parse("");
    assert_string_equal(config.redis.shown, "redis://127.0.0.1:6379");
    assert_string_equal(config.stream, "logs-stream");
    assert_string_equal(config.output, "app.log");
    assert_string_equal(config.dead_key, "logs-stream:dead");
    assert_string_equal(config.owner_key, "logs-stream:owner");
    assert_string_equal(config.account_key, "logs-stream:account");
    assert_null(config.listen);
    assert_int_equal(config.level, LEVEL_WARN);
    assert_int_equal(config.batch, 1000);
    assert_int_equal(config.batch_bytes, 1 << 20);
    assert_int_equal(config.look_back, 64 << 20);
    assert_int_equal(config.lease_ms, 10000);
    assert_int_equal(config.fsync_s, FSYNC_NEVER);
    assert_int_equal(config.redis_timeout_ms, 5000);
    assert_int_equal(config.shutdown_timeout_ms, 10000);
    assert_int_equal(config.log_level, DIAG_INFO);
}

static void test_the_command_line_wins(void **state)
{
    (void)state;
    setenv("LOGWORKER_LEVEL", "trace", 1);
    setenv("LOGWORKER_BATCH", "7", 1);
    setenv("LOGWORKER_LOG_LEVEL", "warn", 1);
    parse("--batch 9 -s {logs} -o ./- --listen 127.0.0.1:0");
    assert_int_equal(config.level, LEVEL_TRACE);
    assert_int_equal(config.batch, 9);
    assert_string_equal(config.dead_key, "{logs}:dead");
    assert_string_equal(config.owner_key, "{logs}:owner");
    assert_string_equal(config.account_key, "{logs}:account");
    assert_string_equal(config.output, "./-");
    assert_string_equal(config.listen, "127.0.0.1:0");
    assert_int_equal(config.log_level, DIAG_WARN);
}

static void test_levels_have_aliases(void **state)
{
    (void)state;
    parse("-l Warning");
    assert_int_equal(config.level, LEVEL_WARN);
    config_free(&config);
    parse("--level=critical");
    assert_int_equal(config.level, LEVEL_FATAL);
}

static void test_fsync_is_a_word_or_a_time(void **state)
{
    static const struct {
        char line[24];
        int64_t seconds;
    } cases[] = {{"--fsync=batch", FSYNC_BATCH},
                 {"--fsync=never", FSYNC_NEVER},
                 {"--fsync=1", 1},
                 {"--fsync=30s", 30},
                 {"--fsync=86400", 86400}};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        parse(cases[i].line);
        assert_int_equal(config.fsync_s, cases[i].seconds);
        teardown(NULL);
    }
    refused("--fsync=0", "--fsync: \"0\" is not valid: give never, batch or a time");
    refused("--fsync=-1", "--fsync: \"-1\" is not valid");
    refused("--fsync=86401", "from 1s to 1d");
}

static void test_bounds(void **state)
{
    (void)state;
    parse("--batch-bytes=4k --look-back=1g --lease=100ms");
    assert_int_equal(config.batch_bytes, 4096);
    assert_int_equal(config.look_back, 1 << 30);
    assert_int_equal(config.lease_ms, 100);
    teardown(NULL);
    refused("--batch-bytes=4095", "--batch-bytes: \"4095\" is not valid");
    refused("--batch-bytes=257m", "--batch-bytes: \"257m\" is not valid");
    refused("--look-back=1023k", "--look-back: \"1023k\" is not valid");
    refused("--lease=99ms", "--lease: \"99ms\" is not valid");
    refused("--lease=0", "--lease: \"0\" is not valid");
}

/* Nothing reads by a group any more. */
static void test_groups_have_no_option(void **state)
{
    (void)state;
    refused("--group=g", "unknown option --group");
    refused("--consumer=c", "unknown option --consumer");
}

static void test_standard_output_is_not_supported_yet(void **state)
{
    (void)state;
    refused("-o -", "-o: \"-\" is not valid: standard output is not supported yet; give a file "
                    "(./- for one of that name)");
    setenv("LOGWORKER_OUTPUT", "-", 1);
    refused("", "environment variable LOGWORKER_OUTPUT: \"-\" is not valid: standard output");
}

static void test_messages_have_no_limit_of_the_workers(void **state)
{
    (void)state;
    refused("--max-message=64k", "unknown option --max-message");
    setenv("LOGWORKER_MAX_MESSAGE", "nonsense", 1);
    parse("");
    assert_string_equal(config.stream, "logs-stream");
}

static void test_mistakes_end_the_process(void **state)
{
    (void)state;
    refused("--stream=", "--stream: \"\" is not valid: give a name");
    refused("--output=", "--output: \"\" is not valid: give a name");
    refused("--level=loud", "--level: \"loud\" is not valid: give one of trace, debug");
    refused("--batch=10001", "from 1 to 10000");
    refused("--log-level=loud",
            "--log-level: \"loud\" is not valid: give debug, info, warn or error");
    refused("--redis=http://x", "--redis (or LOGWORKER_REDIS): ");
}

static void test_help_and_version_end_it_well(void **state)
{
    (void)state;
    assert_int_equal(run_child(parse, "--help", text, sizeof(text)), EXIT_OK);
    assert_non_null(strstr(text, "LOGWORKER_LOG_LEVEL"));
    assert_int_equal(run_child(parse, "--version", text, sizeof(text)), EXIT_OK);
    assert_string_equal(text, "logworker " LOGPIPE_VERSION "\n");
}

static void parse_and_say(const void *line)
{
    parse(line);
    diag_debug("a detail");
}

static void test_the_log_level_is_in_force(void **state)
{
    (void)state;
    run_child(parse_and_say, "--log-level=debug", text, sizeof(text));
    assert_non_null(strstr(text, "a detail"));
    run_child(parse_and_say, "", text, sizeof(text));
    assert_string_equal(text, "");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),
        TEST(test_the_command_line_wins),
        TEST(test_levels_have_aliases),
        TEST(test_fsync_is_a_word_or_a_time),
        TEST(test_bounds),
        TEST(test_groups_have_no_option),
        TEST(test_standard_output_is_not_supported_yet),
        TEST(test_messages_have_no_limit_of_the_workers),
        TEST(test_mistakes_end_the_process),
        TEST(test_help_and_version_end_it_well),
        TEST(test_the_log_level_is_in_force),
    };
    return cmocka_run_group_tests_name("the worker's config", tests, NULL, NULL);
}
