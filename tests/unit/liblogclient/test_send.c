/* test_send.c: the calls of a program: what they accept, cut, drop and count; and what a status
 * says. A fake stands in the place of the sender, so that nothing is ever delivered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/timestamp.h"
#include "liblogclient/ring-read-internal.h"
#include "liblogclient/send-internal.h"
#include "liblogclient/sender-internal.h"

int lc_sender_start(logclient_t *client)
{
    return lc_ring_create_anonymous(&client->ring, (uint64_t)client->options->ring_bytes);
}

void lc_sender_stop(logclient_t *client)
{
    (void)client;
}

static logclient_t *new_client(const char *name, const char *value)
{
    char why[300];
    logclient_options_t *o = logclient_options_new();
    assert_non_null(o);
    assert_int_equal(logclient_options_set(o, "ring_dir", "off", NULL, 0), LOGCLIENT_OK);
    assert_int_equal(logclient_options_set(o, "ring_bytes", "1m", NULL, 0), LOGCLIENT_OK);
    assert_int_equal(logclient_options_set(o, "block_ms", "500", NULL, 0), LOGCLIENT_OK);
    assert_int_equal(logclient_options_set(o, "exit_timeout_ms", "0", NULL, 0), LOGCLIENT_OK);
    if (name != NULL)
        assert_int_equal(logclient_options_set(o, name, value, NULL, 0), LOGCLIENT_OK);
    logclient_t *c = logclient_new(o, why, sizeof(why));
    if (c == NULL)
        fail_msg("%s", why);
    logclient_options_free(o);
    return c;
}

/* The record at *position of the client's ring. */
static struct lc_record read_record(const logclient_t *c, uint64_t *position)
{
    struct lc_record got;
    assert_int_equal(lc_ring_read(&c->ring, position, &got), LC_RING_RECORD);
    return got;
}

static void check_message(const struct lc_record *r, const char *want)
{
    assert_int_equal(r->message.n, strlen(want));
    assert_memory_equal(r->message.p, want, strlen(want));
}

static void test_wrong_arguments_are_refused(void **state)
{
    (void)state;
    logclient_t *c = new_client(NULL, NULL);
    static const char *const cases[][3] = {
        {NULL, "info", "x"}, {"a", NULL, "x"},   {"a", "info", NULL},  {"", "info", "x"},
        {"a", "", "x"},      {"a", "loud", "x"}, {"a\n", "info", "x"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        errno = 0;
        assert_int_equal(logclient_send(c, cases[i][0], cases[i][1], cases[i][2]), -1);
        assert_int_equal(errno, EINVAL);
    }
    assert_int_equal(logclient_send(NULL, "a", "info", "x"), -1);
    assert_int_equal(logclient_stat(c, LOGCLIENT_STAT_LOGGED), 0);
    assert_int_equal(logclient_send(c, "a", "info", "x"), 0);
    assert_int_equal(logclient_stat(c, LOGCLIENT_STAT_LOGGED), 1);
    assert_int_equal(logclient_stat(c, LOGCLIENT_STAT_QUEUED), 1);
    assert_int_equal(logclient_flush(c, 0), LOGCLIENT_TIMED_OUT);
    logclient_free(c);
}

/* They are looked at eight bytes at a time. */
static void test_a_control_character_is_found_wherever_it_stands_in_a_name(void **state)
{
    static const struct {
        char byte;
        int result;
    } cases[] = {{1, -1}, {0x1f, -1}, {0x20, 0}, {0x7e, 0}, {0x7f, -1}, {'\x80', 0}, {'\xff', 0}};
    logclient_t *c = new_client("ring_bytes", "16m");
    char name[130] = "";
    (void)state;
    for (size_t n = 1; n < sizeof(name); n++) {
        memset(name, 'a', n);
        int longest = n <= 128 ? 0 : -1;
        assert_int_equal(logclient_send(c, name, "info", "x"), longest);
        for (size_t at = 0; at < n; at++) {
            for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                name[at] = cases[i].byte;
                if (logclient_send(c, name, "info", "x") != (longest == 0 ? cases[i].result : -1))
                    fail_msg("byte %d at %zu of %zu", (unsigned char)name[at], at, n);
            }
            name[at] = 'a';
        }
    }
    logclient_free(c);
}

static void test_a_record_has_the_time_and_the_level_of_its_call(void **state)
{
    logclient_t *c = new_client(NULL, NULL);
    uint64_t position = 0;
    int64_t before = timestamp_now_ms();
    (void)state;
    assert_int_equal(logclient_send(c, "svc", "WARNING", "text"), 0);
    struct lc_record r = read_record(c, &position);
    assert_int_equal(r.level, LEVEL_WARN);
    assert_memory_equal(r.service.p, "svc", r.service.n);
    check_message(&r, "text");
    assert_in_range(r.timestamp_ms, before, timestamp_now_ms());
    logclient_free(c);
}

