/* test_options.c: the three places where options stand, --help and the man page. What a value may
 * be is in test_option.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/options.h"

static struct settings {
    const char *stream, *plain;
    struct option_list listen, tag;
    bool echo;
    int64_t count, free_number, size, wait;
} got;

static const char *check_name(const char *value)
{
    return strchr(value, ' ') != NULL ? "give a name without spaces" : NULL;
}

static const struct option_spec specs[] = {
    {.name = "stream",
     .letter = 's',
     .type = OPTION_STRING,
     .offset = offsetof(struct settings, stream),
     .default_text = "logs-stream",
     .metavar = "NAME",
     .help = "name of the stream",
     .check = check_name},
    {.name = "plain",
     .type = OPTION_STRING,
     .offset = offsetof(struct settings, plain),
     .help = "no default"},
    {.name = "listen",
     .letter = 'l',
     .type = OPTION_LIST,
     .offset = offsetof(struct settings, listen),
     .default_text = "127.0.0.1:4000,[::1]:4000",
     .metavar = "ADDR:PORT",
     .help = "where to listen",
     .check = check_name},
    {.name = "tag", .type = OPTION_LIST, .offset = offsetof(struct settings, tag), .help = "tags"},
    {.name = "echo",
     .letter = 'e',
     .type = OPTION_BOOL,
     .offset = offsetof(struct settings, echo),
     .help = "print each record that was taken to standard output, one line each, as it will stand "
             "in the log, and no more than that whatever happens\n.dots and \\ are no trouble"},
    {.name = "count",
     .letter = 'c',
     .type = OPTION_NUMBER,
     .offset = offsetof(struct settings, count),
     .default_text = "10",
     .min = -5,
     .max = 100,
     .help = "how many"},
    {.name = "free-number",
     .type = OPTION_NUMBER,
     .offset = offsetof(struct settings, free_number),
     .help = "any"},
    {.name = "max-body",
     .type = OPTION_BYTES,
     .offset = offsetof(struct settings, size),
     .default_text = "1m",
     .min = 1024,
     .max = 3 << 20,
     .help = "largest body"},
    {.name = "wait",
     .type = OPTION_MS,
     .offset = offsetof(struct settings, wait),
     .default_text = "10s",
     .min = 1,
     .max = 7 * 86400000,
     .help = "how long"},
};

static struct options_program prog = {.name = "test-prog",
                                      .version = "1.2.3",
                                      .usage = "test-prog [OPTION…]",
                                      .summary = "Tests options.",
                                      .specs = specs,
                                      .count = sizeof(specs) / sizeof(specs[0])};

static char err[512];
static int first;

static int reset(void **state)
{
    (void)state;
    option_list_free(&got.listen);
    option_list_free(&got.tag);
    memset(&got, 0, sizeof(got));
    prog.operands = false;
    return clearenv();
}

/* Parses the words of `line`, which are split at '|'. */
static enum options_result parse(const char *line)
{
    static char copy[256];
    char *argv[16] = {(char[]){"test-prog"}};
    int argc = 1;
    snprintf(copy, sizeof(copy), "%s", line);
    for (char *rest = copy, *word; *line != '\0' && (word = strsep(&rest, "|")) != NULL;)
        argv[argc++] = word;
    err[0] = '\0';
    first = -1;
    return options_parse(&prog, &got, argc, argv, &first, err, sizeof(err));
}

static void good(const char *line)
{
    if (parse(line) != OPTIONS_RUN)
        fail_msg("%s: %s", line, err);
}

static void bad(const char *line, const char *message)
{
    assert_int_equal(parse(line), OPTIONS_ERROR);
    assert_string_equal(err, message);
}

static void test_defaults(void **state)
{
    (void)state;
    got.free_number = 77;
    good("");
    assert_string_equal(got.stream, "logs-stream");
    assert_null(got.plain);
    assert_int_equal(got.listen.count, 2);
    assert_string_equal(got.listen.item[1], "[::1]:4000");
    assert_int_equal(got.tag.count, 0);
    assert_false(got.echo);
    assert_int_equal(got.count, 10);
    assert_int_equal(got.free_number, 77);
    assert_int_equal(got.size, 1 << 20);
    assert_int_equal(got.wait, 10000);
    assert_int_equal(first, 1);
}

