/* test_reconcile.c: which entries have their line in the log, in which of its files. */
#include "tests/unit/worker/sink-world.h"

#include <sys/file.h>

#include "worker/prints.h"
#include "worker/reconcile.h"

static struct reconcile r;
static int log_fd;

/* The old one is let go only then, so that a new file has another number. */
static void open_log(void)
{
    int before = log_fd;
    log_fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    assert_true(log_fd >= 0);
    if (before >= 0)
        close(before);
}

/* The slot speaks of the file that is open, and has the batch from 5-0 to 8-0 in hand. */
static void begin_with(int64_t offset, int64_t look_back)
{
    struct stat st;
    assert_int_equal(fstat(log_fd, &st), 0);
    const struct state_slot slot = {.gen = 1,
                                    .dev = st.st_dev,
                                    .ino = st.st_ino,
                                    .offset = offset,
                                    .first = id(5),
                                    .last = id(8)};
    reconcile_begin(&r, path, look_back, log_fd, &slot);
}

static void begin_at(int64_t offset)
{
    begin_with(offset, LOOK_BACK);
}

/* The log gets another name, and a new one takes its place. The slot speaks of the old one. */
static void move_log(const char *to)
{
    assert_int_equal(rename(path, to), 0);
    open_log();
    r.log = log_fd;
}

/* The lines that are there now are those that are compared. */
static void look(uint64_t first)
{
    assert_true(reconcile_look(&r, id(first), false));
}

static enum line_found find(enum entry_class class, const char *line)
{
    return reconcile_find(&r, class, line, strlen(line));
}

static bool torn(const char *line)
{
    return reconcile_torn(&r, line, strlen(line), false);
}

static int set_up_log(void **arg)
{
    (void)arg;
    log_fd = -1;
    put(path, "{1}\n{2}\n");
    open_log();
    return 0;
}

static int tear_down_log(void **arg)
{
    (void)arg;
    reconcile_end(&r);
    memset(&r, 0, sizeof(r));
    close(log_fd);
    unlink(path);
    unlink(rotated);
    unlink(link_path);
    return 0;
}

/* ---- Classes ---- */

static void test_an_id_says_only_what_is_in_doubt(void **arg)
{
    (void)arg;
    begin_at(0);
    assert_int_equal(reconcile_class(&r, (struct stream_id){4, UINT64_MAX}), ENTRY_OLD);
    assert_int_equal(reconcile_class(&r, id(5)), ENTRY_IN_HAND);
    assert_int_equal(reconcile_class(&r, id(6)), ENTRY_IN_HAND);
    assert_int_equal(reconcile_class(&r, id(8)), ENTRY_IN_HAND);
    assert_int_equal(reconcile_class(&r, (struct stream_id){8, 1}), ENTRY_NEW);
    r.slot.first = stream_id_next(r.slot.last);
    assert_int_equal(reconcile_class(&r, id(8)), ENTRY_OLD);
    assert_int_equal(reconcile_class(&r, (struct stream_id){8, 1}), ENTRY_NEW);
}

/* ---- The batch in hand ---- */

static void test_lines_in_hand_stand_behind_the_offset(void **arg)
{
    (void)arg;
    begin_at(8);
    put(path, "{5}\n{6}\n{5}\n{7");
    look(5);
    assert_int_equal(find(ENTRY_IN_HAND, "{1}\n"), LINE_MISSING);
    assert_int_equal(find(ENTRY_IN_HAND, "{5}\n"), LINE_FOUND);
    assert_int_equal(find(ENTRY_IN_HAND, "{5}\n"), LINE_FOUND);
    assert_int_equal(find(ENTRY_IN_HAND, "{5}\n"), LINE_MISSING);
    assert_int_equal(find(ENTRY_IN_HAND, "{6}\n"), LINE_FOUND);
    assert_int_equal(find(ENTRY_IN_HAND, "{7}\n"), LINE_MISSING);
}

static void test_nothing_behind_the_offset(void **arg)
{
    (void)arg;
    begin_at(8);
    look(5);
    assert_int_equal(find(ENTRY_IN_HAND, "{2}\n"), LINE_MISSING);
}

static void test_lines_in_hand_of_a_file_that_was_renamed(void **arg)
{
    (void)arg;
    begin_at(8);
    put(path, "{5}\n");
    move_log(link_path); /* a name that the log's past files don't have */
    put(path, "{6}\n");
    look(5);
    assert_int_equal(find(ENTRY_IN_HAND, "{5}\n"), LINE_FOUND);
    assert_int_equal(find(ENTRY_IN_HAND, "{6}\n"), LINE_MISSING);
    assert_int_equal(find(ENTRY_IN_HAND, "{2}\n"), LINE_MISSING);
}

