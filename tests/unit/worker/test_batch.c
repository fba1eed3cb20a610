/* test_batch.c: what becomes of the entries of a reply. Replies and sink are made here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/worker/fake-reply.h"
#include "worker/batch.h"
#include "worker/prints.h"

#define TIME       "2026-11-24T02:35:02.123Z"
#define MANY_SPANS 7002

#define ENTRY(id, level, message)                                                                  \
    ARRAY(TEXT(id), ARRAY(TEXT("service"), TEXT("s"), TEXT("level"), TEXT(level), TEXT("message"), \
                          TEXT(message), TEXT("timestamp"), TEXT(TIME)))
#define LINE(level, message)                                                                       \
    "{\"level\":\"" level "\",\"message\":\"" message "\",\"service\":\"s\",\"timestamp\":\"" TIME \
    "\"}\n"

/* ---- The sink ---- */

static struct {
    struct stream_id first, last; /* of the batch in hand */
    const char *stands;           /* the line that stands in the log; NULL: none */
    enum line_found otherwise;    /* what is said of others */
    unsigned asked;
} log_file;

enum entry_class sink_class(const struct sink *s, struct stream_id id)
{
    (void)s;
    if (stream_id_after(id, log_file.last))
        return ENTRY_NEW;
    return stream_id_after(log_file.first, id) ? ENTRY_OLD : ENTRY_IN_HAND;
}

enum line_found sink_find(struct sink *s, enum entry_class class, const char *line, size_t n)
{
    (void)s;
    assert_int_not_equal(class, ENTRY_NEW);
    log_file.asked++;
    errno = EIO;
    if (log_file.stands == NULL || strlen(log_file.stands) != n ||
        memcmp(log_file.stands, line, n) != 0)
        return log_file.otherwise;
    log_file.stands = NULL;
    return LINE_FOUND;
}

/* ---- Batches ---- */

static const struct config config = {.stream = "s", .level = LEVEL_WARN};
static struct stream_batch batch;
static const char *why;

static bool read_entries(const struct redis_reply *entries)
{
    return batch_read(&batch, &config, NULL, entries, &why);
}

static void assert_text(const struct buf *b, const char *expected)
{
    if (b->len != strlen(expected) || memcmp(b->data, expected, b->len) != 0)
        fail_msg("%.*s, not %s", (int)b->len, b->data, expected);
}

static bool has(const struct buf *b, const char *part)
{
    return memmem(b->data, b->len, part, strlen(part)) != NULL;
}

static void assert_span(uint64_t first, uint64_t last)
{
    assert_int_equal(batch.first.ms, first);
    assert_int_equal(batch.last.ms, last);
}

static int set_up(void **arg)
{
    (void)arg;
    memset(&log_file, 0, sizeof(log_file));
    log_file.otherwise = LINE_MISSING;
    return 0;
}

static int tear_down(void **arg)
{
    (void)arg;
    batch_free(&batch);
    return 0;
}

static void test_entries_become_lines(void **arg)
{
    const struct redis_reply entries =
        ARRAY(ENTRY("1-0", "warn", "one"), ENTRY("2-0", "info", "two"), ENTRY("3-7", "fatal", "x"));
    (void)arg;
    assert_true(read_entries(&entries));
    assert_text(&batch.lines, LINE("warn", "one") LINE("fatal", "x"));
    assert_int_equal(batch.class, ENTRY_NEW);
    assert_span(1, 3);
    assert_int_equal(batch.last.seq, 7);
    assert_int_equal(batch.read, 3);
    assert_int_equal(batch.lined, 2);
    assert_int_equal(batch.filtered, 1);
    assert_int_equal(batch.found + batch.unplaced + batch.dead_count, 0);
    assert_int_equal(log_file.asked, 0);
}

static void test_the_heaviest_entry_is_weighed(void **arg)
{
    const struct redis_reply entries = ARRAY(
        ENTRY("1-0", "warn", "one"), ENTRY("2-0", "info", "twenty"), ENTRY("3-0", "loud", ""));
    (void)arg;
    assert_true(read_entries(&entries));
    size_t fields = strlen("service"
                           "s"
                           "level"
                           "info"
                           "message"
                           "twenty"
                           "timestamp" TIME);
    assert_true(batch.heaviest >= fields && batch.heaviest < fields + 100);
}

/* ---- Entries in doubt ---- */

static void test_what_stands_in_the_log_is_not_written(void **arg)
{
    const struct redis_reply entries = ARRAY(
        ENTRY("1-0", "warn", "one"), ENTRY("2-0", "info", "two"), ENTRY("3-0", "warn", "three"));
    (void)arg;
    log_file.first = (struct stream_id){1, 0};
    log_file.last = (struct stream_id){3, 0};
    log_file.stands = LINE("warn", "one");
    assert_true(read_entries(&entries));
    assert_int_equal(batch.class, ENTRY_IN_HAND);
    assert_text(&batch.lines, LINE("warn", "three"));
    assert_span(1, 3);
    assert_int_equal(batch.read, 3);
    assert_int_equal(batch.found, 1);
    assert_int_equal(batch.lined, 1);
    assert_int_equal(batch.filtered, 1);
    assert_int_equal(batch.unplaced, 0);
    assert_int_equal(log_file.asked, 2);
}

