/* test_options.c: the library's properties. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "liblogclient/options-internal.h"

static int open_options(void **state)
{
    unsetenv("LOGCLIENT_URL");
    *state = logclient_options_new();
    return *state == NULL ? -1 : 0;
}

static int free_options(void **state)
{
    logclient_options_free(*state);
    return 0;
}

static void test_defaults_are_those_of_the_manual(void **state)
{
    const logclient_options_t *o = *state;
    assert_string_equal(o->url, "http://127.0.0.1:4000");
    assert_null(o->ring_dir);
    assert_int_equal(o->ring_bytes, 64 << 20);
    assert_int_equal(o->on_full, LC_DROP);
    assert_int_equal(o->batch_records, 1000);
    assert_int_equal(o->linger_ms, 5);
    assert_int_equal(o->max_message_bytes, 65536);
    assert_true(o->adopt);
    assert_int_equal(o->report, LC_REPORT_OFF);
}

static const struct {
    const char *name, *value;
    logclient_status_t status;
    const char *error; /* a part of it */
} values[] = {
    {"ring_bytes", "1g", LOGCLIENT_OK, NULL},
    {"ring_bytes", "2M", LOGCLIENT_OK, NULL},
    {"linger_ms", "1", LOGCLIENT_OK, NULL},
    {"on_full", "block", LOGCLIENT_OK, NULL},
    {"adopt", "off", LOGCLIENT_OK, NULL},
    {"url", "http://a:1,http://[::1]:2/logs/", LOGCLIENT_OK, NULL},
    {"ring_bytes", "1k", LOGCLIENT_BAD_VALUE,
     "ring_bytes: \"1k\" is not valid: give a number of bytes, optionally with k, m or g"},
    {"ring_bytes", "64mb", LOGCLIENT_BAD_VALUE, "ring_bytes: \"64mb\""},
    {"ring_bytes", "99999999999999999999", LOGCLIENT_BAD_VALUE, ", from 1m to "},
    {"ring_bytes", "9223372036854775807g", LOGCLIENT_BAD_VALUE, ", from 1m to "},
    {"linger_ms", "", LOGCLIENT_BAD_VALUE,
     "linger_ms: \"\" is not valid: give a whole number, from 1 to 60000"},
    {"linger_ms", "-1", LOGCLIENT_BAD_VALUE, "linger_ms: \"-1\""},
    {"linger_ms", " 5", LOGCLIENT_BAD_VALUE, "linger_ms: \" 5\""},
    {"linger_ms", "5k", LOGCLIENT_BAD_VALUE, "linger_ms: \"5k\""},
    {"on_full", "wait", LOGCLIENT_BAD_VALUE, "on_full: \"wait\" is not valid: give drop or block"},
    {"on_full", "0", LOGCLIENT_BAD_VALUE, "on_full: \"0\""},
    {"report", "stdout", LOGCLIENT_BAD_VALUE,
     "report: \"stdout\" is not valid: give off or stderr"},
    {"adopt", "perhaps", LOGCLIENT_BAD_VALUE,
     "adopt: \"perhaps\" is not valid: give true or false"},
    {"url", "https://a", LOGCLIENT_BAD_VALUE, "asks for TLS"},
    {"url", "ftp://a", LOGCLIENT_BAD_VALUE, "http://HOST[:PORT]"},
    {"url", "http://", LOGCLIENT_BAD_VALUE, "http://HOST[:PORT]"},
    {"url", "http://:80", LOGCLIENT_BAD_VALUE, "has no host"},
    {"url", "http://[]:80", LOGCLIENT_BAD_VALUE, "has no host"},
    {"url", "http://a:0", LOGCLIENT_BAD_VALUE, "has a bad port"},
    {"url", "http://a:65536", LOGCLIENT_BAD_VALUE, "has a bad port"},
    {"url", "http://[::1]x", LOGCLIENT_BAD_VALUE, "has a bad port"},
    {"url", "http://u:p@a", LOGCLIENT_BAD_VALUE, "holds a space, a user"},
    {"url", "http://a\r\nX: y", LOGCLIENT_BAD_VALUE, "holds a space"},
    {"url", "http://a,", LOGCLIENT_BAD_VALUE, "http://HOST[:PORT]"},
    {"url", "", LOGCLIENT_BAD_VALUE, "http://HOST[:PORT]"},
    {"colour", "red", LOGCLIENT_UNKNOWN_PROPERTY,
     "no property \"colour\"; logclient(3) lists them"},
    {"ring-dir", "off", LOGCLIENT_UNKNOWN_PROPERTY, "did you mean \"ring_dir\"?"},
    {"LINGER", "5", LOGCLIENT_UNKNOWN_PROPERTY, "no property \"LINGER\"; logclient(3)"},
    {"ring_bytes", "16g", LOGCLIENT_OK, NULL},
    {"ring_bytes", "17g", LOGCLIENT_BAD_VALUE, ", from 1m to 16g"},
    {"ring_bytes", "2M", LOGCLIENT_OK, NULL},
    {NULL, "red", LOGCLIENT_UNKNOWN_PROPERTY, "name of a property is NULL; logclient(3)"},
    {NULL, NULL, LOGCLIENT_UNKNOWN_PROPERTY, "name of a property is NULL; logclient(3)"},
    {"url", NULL, LOGCLIENT_BAD_VALUE, "url: the value is NULL: give a text"},
    {"linger_ms", NULL, LOGCLIENT_BAD_VALUE, "linger_ms: the value is NULL: give a text"},
};

