/* test_config.c: logd's options and what follows from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "logd/config.h"
#include "tests/unit/common/child.h"

static struct logd_config config;
static char text[16384];

/* Parses the words of a line, which are split at spaces. */
static void parse(const void *line)
{
    char *argv[WORDS_MAX];
    int argc = split_words(argv, (char[]){"logd"}, line);
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
    config = (struct logd_config){0};
    return 0;
}

static void test_defaults(void **state)
{
    (void)state;
    parse("");
    assert_int_equal(config.listen.count, 1);
    assert_string_equal(config.listen.item[0], "127.0.0.1:4000");
    assert_string_equal(config.redis.shown, "redis://127.0.0.1:6379");
    assert_string_equal(config.stream, "logs-stream");
    assert_int_equal(config.echo, isatty(STDOUT_FILENO));
    assert_int_equal(config.max_body, 8 << 20);
    assert_int_equal(config.max_records, 10000);
    assert_int_equal(config.max_message, 64 << 10);
    assert_int_equal(config.max_in_flight, 64 << 20);
    assert_int_equal(config.max_connections, 1000);
    assert_int_equal(config.request_timeout_ms, 10000);
    assert_int_equal(config.idle_timeout_ms, 60000);
    assert_int_equal(config.redis_timeout_ms, 5000);
    assert_int_equal(config.producer_ttl_ms, 7 * 86400000);
    assert_int_equal(config.shutdown_timeout_ms, 10000);
    assert_int_equal(config.log_level, DIAG_INFO);
}

static void test_the_command_line_wins(void **state)
{
    (void)state;
    setenv("LOGD_LISTEN", "127.0.0.1:1,[::1]:2", 1);
    setenv("LOGD_STREAM", "from-env", 1);
    setenv("LOGD_LOG_LEVEL", "error", 1);
    parse("-s given -r unix:///run/redis.sock?db=3 --no-echo --shutdown-timeout=0");
    assert_int_equal(config.listen.count, 2);
    assert_string_equal(config.listen.item[1], "[::1]:2");
    assert_string_equal(config.stream, "given");
    assert_string_equal(config.redis.path, "/run/redis.sock");
    assert_int_equal(config.redis.db, 3);
    assert_false(config.echo);
    assert_int_equal(config.shutdown_timeout_ms, 0);
    assert_int_equal(config.log_level, DIAG_ERROR);
}

static void test_echo_is_off_where_nobody_looks(void **state)
{
    (void)state;
    parse("--no-echo");
    assert_false(config.echo);
    config_free(&config);
    parse("--echo");
    assert_true(config.echo);
}

static void test_mistakes_end_the_process(void **state)
{
    (void)state;
    refused("--stream=", "--stream: \"\" is not valid: give a name");
    refused("--listen=x", "--listen: \"x\" is not valid: no port");
    refused("--max-body=0", "from 1 to 1g");
    refused("--log-level=loud",
            "--log-level: \"loud\" is not valid: give debug, info, warn or error");
    refused("--redis=http://x", "--redis (or LOGD_REDIS): ");
    refused("--fsync=batch", "unknown option --fsync");
}

static void test_a_password_is_never_printed(void **state)
{
    (void)state;
    refused("--redis=redis://:secret@", "--redis (or LOGD_REDIS): ");
    assert_null(strstr(text, "secret"));
}

static void test_help_and_version_end_it_well(void **state)
{
    (void)state;
    assert_int_equal(run_child(parse, "--help", text, sizeof(text)), EXIT_OK);
    assert_non_null(strstr(text, "LOGD_LOG_LEVEL"));
    assert_int_equal(run_child(parse, "--version", text, sizeof(text)), EXIT_OK);
    assert_string_equal(text, "logd " LOGPIPE_VERSION "\n");
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
        TEST(test_echo_is_off_where_nobody_looks),
        TEST(test_mistakes_end_the_process),
        TEST(test_a_password_is_never_printed),
        TEST(test_help_and_version_end_it_well),
        TEST(test_the_log_level_is_in_force),
    };
    return cmocka_run_group_tests_name("logd's config", tests, NULL, NULL);
}