static void test_lines_in_hand_of_a_file_that_is_gone(void **arg)
{
    (void)arg;
    begin_at(8);
    put(rotated, "{5}\n");
    assert_int_equal(unlink(path), 0);
    open_log();
    r.log = log_fd;
    put(path, "{6}\n");
    look(5);
    assert_int_equal(find(ENTRY_IN_HAND, "{5}\n"), LINE_FOUND);
    assert_int_equal(find(ENTRY_IN_HAND, "{6}\n"), LINE_FOUND);
    assert_int_equal(find(ENTRY_IN_HAND, "{7}\n"), LINE_UNPLACED);
}

/* What copytruncate does. */
static void test_lines_in_hand_of_a_file_that_was_truncated(void **arg)
{
    (void)arg;
    begin_at(8);
    put(rotated, "{1}\n{2}\n{5}\n");
    assert_int_equal(truncate(path, 0), 0);
    put(path, "{6}\n");
    look(5);
    assert_int_equal(find(ENTRY_IN_HAND, "{5}\n"), LINE_FOUND);
    assert_int_equal(find(ENTRY_IN_HAND, "{6}\n"), LINE_FOUND);
    assert_int_equal(find(ENTRY_IN_HAND, "{7}\n"), LINE_UNPLACED);
}

/* ---- Old entries ---- */

static void test_old_lines_stand_in_all_files(void **arg)
{
    (void)arg;
    begin_at(8);
    move_log(rotated);
    put(path, "{3}\n");
    put(link_path, "{4}\n"); /* not a file of the log */
    look(1);
    assert_int_equal(find(ENTRY_OLD, "{1}\n"), LINE_FOUND);
    assert_int_equal(find(ENTRY_OLD, "{2}\n"), LINE_FOUND);
    assert_int_equal(find(ENTRY_OLD, "{3}\n"), LINE_FOUND);
    assert_int_equal(find(ENTRY_OLD, "{3}\n"), LINE_MISSING);
    assert_int_equal(find(ENTRY_OLD, "{4}\n"), LINE_MISSING);
}

static void test_an_old_line_beyond_the_look_back_is_unplaced(void **arg)
{
    (void)arg;
    begin_with(8, 4);
    look(1);
    assert_int_equal(find(ENTRY_OLD, "{1}\n"), LINE_UNPLACED);
    assert_int_equal(find(ENTRY_OLD, "{2}\n"), LINE_FOUND);
    assert_int_equal(find(ENTRY_OLD, "{2}\n"), LINE_UNPLACED);
}

static void test_lines_in_hand_have_the_same_bound(void **arg)
{
    (void)arg;
    begin_with(0, 4);
    look(5);
    assert_int_equal(find(ENTRY_IN_HAND, "{1}\n"), LINE_UNPLACED);
    assert_int_equal(find(ENTRY_IN_HAND, "{2}\n"), LINE_FOUND);
}

static void test_a_compressed_file_may_have_an_old_line(void **arg)
{
    (void)arg;
    begin_at(8);
    put(rotated, "\x1f\x8b\x08");
    look(1);
    assert_int_equal(find(ENTRY_OLD, "{1}\n"), LINE_FOUND);
    assert_int_equal(find(ENTRY_OLD, "{0}\n"), LINE_UNPLACED);
}

/* One line is good for one entry, of whichever class. */
static void test_old_entries_and_those_in_hand_share_the_lines(void **arg)
{
    (void)arg;
    put(path, "{x}\n");
    begin_at(12);
    put(path, "{x}\n{x}\n");
    look(1);
    assert_int_equal(find(ENTRY_OLD, "{x}\n"), LINE_FOUND); /* the one before the offset */
    assert_int_equal(find(ENTRY_IN_HAND, "{x}\n"), LINE_FOUND);
    assert_int_equal(find(ENTRY_OLD, "{x}\n"), LINE_FOUND);
    assert_int_equal(find(ENTRY_IN_HAND, "{x}\n"), LINE_MISSING);
    assert_int_equal(find(ENTRY_OLD, "{x}\n"), LINE_MISSING);
}