static void test_values_are_set_and_errors_name_property_value_and_remedy(void **state)
{
    logclient_options_t *o = *state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char text[300] = "";
        assert_int_equal(
            logclient_options_set(o, values[i].name, values[i].value, text, sizeof(text)),
            values[i].status);
        if (values[i].error != NULL && strstr(text, values[i].error) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", text, values[i].error);
    }
    assert_int_equal(o->ring_bytes, 2 << 20);
    assert_int_equal(o->linger_ms, 1);
    assert_int_equal(o->on_full, LC_BLOCK);
    assert_false(o->adopt);
    assert_string_equal(o->url, "http://a:1,http://[::1]:2/logs/");
}

static void test_the_environment_overrides_and_its_errors_name_the_variable(void **state)
{
    char why[400];
    (void)state;
    setenv("LOGCLIENT_LINGER_MS", "77", 1);
    logclient_options_t *o = lc_options_from_environment(why, sizeof(why));
    assert_non_null(o);
    assert_int_equal(o->linger_ms, 77);
    logclient_options_free(o);
    setenv("LOGCLIENT_LINGER_MS", "soon", 1);
    assert_null(lc_options_from_environment(why, sizeof(why)));
    assert_non_null(strstr(why, "LOGCLIENT_LINGER_MS: linger_ms: \"soon\""));
    unsetenv("LOGCLIENT_LINGER_MS");
}

/* Sentences about variables that set nothing, joined by newlines. */
static const char *unknown(void)
{
    static char all[LC_UNKNOWN_MAX * 300];
    char text[300];
    size_t n = 0;
    logclient_options_t *o = logclient_options_new(), *copy;
    assert_non_null(o);
    assert_non_null(copy = lc_options_copy(o));
    logclient_options_free(o);
    all[0] = '\0';
    for (size_t i = 0; lc_options_unknown(copy, i, text, sizeof(text)); i++)
        n += (size_t)snprintf(all + n, sizeof(all) - n, "%s\n", text);
    logclient_options_free(copy);
    return all;
}

static void test_a_variable_that_sets_nothing_is_named_with_the_one_that_is_meant(void **state)
{
    static const struct {
        const char *assignment, *error;
    } cases[] = {
        {"LOGCLIENT_RINGDIR=/x", "environment variable LOGCLIENT_RINGDIR sets no property: did you "
                                 "mean LOGCLIENT_RING_DIR?\n"},
        {"LOGCLIENT_url=http://a", "environment variable LOGCLIENT_url sets no property: did you "
                                   "mean LOGCLIENT_URL?\n"},
        {"LOGCLIENT_COLOUR=red", "environment variable LOGCLIENT_COLOUR sets no property: unset "
                                 "it; logclient(3) lists the properties\n"},
        {"LOGCLIENT_\n\x80=", "environment variable LOGCLIENT_?? sets no property: unset it; "
                              "logclient(3) lists the properties\n"},
        {"LOGCLIENT_=1", ""},
        {"LOGCLIENT=1", ""},
        {"LOGCLIENTS_URL=1", ""},
        {"LOGCLIENT_URL=http://a", ""},
    };
    (void)state;
    assert_string_equal(unknown(), "");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char assignment[64], name[64];
        snprintf(assignment, sizeof(assignment), "%s", cases[i].assignment);
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(assignment, "="), assignment);
        assert_int_equal(putenv(assignment), 0);
        assert_string_equal(unknown(), cases[i].error);
        unsetenv(name);
    }
}

static void test_ever_so_many_variables_and_long_ones_are_cut(void **state)
{
    char name[200];
    size_t lines = 0;
    (void)state;
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "LOGCLIENT_%0150d", i);
        setenv(name, "x", 1);
    }
    for (const char *s = unknown(); (s = strchr(s, '\n')) != NULL; s++)
        lines++;
    assert_int_equal(lines, LC_UNKNOWN_MAX);
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "LOGCLIENT_%0150d", i);
        unsetenv(name);
    }
    char **saved = environ;
    environ = NULL; /* after clearenv(3) */
    assert_string_equal(unknown(), "");
    environ = saved;
}

static bool no_memory;

