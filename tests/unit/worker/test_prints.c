/* test_prints.c: notes of lines, and whether they have those of a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "worker/prints.h"

#define CHUNK 65536 /* that is read at a time */

static struct buf notes;

static int tear_down(void **arg)
{
    (void)arg;
    buf_free(&notes);
    return 0;
}

/* Notes each line of the text. */
static void note(const char *text)
{
    for (const char *end; (end = strchr(text, '\n')) != NULL; text = end + 1)
        prints_add(&notes, (struct stream_id){6, 0}, text, (size_t)(end + 1 - text));
}

/* Whether the notes have the lines from an offset on, of a batch from 5-0 to 8-0. */
static bool cover(const char *text, size_t n, int64_t from)
{
    bool all = false;
    const struct prints_batch batch = {.first = {5, 0},
                                       .last = {8, 0},
                                       .fd = memfd_create("log", MFD_CLOEXEC),
                                       .from = from,
                                       .size = (int64_t)n};
    assert_true(batch.fd >= 0);
    assert_int_equal(write(batch.fd, text, n), n);
    assert_true(prints_cover((struct span){notes.data, notes.len}, &batch, &all));
    close(batch.fd);
    return all;
}

static bool covers(const char *text)
{
    return cover(text, strlen(text), 0);
}

/* Known values of 64-bit FNV-1a. */
static void test_the_text_of_notes(void **arg)
{
    static const char expected[] = "0-0:cbf29ce484222325 7-1:af63dc4c8601ec8c "
                                   "18446744073709551615-18446744073709551615:85944171f73967e8 ";
    (void)arg;
    prints_add(&notes, (struct stream_id){0, 0}, "", 0);
    prints_add(&notes, (struct stream_id){7, 1}, "a", 1);
    prints_add(&notes, (struct stream_id){UINT64_MAX, UINT64_MAX}, "foobar", 6);
    assert_int_equal(notes.len, sizeof(expected) - 1);
    assert_memory_equal(notes.data, expected, notes.len);
}

static void test_all_lines_in_any_order(void **arg)
{
    (void)arg;
    note("one\ntwo\nthree\nfour\n");
    assert_true(covers("two\none\n"));
    assert_true(covers("four\nthree\ntwo\none\n"));
    assert_true(covers("one\n"));
}

static void test_a_line_that_is_missing(void **arg)
{
    (void)arg;
    note("one\nthree\n");
    assert_false(covers("one\ntwo\n"));
    assert_false(covers("two\n"));
    assert_false(covers("one\none \nthree\n"));
}

static void test_equal_lines_count(void **arg)
{
    (void)arg;
    note("one\ntwo\none\n");
    assert_true(covers("one\none\n"));
    assert_false(covers("one\none\none\n"));
    assert_false(covers("two\ntwo\n"));
}

/* Without a note of the batch nobody has it, whether it has lines or not. */
static void test_without_notes_nothing_is_covered(void **arg)
{
    (void)arg;
    buf_add_lit(&notes, "x ");
    assert_false(covers(""));
    assert_false(covers("one\n"));
}

static void test_notes_of_other_entries_do_not_count(void **arg)
{
    static const struct stream_id others[] = {{4, UINT64_MAX}, {8, 1}, {0, 0}};
    (void)arg;
    for (size_t i = 0; i < 3; i++)
        prints_add(&notes, others[i], "one\n", 4);
    assert_false(covers("one\n"));
    prints_add(&notes, (struct stream_id){5, 0}, "one\n", 4);
    assert_true(covers("one\n"));
    prints_add(&notes, (struct stream_id){8, 0}, "one\n", 4);
    assert_true(covers("one\none\n"));
    assert_false(covers("one\none\none\n"));
}

static void test_what_is_left_of_a_line_is_none(void **arg)
{
    (void)arg;
    note("one\n");
    assert_true(covers("one\ntw"));
    assert_true(covers("tw"));
}

static void test_only_lines_behind_the_offset_are_asked_for(void **arg)
{
    (void)arg;
    note("two\n");
    assert_true(cover("one\ntwo\n", 8, 4));
    assert_false(cover("one\ntwo\n", 8, 0));
    assert_true(cover("one\ntwo\n", 8, 8));
    assert_true(cover("one\ntwo\n", 8, 20));
}

/* Another version may write them, or somebody's hand. */
static void test_notes_that_make_no_sense(void **arg)
{
    (void)arg;
    note("one\n");
    buf_add_lit(&notes, "nonsense  6-0: :af63dc4c8601ec8c 6:af63dc4c8601ec8c 6-0:af6 6-0");
    assert_true(covers("one\n"));
    assert_false(covers("two\n"));
    buf_clear(&notes);
    buf_add_lit(&notes, "x");
    assert_false(covers("one\n"));
}

static void test_a_line_across_the_border_of_two_reads(void **arg)
{
    struct buf text = {0};
    (void)arg;
    for (size_t before = 0; before <= 9; before++) {
        buf_clear(&text);
        buf_clear(&notes);
        while (text.len < CHUNK - before - 1)
            buf_add_char(&text, 'x');
        buf_add_lit(&text, "\nabcdefgh\n");
        prints_add(&notes, (struct stream_id){5, 0}, text.data, CHUNK - before);
        assert_false(cover(text.data, text.len, 0));
        note("abcdefgh\n");
        assert_true(cover(text.data, text.len, 0));
    }
    buf_free(&text);
}

static void test_a_file_that_cannot_be_read(void **arg)
{
    const struct prints_batch batch = {.first = {5, 0}, .last = {8, 0}, .fd = -1, .size = 4};
    bool all;
    (void)arg;
    note("one\n");
    assert_false(prints_cover((struct span){notes.data, notes.len}, &batch, &all));
    assert_int_equal(errno, EBADF);
}

#define TEST(f) cmocka_unit_test_teardown(f, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_text_of_notes),
        TEST(test_all_lines_in_any_order),
        TEST(test_a_line_that_is_missing),
        TEST(test_equal_lines_count),
        TEST(test_without_notes_nothing_is_covered),
        TEST(test_notes_of_other_entries_do_not_count),
        TEST(test_what_is_left_of_a_line_is_none),
        TEST(test_only_lines_behind_the_offset_are_asked_for),
        TEST(test_notes_that_make_no_sense),
        TEST(test_a_line_across_the_border_of_two_reads),
        TEST(test_a_file_that_cannot_be_read),
    };
    return cmocka_run_group_tests_name("worker/prints", tests, NULL, NULL);
}
