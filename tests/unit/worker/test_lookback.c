/* test_lookback.c: which lines stand in a file, and how often. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/buf.h"
#include "worker/lookback.h"

#define BUDGET (1 << 20)
#define CHUNK  65536 /* that is read at a time */

static struct lookback *l;

static int file_of(const char *text, size_t n)
{
    int fd = memfd_create("log", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), n);
    return fd;
}

static void make(int64_t budget)
{
    l = lookback_new(budget);
    assert_non_null(l);
}

/* Adds a file of this text, from `from` on. */
static void add(const char *text, int64_t from)
{
    int fd = file_of(text, strlen(text));
    assert_true(lookback_add(l, fd, from, (int64_t)strlen(text)));
    close(fd);
}

static bool take(const char *line)
{
    return lookback_take(l, line, strlen(line));
}

static int tear_down(void **arg)
{
    (void)arg;
    lookback_free(l);
    l = NULL;
    return 0;
}

/* ---- Lines ---- */

static void test_equal_lines_are_counted(void **arg)
{
    (void)arg;
    make(BUDGET);
    add("one\ntwo\none\n", 0);
    assert_false(lookback_empty(l));
    assert_true(take("one\n"));
    assert_true(take("one\n"));
    assert_false(take("one\n"));
    assert_true(take("two\n"));
    assert_false(take("two\n"));
    assert_true(lookback_whole(l));
}

static void test_what_is_left_of_a_line(void **arg)
{
    (void)arg;
    make(BUDGET);
    assert_int_equal(lookback_count(l, "one\n", 4), 0);
    add("one\ntwo\none\n", 0);
    assert_int_equal(lookback_count(l, "one\n", 4), 2);
    assert_true(take("one\n"));
    assert_int_equal(lookback_count(l, "one\n", 4), 1);
    assert_int_equal(lookback_count(l, "six\n", 4), 0);
}

static void test_a_line_is_more_than_its_beginning(void **arg)
{
    (void)arg;
    make(BUDGET);
    add("one two three\n", 0);
    assert_false(take("one two three"));
    assert_false(take("one two thre\n"));
    assert_false(take("one two three\n\n"));
    assert_false(take("\n"));
    assert_false(take("one two threa\n"));
    assert_true(take("one two three\n"));
}

static void test_zero_bytes_count(void **arg)
{
    int fd = file_of("\0\0\n\0\n", 5);
    (void)arg;
    make(BUDGET);
    assert_true(lookback_add(l, fd, 0, 5));
    close(fd);
    assert_false(lookback_take(l, "\0\0\0\n", 4));
    assert_false(lookback_take(l, "\n", 1));
    assert_true(lookback_take(l, "\0\n", 2));
    assert_true(lookback_take(l, "\0\0\n", 3));
}

static void test_a_last_line_without_its_end_is_none(void **arg)
{
    (void)arg;
    make(BUDGET);
    add("one\ntw", 0);
    add("o\n", 0); /* another file */
    assert_false(take("tw"));
    assert_false(take("tw\n"));
    assert_false(take("two\n"));
    assert_true(take("o\n"));
    assert_true(take("one\n"));
}

static void test_it_begins_where_it_is_told_to(void **arg)
{
    (void)arg;
    make(BUDGET);
    add("one\ntwo\n", 4);
    assert_false(take("one\n"));
    assert_true(take("two\n"));
    assert_true(lookback_whole(l));
}

static void test_the_rest_of_a_line_is_none(void **arg)
{
    (void)arg;
    make(BUDGET);
    add("one\ntwo\n", 1);
    assert_false(take("ne\n"));
    assert_false(take("one\n"));
    assert_true(take("two\n"));
}

static void test_without_lines_it_is_empty(void **arg)
{
    (void)arg;
    make(0);
    assert_true(lookback_empty(l));
    assert_true(lookback_whole(l));
    assert_false(take("one\n"));
    add("", 0);
    add("one\n", 4);
    add("one\n", 9); /* behind the end */
    assert_true(lookback_empty(l));
    assert_true(lookback_whole(l));
}

static void test_what_is_cut_meanwhile_is_not_waited_for(void **arg)
{
    int fd = file_of("one\n", 4);
    (void)arg;
    make(BUDGET);
    assert_true(lookback_add(l, fd, 0, 100));
    close(fd);
    assert_true(take("one\n"));
}

static void test_a_file_that_cannot_be_read(void **arg)
{
    (void)arg;
    make(BUDGET);
    assert_false(lookback_add(l, -1, 0, 4));
    assert_int_equal(errno, EBADF);
}

/* ---- Bounds ---- */

static void test_the_budget_is_spent_from_the_end(void **arg)
{
    (void)arg;
    make(10);
    add("one\ntwo\nthree\n", 0); /* the last ten bytes are "two\nthree\n" */
    assert_false(lookback_whole(l));
    assert_false(take("one\n"));
    assert_true(take("two\n"));
    assert_true(take("three\n"));
}

static void test_a_line_that_the_budget_cuts_is_none(void **arg)
{
    (void)arg;
    make(9);
    add("one\ntwo\nthree\n", 0);
    assert_false(take("wo\n"));
    assert_false(take("two\n"));
    assert_true(take("three\n"));
}

static void test_all_files_share_the_budget(void **arg)
{
    (void)arg;
    make(8);
    add("one\n", 0);
    assert_true(lookback_whole(l));
    add("two\nthree\n", 0);
    assert_false(lookback_whole(l));
    add("four\n", 0);
    assert_true(take("one\n"));
    assert_false(take("three\n"));
    assert_false(take("four\n"));
}