static void test_a_log_that_cannot_be_read(void **arg)
{
    (void)arg;
    begin_at(8);
    r.log = -1;
    assert_false(reconcile_look(&r, id(1), false));
    assert_int_equal(errno, EBADF);
    r.log = log_fd;
    look(1);
    assert_int_equal(find(ENTRY_OLD, "{1}\n"), LINE_FOUND);
}

static void test_lines_that_are_added_later_do_not_count(void **arg)
{
    (void)arg;
    begin_at(8);
    look(1);
    put(path, "{5}\n");
    assert_int_equal(find(ENTRY_IN_HAND, "{5}\n"), LINE_MISSING);
    assert_int_equal(find(ENTRY_OLD, "{5}\n"), LINE_MISSING);
    begin_at(8);
    look(1);
    assert_int_equal(find(ENTRY_IN_HAND, "{5}\n"), LINE_FOUND);
}

/* Ids ran backwards: nothing was looked at. */
static void test_an_entry_in_doubt_that_comes_late_is_unplaced(void **arg)
{
    (void)arg;
    begin_at(8);
    look(9);
    assert_int_equal(find(ENTRY_OLD, "{1}\n"), LINE_UNPLACED);
    assert_int_equal(find(ENTRY_IN_HAND, "{5}\n"), LINE_UNPLACED);
    begin_at(8);
    assert_int_equal(find(ENTRY_OLD, "{1}\n"), LINE_UNPLACED);
}

/* ---- A line that was cut short ---- */

static void test_the_beginning_of_the_line_is_cut(void **arg)
{
    (void)arg;
    begin_at(8);
    put(path, "{5}\n{6");
    assert_true(torn("{6}\n"));
    assert_text(path, "{1}\n{2}\n{5}\n");
    put(path, "{6}"); /* only its line feed is missing */
    assert_true(torn("{6}\n"));
    assert_text(path, "{1}\n{2}\n{5}\n");
}

static void test_what_is_not_the_beginning_of_the_line_stays(void **arg)
{
    (void)arg;
    begin_at(8);
    assert_true(torn("{2}\n{3}\n")); /* the last line has its line feed */
    put(path, "{6");
    assert_true(torn("{7}\n"));
    assert_true(torn("{"));
    assert_true(torn("{6")); /* the whole of it */
    assert_text(path, "{1}\n{2}\n{6");
}

static void test_a_log_of_one_torn_line(void **arg)
{
    (void)arg;
    assert_int_equal(truncate(path, 0), 0);
    begin_at(0);
    assert_true(torn("{1}\n"));
    put(path, "{1");
    assert_true(torn("{1}\n"));
    assert_text(path, "");
}

static void test_a_long_torn_line(void **arg)
{
    char line[20001];
    (void)arg;
    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 2] = '\n';
    line[sizeof(line) - 1] = '\0';
    begin_at(8);
    for (size_t n = 4090; n <= 4100; n++) {
        char kept = line[n];
        line[n] = '\0';
        put(path, line);
        line[n] = kept;
        line[n - 1] = 'y';
        assert_true(torn(line));
        line[n - 1] = 'x';
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, 8 + n);
        assert_true(torn(line));
        assert_text(path, "{1}\n{2}\n");
    }
}

static void test_a_torn_line_of_a_file_that_was_renamed(void **arg)
{
    (void)arg;
    begin_at(8);
    put(path, "{5}\n{6");
    move_log(rotated);
    assert_true(torn("{7}\n"));
    assert_text(rotated, "{1}\n{2}\n{5}\n{6");
    assert_true(torn("{6}\n"));
    assert_text(rotated, "{1}\n{2}\n{5}\n");
    put(path, "{6"); /* and once more, into the new one */
    assert_true(torn("{6}\n"));
    assert_text(path, "");
}

static void test_a_torn_line_that_nobody_can_look_at(void **arg)
{
    (void)arg;
    begin_at(8);
    r.log = -1;
    assert_false(torn("{6}\n"));
    assert_int_equal(errno, EBADF);
}

/* ---- The whole batch ---- */

static bool covered(const char *line)
{
    struct buf notes = {0};
    bool all;
    prints_add(&notes, id(6), line, strlen(line));
    assert_true(reconcile_covered(&r, (struct span){notes.data, notes.len}, &all));
    buf_free(&notes);
    return all;
}

static void test_whether_others_have_the_batch_in_hand(void **arg)
{
    (void)arg;
    begin_at(8);
    put(path, "{5}\n{6");
    assert_true(covered("{5}\n"));
    assert_false(covered("{6}\n"));
    move_log(rotated);
    put(path, "{7}\n");
    assert_true(covered("{5}\n"));
    assert_false(covered("{7}\n"));
    assert_int_equal(unlink(rotated), 0);
    assert_false(covered("{5}\n")); /* it is gone */
}