static void test_forms(void **state)
{
    (void)state;
    good("--stream=a|--count|3|-e|--plain=");
    assert_string_equal(got.stream, "a");
    assert_int_equal(got.count, 3);
    assert_true(got.echo);
    assert_string_equal(got.plain, "");
    good("-s|b|-c-4|--no-echo");
    assert_string_equal(got.stream, "b");
    assert_int_equal(got.count, -4);
    assert_false(got.echo);
    good("-esc|--plain|--stream");
    assert_true(got.echo);
    assert_string_equal(got.stream, "c");
    assert_string_equal(got.plain, "--stream");
    good("--echo=no");
    assert_false(got.echo);
    bad("--no-echo=true", "--no-echo takes no value; got \"true\"");
    good("--stream=a=b|--stream=c");
    assert_string_equal(got.stream, "c");
}

static void test_unknown_options(void **state)
{
    (void)state;
    bad("--steam=x", "unknown option --steam; did you mean --stream?");
    bad("--max-boddy", "unknown option --max-boddy; did you mean --max-body?");
    bad("--xyzzy", "unknown option --xyzzy; \"test-prog --help\" lists the options");
    bad("--no-stream", "unknown option --no-stream; did you mean --stream?");
    bad("--=x", "unknown option --; \"test-prog --help\" lists the options");
    bad("-x", "unknown option -x; \"test-prog --help\" lists the options");
    bad("-ex", "unknown option -x; \"test-prog --help\" lists the options");
}

static void test_missing_values(void **state)
{
    (void)state;
    bad("--stream", "--stream: the value is missing; write --stream=NAME");
    bad("-c", "--count: the value is missing; write --count=VALUE");
}

static void test_check(void **state)
{
    (void)state;
    bad("--stream=a b", "--stream: \"a b\" is not valid: give a name without spaces");
    bad("-s|a b", "-s: \"a b\" is not valid: give a name without spaces");
    bad("--listen=ok|--listen=a b", "--listen: \"a b\" is not valid: give a name without spaces");
    setenv("TEST_PROG_STREAM", "a b", 1);
    bad("", "environment variable TEST_PROG_STREAM: \"a b\" is not valid: give a name without "
            "spaces");
}