/* In the place of the C library's: url.c copies with it. */
char *strndup(const char *s, size_t n)
{
    char *copy = no_memory ? NULL : malloc(n + 1);
    if (copy == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    n = strnlen(s, n);
    copy[n] = '\0';
    return memcpy(copy, s, n);
}

static void test_no_memory_is_no_bad_value(void **state)
{
    char why[100];
    logclient_options_t *o = *state;
    no_memory = true;
    assert_int_equal(logclient_options_set(o, "url", "http://a", why, sizeof(why)),
                     LOGCLIENT_NO_MEMORY);
    assert_string_equal(why, "url: out of memory");
    assert_null(logclient_options_new());
    assert_null(lc_options_from_environment(why, sizeof(why)));
    assert_int_equal(errno, ENOMEM);
    assert_string_equal(why, "out of memory");
    no_memory = false;
    assert_string_equal(o->url, "http://127.0.0.1:4000");
}

static void test_no_options_are_no_crash(void **state)
{
    char why[100];
    (void)state;
    assert_int_equal(logclient_options_set(NULL, "url", "http://a", why, sizeof(why)),
                     LOGCLIENT_NO_MEMORY);
    assert_non_null(strstr(why, "out of memory"));
    logclient_options_set_error_cb(NULL, NULL, NULL);
    logclient_options_free(NULL);
}

static void test_errors_need_no_buffer(void **state)
{
    logclient_options_t *o = *state;
    assert_int_equal(logclient_options_set(o, "linger_ms", "x", NULL, 99), LOGCLIENT_BAD_VALUE);
    assert_int_equal(logclient_options_set(o, "colour", "x", NULL, 99), LOGCLIENT_UNKNOWN_PROPERTY);
    assert_int_equal(logclient_options_set(o, NULL, "x", NULL, 99), LOGCLIENT_UNKNOWN_PROPERTY);
    assert_int_equal(o->linger_ms, 5);
}

static void test_a_bad_url_leaves_the_good_one(void **state)
{
    logclient_options_t *o = *state;
    assert_int_equal(logclient_options_set(o, "url", "http://a", NULL, 0), LOGCLIENT_OK);
    assert_int_equal(logclient_options_set(o, "url", "http://", NULL, 0), LOGCLIENT_BAD_VALUE);
    assert_string_equal(o->url, "http://a");
}

static void test_a_copy_is_independent(void **state)
{
    logclient_options_t *o = *state;
    assert_int_equal(logclient_options_set(o, "ring_dir", "/tmp/x", NULL, 0), LOGCLIENT_OK);
    logclient_options_t *copy = lc_options_copy(o);
    assert_non_null(copy);
    assert_int_equal(logclient_options_set(o, "ring_dir", "off", NULL, 0), LOGCLIENT_OK);
    assert_string_equal(copy->ring_dir, "/tmp/x");
    assert_string_equal(copy->url, o->url);
    logclient_options_free(copy);
    assert_int_equal(logclient_options_set(o, "ring_dir", "", NULL, 0), LOGCLIENT_OK);
    assert_null(o->ring_dir);
}

/* logsend --drain made a ring of its own in there: root's, in a directory of another user. */
static void test_draining_makes_no_ring_in_the_directory(void **state)
{
    logclient_options_t *o = *state;
    assert_int_equal(logclient_options_set(o, "adopt", "off", NULL, 0), LOGCLIENT_OK);
    assert_true(lc_options_drain(o, "/tmp/x"));
    assert_true(lc_options_drain(o, "/tmp/y"));
    assert_true(o->adopt);
    logclient_options_t *copy = lc_options_copy(o);
    assert_non_null(copy);
    assert_string_equal(copy->ring_dir, "off");
    assert_string_equal(copy->drain_dir, "/tmp/y");
    logclient_options_free(copy);
}

static void test_the_table_can_be_listed(void **state)
{
    size_t n = 0;
    (void)state;
    for (const struct option_spec *p; (p = lc_property(n)) != NULL; n++) {
        assert_non_null(p->name);
        assert_non_null(p->default_text);
        assert_true(strlen(p->help) > 10);
    }
    assert_int_equal(n, 15);
}

int main(void)
{
#define WITH_OPTIONS(f) cmocka_unit_test_setup_teardown(f, open_options, free_options)
    const struct CMUnitTest tests[] = {
        WITH_OPTIONS(test_defaults_are_those_of_the_manual),
        WITH_OPTIONS(test_values_are_set_and_errors_name_property_value_and_remedy),
        cmocka_unit_test(test_the_environment_overrides_and_its_errors_name_the_variable),
        cmocka_unit_test(test_a_variable_that_sets_nothing_is_named_with_the_one_that_is_meant),
        cmocka_unit_test(test_ever_so_many_variables_and_long_ones_are_cut),
        WITH_OPTIONS(test_no_memory_is_no_bad_value),
        cmocka_unit_test(test_no_options_are_no_crash),
        WITH_OPTIONS(test_errors_need_no_buffer),
        WITH_OPTIONS(test_a_bad_url_leaves_the_good_one),
        WITH_OPTIONS(test_a_copy_is_independent),
        WITH_OPTIONS(test_draining_makes_no_ring_in_the_directory),
        cmocka_unit_test(test_the_table_can_be_listed),
    };
    return cmocka_run_group_tests_name("client options", tests, NULL, NULL);
}