static void test_what_may_stand_farther_back_is_written_and_counted(void **arg)
{
    const struct redis_reply entries =
        ARRAY(ENTRY("1-0", "warn", "one"), ENTRY("2-0", "warn", "two"));
    (void)arg;
    log_file.first = (struct stream_id){9, 0};
    log_file.last = (struct stream_id){9, 0};
    log_file.otherwise = LINE_UNPLACED;
    log_file.stands = LINE("warn", "two");
    assert_true(read_entries(&entries));
    assert_int_equal(batch.class, ENTRY_OLD);
    assert_text(&batch.lines, LINE("warn", "one"));
    assert_int_equal(batch.unplaced, 1);
    assert_int_equal(batch.lined, 1);
    assert_int_equal(batch.found, 1);
}

static void test_a_batch_ends_where_the_class_changes(void **arg)
{
    const struct redis_reply all = ARRAY(ENTRY("1-0", "warn", "old"), ENTRY("2-0", "loud", "hand"),
                                         ENTRY("3-0", "warn", "hand"), ENTRY("4-0", "warn", "new"));
    const struct redis_reply behind_one = {.type = REPLY_ARRAY, .items = all.items + 1, .count = 3};
    const struct redis_reply behind_three = {
        .type = REPLY_ARRAY, .items = all.items + 3, .count = 1};
    (void)arg;
    log_file.first = (struct stream_id){2, 0};
    log_file.last = (struct stream_id){3, 0};
    assert_true(read_entries(&all));
    assert_int_equal(batch.class, ENTRY_OLD);
    assert_span(1, 1);
    assert_int_equal(batch.read, 1);
    assert_text(&batch.lines, LINE("warn", "old"));
    assert_true(read_entries(&behind_one));
    assert_int_equal(batch.class, ENTRY_IN_HAND);
    assert_span(2, 3);
    assert_int_equal(batch.dead_count, 1);
    assert_text(&batch.lines, LINE("warn", "hand"));
    assert_true(read_entries(&behind_three));
    assert_int_equal(batch.class, ENTRY_NEW);
    assert_span(4, 4);
}

static void test_a_log_that_cannot_be_compared(void **arg)
{
    const struct redis_reply entries = ARRAY(ENTRY("1-0", "warn", "one"));
    (void)arg;
    log_file.last = (struct stream_id){1, 0};
    log_file.otherwise = LINE_ERROR;
    assert_false(read_entries(&entries));
    assert_non_null(strstr(why, "cannot be compared"));
    assert_non_null(strstr(why, strerror(EIO)));
}

/* For logs that owned the stream before: also of lines that are not to be written. */
static void test_lines_are_noted(void **arg)
{
    const struct redis_reply entries =
        ARRAY(ENTRY("1-0", "warn", "one"), ENTRY("2-0", "info", "two"), ENTRY("3-0", "loud", "x"),
              ENTRY("4-0", "warn", "three"));
    struct buf expected = {0};
    (void)arg;
    prints_add(&expected, (struct stream_id){1, 0}, LINE("warn", "one"),
               strlen(LINE("warn", "one")));
    prints_add(&expected, (struct stream_id){4, 0}, LINE("warn", "three"),
               strlen(LINE("warn", "three")));
    buf_add_char(&expected, '\0');
    log_file.last = (struct stream_id){9, 0};
    log_file.stands = LINE("warn", "one");
    assert_true(read_entries(&entries));
    assert_int_equal(batch.notes.len, 0);
    batch.noting = true;
    log_file.stands = LINE("warn", "one");
    assert_true(read_entries(&entries));
    assert_text(&batch.notes, expected.data);
    assert_int_equal(batch.found, 1);
    batch.noting = false;
    buf_free(&expected);
}

/* ---- Dead letters ---- */

static void test_malformed_entries_become_dead_letters(void **arg)
{
    const struct redis_reply entries =
        ARRAY(ENTRY("1-0", "loud", "one"), ENTRY("2-0", "warn", "two"),
              ARRAY(TEXT("3-0"), ARRAY(TEXT("odd"))));
    (void)arg;
    assert_true(read_entries(&entries));
    assert_text(&batch.lines, LINE("warn", "two"));
    assert_span(1, 3);
    assert_int_equal(batch.dead_count, 2);
    assert_int_equal(batch.read, 3);
    assert_int_equal(memcmp(batch.dead.data, "$3\r\n1-0\r\n$", 10), 0);
    assert_true(has(&batch.dead, "got \"loud\"\r\n$3\r\n3-0\r\n$"));
    assert_true(has(&batch.dead, "the entry has 0 fields"));
    assert_non_null(strstr(batch.told.data, "entry 1-0 is malformed: level"));
    const char *second = batch.told.data + strlen(batch.told.data) + 1;
    assert_non_null(strstr(second, "entry 3-0 is malformed: the entry has 0 fields"));
    assert_ptr_equal(second + strlen(second) + 1, batch.told.data + batch.told.len);
}