static void test_lists(void **state)
{
    (void)state;
    setenv("TEST_PROG_TAG", "x,y", 1);
    good("--listen=a,b|-l|c");
    /* Commas separate in the environment and the default only. */
    assert_int_equal(got.listen.count, 2);
    assert_string_equal(got.listen.item[0], "a,b");
    assert_string_equal(got.listen.item[1], "c");
    assert_int_equal(got.tag.count, 2);
    good("--tag=z");
    assert_int_equal(got.tag.count, 1);
    assert_string_equal(got.tag.item[0], "z");
    assert_int_equal(got.listen.count, 2);
    assert_string_equal(got.listen.item[0], "127.0.0.1:4000");
    bad("--tag=", "--tag: \"\" is not valid: an item is empty; leave it out");
    setenv("TEST_PROG_TAG", "x,,y", 1);
    bad("", "environment variable TEST_PROG_TAG: \"\" is not valid: an item is empty; leave it "
            "out");
    setenv("TEST_PROG_TAG", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", 1);
    good("");
    assert_int_equal(got.tag.count, 16);
    setenv("TEST_PROG_TAG", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", 1);
    bad("", "environment variable TEST_PROG_TAG: more than 16 values; give fewer");
}

static void test_environment(void **state)
{
    (void)state;
    setenv("TEST_PROG_STREAM", "env", 1);
    setenv("TEST_PROG_MAX_BODY", "2k", 1);
    setenv("TEST_PROG_ECHO", "on", 1);
    good("--max-body=3k");
    assert_string_equal(got.stream, "env");
    assert_int_equal(got.size, 3072);
    assert_true(got.echo);
    setenv("TEST_PROG_COUNT", "", 1);
    bad("", "environment variable TEST_PROG_COUNT: \"\" is not valid: give a whole number, from -5 "
            "to 100");
    bad("--nope", "unknown option --nope; \"test-prog --help\" lists the options");
}

static void test_operands(void **state)
{
    (void)state;
    bad("-e|word|--count=1",
        "unexpected word \"word\"; options begin with --, and \"test-prog --help\" lists them");
    bad("-", "unexpected word \"-\"; options begin with --, and \"test-prog --help\" lists them");
    good("--");
    prog.operands = true;
    good("-e|word|--count=1");
    assert_int_equal(first, 2);
    assert_int_equal(got.count, 10);
    good("-e|--|--count=1");
    assert_int_equal(first, 3);
    good("-");
    assert_int_equal(first, 1);
    good("--count=1");
    assert_int_equal(first, 2);
}

/* Parses, and returns what that printed to standard output. */
static const char *printed_by(const char *line)
{
    static char text[8192];
    int file = memfd_create("stdout", MFD_CLOEXEC), saved = dup(STDOUT_FILENO);
    ssize_t n;
    assert_true(file >= 0 && saved >= 0);
    fflush(stdout);
    assert_true(dup2(file, STDOUT_FILENO) >= 0);
    assert_int_equal(parse(line), OPTIONS_EXIT);
    assert_true(dup2(saved, STDOUT_FILENO) >= 0);
    n = pread(file, text, sizeof(text) - 1, 0);
    assert_true(n >= 0);
    text[n] = '\0';
    close(file);
    close(saved);
    return text;
}

static void test_help(void **state)
{
    const char *text, *line, *end;
    (void)state;
    setenv("TEST_PROG_COUNT", "wrong", 1); /* must not stop it */
    text = printed_by("-e|--help|--nonsense");
    assert_non_null(strstr(text, "Usage: test-prog [OPTION…]\n"));
    assert_non_null(strstr(text, "  -s, --stream=NAME\n      name of the stream "
                                 "[default: logs-stream; environment: TEST_PROG_STREAM]\n"));
    assert_non_null(strstr(text, "  -e, --echo, --no-echo\n"));
    assert_non_null(strstr(text, "\n      .dots and \\ are no trouble "));
    assert_non_null(strstr(text, "--help\n"));
    assert_null(strstr(text, "man-options"));
    for (line = text; *line != '\0'; line = end + 1) {
        end = strchr(line, '\n');
        assert_non_null(end);
        assert_true(end - line <= 100 + 2); /* "…" has three bytes */
        assert_true(end == line || end[-1] != ' ');
    }
}

static void test_version(void **state)
{
    (void)state;
    assert_string_equal(printed_by("--version"), "test-prog 1.2.3\n");
}

static void test_man(void **state)
{
    const char *text = printed_by("--man-options");
    (void)state;
    assert_non_null(strstr(text, ".TP\n\\fB\\-s\\fR, \\fB\\-\\-stream\\fR=\\fINAME\\fR\n"
                                 "name of the stream.\nDefault: \\fBlogs\\-stream\\fR.\n"
                                 "Environment: \\fBTEST_PROG_STREAM\\fR.\n"));
    assert_non_null(strstr(text, "\n\\&.dots and \\e are no trouble.\n"));
    assert_non_null(strstr(text, "\\fB\\-\\-max\\-body\\fR="));
}

/* A full disk behind standard output. */
static void test_output_fails(void **state)
{
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC), saved = dup(STDOUT_FILENO);
    enum options_result result;
    (void)state;
    assert_true(full >= 0 && saved >= 0);
    fflush(stdout);
    dup2(full, STDOUT_FILENO);
    result = parse("--help");
    dup2(saved, STDOUT_FILENO);
    clearerr(stdout);
    close(full);
    close(saved);
    assert_int_equal(result, OPTIONS_ERROR);
    assert_string_equal(err, "cannot write to standard output: No space left on device");
}

static void test_long_texts_are_cut(void **state)
{
    char line[200], small[16];
    char *argv[] = {(char[]){"test-prog"}, line};
    (void)state;
    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    memcpy(line, "--", 2);
    assert_int_equal(options_parse(&prog, &got, 2, argv, NULL, small, sizeof(small)),
                     OPTIONS_ERROR);
    assert_string_equal(small, "unknown option ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_defaults, reset),
        cmocka_unit_test_setup(test_forms, reset),
        cmocka_unit_test_setup(test_unknown_options, reset),
        cmocka_unit_test_setup(test_missing_values, reset),
        cmocka_unit_test_setup(test_check, reset),
        cmocka_unit_test_setup(test_lists, reset),
        cmocka_unit_test_setup(test_environment, reset),
        cmocka_unit_test_setup(test_operands, reset),
        cmocka_unit_test_setup(test_help, reset),
        cmocka_unit_test_setup(test_version, reset),
        cmocka_unit_test_setup(test_man, reset),
        cmocka_unit_test_setup(test_output_fails, reset),
        cmocka_unit_test_setup_teardown(test_long_texts_are_cut, reset, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