static void test_the_whole_budget_may_be_spent(void **arg)
{
    (void)arg;
    make(8);
    add("one\ntwo\n", 0);
    add("", 0);
    assert_true(lookback_whole(l));
    lookback_miss(l);
    assert_false(lookback_whole(l));
    assert_true(take("one\n"));
}

/* ---- Many bytes ---- */

/* A line of n bytes with its line feed, another one for each number. */
static void write_line(struct buf *out, unsigned number, size_t n)
{
    size_t start = out->len;
    buf_printf(out, "line %u ", number);
    while (out->len - start < n - 1)
        buf_add_char(out, 'x');
    buf_add_char(out, '\n');
    assert_int_equal(out->len - start, n);
}

static void add_buf(const struct buf *text)
{
    int fd = file_of(text->data, text->len);
    assert_true(lookback_add(l, fd, 0, (int64_t)text->len));
    close(fd);
}

/* The border lies at each byte of a line in turn. */
static void test_a_line_across_the_border_of_two_reads(void **arg)
{
    struct buf text = {0}, line = {0};
    (void)arg;
    write_line(&line, 2, 40);
    for (size_t before = 0; before <= 41; before++) {
        make(BUDGET);
        buf_clear(&text);
        write_line(&text, 1, CHUNK - before);
        buf_add(&text, line.data, line.len);
        write_line(&text, 3, 50);
        add_buf(&text);
        assert_true(lookback_take(l, line.data, line.len));
        assert_false(lookback_take(l, line.data, line.len));
        assert_true(lookback_take(l, text.data, CHUNK - before));
        assert_true(lookback_take(l, text.data + text.len - 50, 50));
        tear_down(NULL);
    }
    buf_free(&text);
    buf_free(&line);
}

static void test_a_line_longer_than_several_reads(void **arg)
{
    struct buf text = {0};
    size_t n = 3 * CHUNK + 11;
    (void)arg;
    make(BUDGET);
    write_line(&text, 1, n);
    write_line(&text, 2, n);
    add_buf(&text);
    assert_true(lookback_take(l, text.data + n, n));
    assert_false(lookback_take(l, text.data + n, n));
    text.data[n / 2] = 'y';
    assert_false(lookback_take(l, text.data, n));
    text.data[n / 2] = 'x';
    assert_true(lookback_take(l, text.data, n));
    buf_free(&text);
}

static unsigned take_lines(unsigned count, size_t n)
{
    struct buf line = {0};
    unsigned found = 0;
    for (unsigned i = 0; i < count; i++) {
        buf_clear(&line);
        write_line(&line, i, n);
        found += lookback_take(l, line.data, line.len);
    }
    buf_free(&line);
    return found;
}

static void test_many_lines(void **arg)
{
    struct buf text = {0};
    (void)arg;
    for (unsigned i = 0; i < 20000; i++)
        write_line(&text, i, 90);
    make((int64_t)text.len);
    add_buf(&text);
    assert_true(lookback_whole(l));
    assert_int_equal(take_lines(20000, 90), 20000);
    assert_int_equal(take_lines(20000, 90), 0);
    buf_free(&text);
}

/* Lines shorter than those of app.log may fill the table. Then nobody relies on it. */
static void test_a_table_that_is_full(void **arg)
{
    struct buf text = {0};
    (void)arg;
    for (unsigned i = 0; i < 3000; i++)
        write_line(&text, i, 12);
    make((int64_t)text.len);
    add_buf(&text);
    assert_false(lookback_whole(l));
    unsigned found = take_lines(3000, 12);
    assert_true(found > 500 && found < 3000);
    buf_free(&text);
}

static void test_equal_lines_do_not_fill_it(void **arg)
{
    struct buf text = {0};
    (void)arg;
    for (unsigned i = 0; i < 5000; i++)
        buf_add_lit(&text, "x\n");
    make((int64_t)text.len);
    add_buf(&text);
    assert_true(lookback_whole(l));
    for (unsigned i = 0; i < 5000; i++)
        assert_true(take("x\n"));
    assert_false(take("x\n"));
    buf_free(&text);
}

#define TEST(f) cmocka_unit_test_teardown(f, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_equal_lines_are_counted),
        TEST(test_what_is_left_of_a_line),
        TEST(test_a_line_is_more_than_its_beginning),
        TEST(test_zero_bytes_count),
        TEST(test_a_last_line_without_its_end_is_none),
        TEST(test_it_begins_where_it_is_told_to),
        TEST(test_the_rest_of_a_line_is_none),
        TEST(test_without_lines_it_is_empty),
        TEST(test_what_is_cut_meanwhile_is_not_waited_for),
        TEST(test_a_file_that_cannot_be_read),
        TEST(test_the_budget_is_spent_from_the_end),
        TEST(test_a_line_that_the_budget_cuts_is_none),
        TEST(test_all_files_share_the_budget),
        TEST(test_the_whole_budget_may_be_spent),
        TEST(test_a_line_across_the_border_of_two_reads),
        TEST(test_a_line_longer_than_several_reads),
        TEST(test_many_lines),
        TEST(test_a_table_that_is_full),
        TEST(test_equal_lines_do_not_fill_it),
    };
    return cmocka_run_group_tests_name("worker/lookback", tests, NULL, NULL);
}