/* Lua takes only so many. */
static void test_a_dead_letter_with_very_many_fields_says_that_it_is_cut(void **arg)
{
    static struct redis_reply spans[MANY_SPANS];
    (void)arg;
    for (size_t i = 0; i < MANY_SPANS; i++)
        spans[i] = (struct redis_reply)TEXT("x");
    const struct redis_reply entry[] = {TEXT("1-0"),
                                        {.type = REPLY_ARRAY, .items = spans, .count = MANY_SPANS}};
    const struct redis_reply entries = ARRAY({.type = REPLY_ARRAY, .items = entry, .count = 2});
    assert_true(read_entries(&entries));
    assert_true(has(&batch.dead, "the entry has 3501 fields"));
    assert_true(has(&batch.dead, "(only the first 3500 fields are here)"));
    assert_int_equal(batch.dead_count, 1);
    assert_true(batch.heaviest >= MANY_SPANS);
}

/* ---- The rest ---- */

static void assert_refused(const struct redis_reply *entries)
{
    assert_false(read_entries(entries));
    assert_non_null(strstr(why, "not what Redis sends"));
}

static void test_a_reply_that_makes_no_sense(void **arg)
{
    const struct redis_reply no_pair = ARRAY(ARRAY(TEXT("1-0")));
    const struct redis_reply no_id = ARRAY(ENTRY("one", "warn", "x"));
    const struct redis_reply no_fields = ARRAY(ARRAY(TEXT("1-0"), NIL));
    const struct redis_reply backwards =
        ARRAY(ENTRY("2-0", "warn", "x"), ENTRY("1-0", "warn", "x"));
    const struct redis_reply twice = ARRAY(ENTRY("2-0", "warn", "x"), ENTRY("2-0", "warn", "x"));
    (void)arg;
    assert_refused(&no_pair);
    assert_refused(&no_id);
    assert_refused(&no_fields);
    assert_refused(&backwards);
    assert_refused(&twice);
}

static void test_a_batch_is_filled_again(void **arg)
{
    const struct redis_reply first =
        ARRAY(ENTRY("1-0", "loud", "one"), ENTRY("2-0", "warn", "a long one"),
              ENTRY("3-0", "info", "two"));
    const struct redis_reply second = ARRAY(ENTRY("4-0", "warn", "x"));
    (void)arg;
    assert_true(read_entries(&first));
    size_t heaviest = batch.heaviest;
    assert_true(read_entries(&second));
    assert_text(&batch.lines, LINE("warn", "x"));
    assert_span(4, 4);
    assert_int_equal(batch.read, 1);
    assert_int_equal(batch.lined, 1);
    assert_int_equal(batch.filtered + batch.dead_count + batch.dead.len + batch.told.len, 0);
    assert_true(batch.heaviest < heaviest);
}

/* One entry of 8 MB would be kept for good. */
static void test_a_large_buffer_is_given_back(void **arg)
{
    static char large[8 << 20];
    const struct redis_reply second = ARRAY(ENTRY("4-0", "warn", "three"));
    (void)arg;
    memset(large, 'x', sizeof(large));
    const struct redis_reply fields[] = {
        TEXT("service"),   TEXT("s"),
        TEXT("level"),     TEXT("warn"),
        TEXT("timestamp"), TEXT(TIME),
        TEXT("message"),   {.type = REPLY_STRING, .text = {large, sizeof(large)}}};
    const struct redis_reply entry[] = {TEXT("1-0"),
                                        {.type = REPLY_ARRAY, .items = fields, .count = 8}};
    const struct redis_reply entries = ARRAY({.type = REPLY_ARRAY, .items = entry, .count = 2});
    assert_true(read_entries(&entries));
    assert_true(batch.lines.len > sizeof(large));
    assert_true(read_entries(&second));
    assert_true(batch.lines.cap < 1 << 20);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_entries_become_lines),
        TEST(test_the_heaviest_entry_is_weighed),
        TEST(test_what_stands_in_the_log_is_not_written),
        TEST(test_what_may_stand_farther_back_is_written_and_counted),
        TEST(test_a_batch_ends_where_the_class_changes),
        TEST(test_a_log_that_cannot_be_compared),
        TEST(test_lines_are_noted),
        TEST(test_malformed_entries_become_dead_letters),
        TEST(test_a_dead_letter_with_very_many_fields_says_that_it_is_cut),
        TEST(test_a_reply_that_makes_no_sense),
        TEST(test_a_batch_is_filled_again),
        TEST(test_a_large_buffer_is_given_back),
    };
    return cmocka_run_group_tests_name("worker/batch", tests, NULL, NULL);
}