static void test_a_batch_that_cannot_be_compared(void **arg)
{
    bool all;
    (void)arg;
    begin_at(8);
    r.log = -1;
    assert_false(reconcile_covered(&r, SPAN_LIT(""), &all));
    assert_int_equal(errno, EBADF);
}

static void test_the_batch_in_hand_is_cut(void **arg)
{
    (void)arg;
    begin_at(8);
    assert_true(reconcile_cut(&r, false));
    assert_text(path, "{1}\n{2}\n");
    put(path, "{5}\n{6");
    assert_true(reconcile_cut(&r, true));
    assert_text(path, "{1}\n{2}\n");
}

static void test_the_batch_is_cut_off_a_file_that_was_renamed(void **arg)
{
    (void)arg;
    begin_at(8);
    put(path, "{5}\n");
    move_log(rotated);
    put(path, "{foreign}\n");
    assert_true(reconcile_cut(&r, false));
    assert_text(rotated, "{1}\n{2}\n");
    assert_text(path, "{foreign}\n");
}

static void test_a_file_that_is_gone_or_shorter_is_not_cut(void **arg)
{
    (void)arg;
    begin_at(12);
    assert_true(reconcile_cut(&r, false));
    assert_text(path, "{1}\n{2}\n");
    begin_at(4);
    assert_int_equal(unlink(path), 0);
    open_log();
    r.log = log_fd;
    put(path, "{3}\n{4}\n");
    assert_true(reconcile_cut(&r, false));
    assert_text(path, "{3}\n{4}\n");
}

/* Its lines are the other's. */
static void test_a_file_that_another_worker_writes_is_not_cut(void **arg)
{
    (void)arg;
    begin_at(8);
    put(path, "{the other's");
    move_log(rotated);
    int other = open(rotated, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(other, LOCK_EX | LOCK_NB), 0);
    assert_false(reconcile_cut(&r, false));
    assert_int_equal(errno, EWOULDBLOCK);
    assert_true(torn("{the other's}\n"));
    assert_text(rotated, "{1}\n{2}\n{the other's");
    look(5);
    assert_int_equal(find(ENTRY_IN_HAND, "{2}\n"), LINE_FOUND); /* among all lines */
    close(other);
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, set_up_log, tear_down_log)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(test_an_id_says_only_what_is_in_doubt),
        LOG_TEST(test_lines_in_hand_stand_behind_the_offset),
        LOG_TEST(test_nothing_behind_the_offset),
        LOG_TEST(test_lines_in_hand_of_a_file_that_was_renamed),
        LOG_TEST(test_lines_in_hand_of_a_file_that_is_gone),
        LOG_TEST(test_lines_in_hand_of_a_file_that_was_truncated),
        LOG_TEST(test_old_lines_stand_in_all_files),
        LOG_TEST(test_an_old_line_beyond_the_look_back_is_unplaced),
        LOG_TEST(test_lines_in_hand_have_the_same_bound),
        LOG_TEST(test_a_compressed_file_may_have_an_old_line),
        LOG_TEST(test_a_log_that_cannot_be_read),
        LOG_TEST(test_old_entries_and_those_in_hand_share_the_lines),
        LOG_TEST(test_lines_that_are_added_later_do_not_count),
        LOG_TEST(test_an_entry_in_doubt_that_comes_late_is_unplaced),
        LOG_TEST(test_the_beginning_of_the_line_is_cut),
        LOG_TEST(test_what_is_not_the_beginning_of_the_line_stays),
        LOG_TEST(test_a_log_of_one_torn_line),
        LOG_TEST(test_a_long_torn_line),
        LOG_TEST(test_a_torn_line_of_a_file_that_was_renamed),
        LOG_TEST(test_a_torn_line_that_nobody_can_look_at),
        LOG_TEST(test_whether_others_have_the_batch_in_hand),
        LOG_TEST(test_a_batch_that_cannot_be_compared),
        LOG_TEST(test_the_batch_in_hand_is_cut),
        LOG_TEST(test_the_batch_is_cut_off_a_file_that_was_renamed),
        LOG_TEST(test_a_file_that_is_gone_or_shorter_is_not_cut),
        LOG_TEST(test_a_file_that_another_worker_writes_is_not_cut),
    };
    return cmocka_run_group_tests_name("worker/reconcile", tests, make_dir, remove_dir);
}