static void test_long_messages_are_cut_at_a_character(void **state)
{
    logclient_t *c = new_client("max_message_bytes", "4");
    uint64_t position = 0;
    (void)state;
    assert_int_equal(logclient_send(c, "svc", "info", "abc\u00e9f"), 0);
    assert_int_equal(logclient_send(c, "svc", "info", "abcd"), 0);
    /* Not a whole record, which could be no JSON any more. */
    assert_int_equal(lc_send_bytes(c, "svc", "info", "{\"a\":1}", 7, LC_FLAG_JSON), 0);
    struct lc_record r = read_record(c, &position);
    check_message(&r, "abc");
    assert_int_equal(r.flags, LC_FLAG_CUT);
    r = read_record(c, &position);
    check_message(&r, "abcd");
    assert_int_equal(r.flags, 0);
    r = read_record(c, &position);
    check_message(&r, "{\"a\":1}");
    assert_int_equal(logclient_stat(c, LOGCLIENT_STAT_TRUNCATED), 1);
    logclient_free(c);
}

static void test_formatted_messages_may_be_short_or_long(void **state)
{
    logclient_t *c = new_client(NULL, NULL);
    uint64_t position = 0;
    (void)state;
    assert_int_equal(logclient_sendf(c, "svc", "info", "%d of %s", 1, "two"), 0);
    for (int n = 1023; n <= 1025; n++)
        assert_int_equal(logclient_sendf(c, "svc", "info", "%*d", n, 7), 0);
    struct lc_record r = read_record(c, &position);
    check_message(&r, "1 of two");
    for (size_t n = 1023; n <= 1025; n++) {
        r = read_record(c, &position);
        assert_int_equal(r.message.n, n);
        assert_int_equal(r.message.p[n - 1], '7');
    }
    assert_int_equal(logclient_sendf(c, "svc", "info", NULL), -1);
    assert_int_equal(errno, EINVAL);
    logclient_free(c);
}

static void fill(logclient_t *c)
{
    char text[60001];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    while (logclient_send(c, "svc", "info", text) == 0)
        ;
    assert_int_equal(errno, EAGAIN);
}

static void test_a_full_queue_drops_and_counts(void **state)
{
    logclient_t *c = new_client(NULL, NULL);
    (void)state;
    fill(c);
    uint64_t logged = logclient_stat(c, LOGCLIENT_STAT_LOGGED);
    assert_int_equal(logclient_stat(c, LOGCLIENT_STAT_DROPPED), 1);
    assert_int_equal(logclient_stat(c, LOGCLIENT_STAT_QUEUED), logged - 1);
    logclient_free(c);
}

static void test_a_call_that_may_block_waits_for_its_time_and_no_longer(void **state)
{
    logclient_t *c = new_client("on_full", "block");
    int64_t before = monotonic_now_ms();
    (void)state;
    fill(c);
    assert_true(monotonic_now_ms() - before >= 500);
    assert_int_equal(logclient_stat(c, LOGCLIENT_STAT_DROPPED), 1);
    logclient_free(c);
}

static void test_a_call_wakes_the_sender_only_when_it_sleeps(void **state)
{
    logclient_t *c = new_client(NULL, NULL);
    (void)state;
    assert_int_equal(logclient_send(c, "svc", "info", "x"), 0);
    assert_int_equal(atomic_load(&c->signal), LC_SIGNAL_NONE);
    atomic_store(&c->signal, LC_SIGNAL_ASLEEP);
    for (int i = 0; i < 2; i++)
        assert_int_equal(logclient_send(c, "svc", "info", "x"), 0);
    assert_int_equal(atomic_load(&c->signal), LC_SIGNAL_CALLED);
    logclient_free(c);
}

static void test_no_client_has_nothing_to_flush_and_counts_nothing(void **state)
{
    (void)state;
    assert_int_equal(logclient_flush(NULL, 0), LOGCLIENT_OK);
    assert_int_equal(logclient_stat(NULL, LOGCLIENT_STAT_LOGGED), 0);
}

static void test_an_unknown_counter_is_0(void **state)
{
    logclient_t *c = new_client(NULL, NULL);
    (void)state;
    assert_int_equal(logclient_stat(c, LOGCLIENT_STAT_ADOPTED_REJECTED + 1), 0);
    assert_int_equal(logclient_stat(c, (logclient_stat_t)-1), 0);
    logclient_free(c);
}

static void test_each_status_has_a_sentence_of_its_own(void **state)
{
    (void)state;
    for (int a = LOGCLIENT_OK; a <= LOGCLIENT_RECORDS_MISSING + 1; a++)
        for (int b = LOGCLIENT_OK; b < a; b++)
            assert_string_not_equal(logclient_strerror((logclient_status_t)a),
                                    logclient_strerror((logclient_status_t)b));
    assert_string_equal(logclient_strerror((logclient_status_t)-1), "unknown status");
    assert_string_equal(logclient_version(), LOGCLIENT_VERSION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_arguments_are_refused),
        cmocka_unit_test(test_a_control_character_is_found_wherever_it_stands_in_a_name),
        cmocka_unit_test(test_a_record_has_the_time_and_the_level_of_its_call),
        cmocka_unit_test(test_long_messages_are_cut_at_a_character),
        cmocka_unit_test(test_formatted_messages_may_be_short_or_long),
        cmocka_unit_test(test_a_full_queue_drops_and_counts),
        cmocka_unit_test(test_a_call_that_may_block_waits_for_its_time_and_no_longer),
        cmocka_unit_test(test_a_call_wakes_the_sender_only_when_it_sleeps),
        cmocka_unit_test(test_no_client_has_nothing_to_flush_and_counts_nothing),
        cmocka_unit_test(test_an_unknown_counter_is_0),
        cmocka_unit_test(test_each_status_has_a_sentence_of_its_own),
    };
    return cmocka_run_group_tests_name("send", tests, NULL, NULL);
}
