/* test_logfile.c: the lock of the log, which belongs to the file and not to its name. */
#include "tests/unit/worker/sink-world.h"

#include <sys/file.h>

#include "worker/logfile.h"

/* A second worker comes by link_path, and is sent away with both names. */
static void assert_link_refused(void)
{
    char err[512];
    assert_null(sink_open(link_path, false, LOOK_BACK, err, sizeof(err)));
    assert_non_null(strstr(err, link_path));
    assert_non_null(strstr(err, path));
    assert_non_null(strstr(err, "another logworker"));
    write_new("{two}\n", 2);
    assert_text(path, "{one}\n{two}\n");
}

static void test_a_symbolic_link_leads_to_the_same_lock(void **arg)
{
    (void)arg;
    assert_int_equal(symlink(path, link_path), 0);
    assert_link_refused();
}

static void test_a_hard_link_leads_to_the_same_lock(void **arg)
{
    (void)arg;
    assert_int_equal(link(path, link_path), 0);
    assert_link_refused();
}

static void test_a_removed_state_lets_no_second_worker_in(void **arg)
{
    char err[512];
    (void)arg;
    assert_int_equal(unlink(state_path), 0);
    assert_null(sink_open(path, false, LOOK_BACK, err, sizeof(err)));
    assert_non_null(strstr(err, "another logworker"));
    write_new("{two}\n", 2);
    assert_text(path, "{one}\n{two}\n");
}

static bool can_lock(const char *name)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    bool locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return locked;
}

static void test_reopening_moves_the_lock(void **arg)
{
    (void)arg;
    rotate();
    assert_false(can_lock(rotated));
    assert_true(sink_reopen(w));
    assert_false(can_lock(path));
    assert_true(can_lock(rotated));
    assert_true(sink_reopen(w));
    assert_false(can_lock(path));
}

/* The old file stays in use, and locked, until the new one can be had. */
static void test_reopening_waits_for_the_lock_of_another(void **arg)
{
    (void)arg;
    rotate();
    int other = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(flock(other, LOCK_EX | LOCK_NB), 0);
    assert_false(sink_reopen(w));
    assert_int_equal(errno, EBUSY);
    assert_false(can_lock(rotated));
    write_new("{two}\n", 2);
    assert_text(rotated, "{one}\n{two}\n");
    close(other);
    assert_true(sink_reopen(w));
    write_new("{three}\n", 3);
    assert_text(path, "{three}\n");
}

/* Its last line would be taken for one that was cut short. */
static void test_a_renamed_log_that_another_worker_writes_is_not_cut(void **arg)
{
    (void)arg;
    write_batch(ENTRY_NEW, "{two}\n", 2, 3);
    put(path, "{thr");
    rotate();
    int other = open(rotated, O_RDWR | O_CLOEXEC);
    sink_close(w);
    assert_int_equal(flock(other, LOCK_EX | LOCK_NB), 0);
    open_sink(false);
    assert_false(surrender("{two}\n"));
    assert_int_equal(errno, EWOULDBLOCK);
    begin(2);
    write_batch(ENTRY_IN_HAND, "{three}\n", 2, 3);
    close(other);
    assert_text(rotated, "{one}\n{two}\n{thr");
    assert_text(path, "{three}\n");
}

static void test_a_line_that_was_left_open_is_ended(void **arg)
{
    (void)arg;
    int fd = open(rotated, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    assert_true(logfile_end_line(fd));
    assert_text(rotated, "");
    put(rotated, "{one}\n{tw");
    assert_true(logfile_end_line(fd));
    assert_true(logfile_end_line(fd));
    assert_text(rotated, "{one}\n{tw\n");
    close(fd);
    assert_false(logfile_end_line(-1));
    assert_int_equal(errno, EBADF);
}

/* Written at its beginning, its first lines were lost. */
static void test_a_renamed_log_is_appended_to(void **arg)
{
    struct stat st;
    (void)arg;
    assert_int_equal(stat(path, &st), 0);
    sink_close(w);
    rotate();
    int fd = logfile_open_renamed(path, st.st_dev, st.st_ino);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "{two}\n", 6), 6);
    assert_text(rotated, "{one}\n{two}\n");
    close(fd);
    assert_int_equal(logfile_open_renamed(path, st.st_dev, st.st_ino + 1), -1);
    assert_int_equal(errno, ENOENT);
    open_sink(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_symbolic_link_leads_to_the_same_lock),
        TEST(test_a_hard_link_leads_to_the_same_lock),
        TEST(test_a_removed_state_lets_no_second_worker_in),
        TEST(test_reopening_moves_the_lock),
        TEST(test_reopening_waits_for_the_lock_of_another),
        TEST(test_a_renamed_log_that_another_worker_writes_is_not_cut),
        TEST(test_a_line_that_was_left_open_is_ended),
        TEST(test_a_renamed_log_is_appended_to),
    };
    return cmocka_run_group_tests_name("worker/logfile", tests, make_dir, remove_dir);
}
