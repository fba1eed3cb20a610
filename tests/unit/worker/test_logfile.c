/* test_logfile.c: the lock of the log, which belongs to the file and not to its name. */
#include "tests/unit/worker/sink-world.h"

#include <sys/file.h>

/* A second worker comes by link_path, and is sent away with both names. */
static void assert_link_refused(void)
{
    char err[512];
    assert_null(sink_open(link_path, false, err, sizeof(err)));
    assert_non_null(strstr(err, link_path));
    assert_non_null(strstr(err, path));
    assert_non_null(strstr(err, "another logworker"));
    commit("two\n", 2);
    assert_text(path, "one\ntwo\n");
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
    assert_null(sink_open(path, false, err, sizeof(err)));
    assert_non_null(strstr(err, "another logworker"));
    commit("two\n", 2);
    assert_text(path, "one\ntwo\n");
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
    assert_int_equal(rename(path, rotated), 0);
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
    assert_int_equal(rename(path, rotated), 0);
    int other = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(flock(other, LOCK_EX | LOCK_NB), 0);
    assert_false(sink_reopen(w));
    assert_int_equal(errno, EBUSY);
    assert_false(can_lock(rotated));
    commit("two\n", 2);
    assert_text(rotated, "one\ntwo\n");
    close(other);
    assert_true(sink_reopen(w));
    commit("three\n", 3);
    assert_text(path, "three\n");
}

/* Its lines would be taken for a tail. */
static void test_a_renamed_log_that_another_worker_writes_is_not_cut(void **arg)
{
    (void)arg;
    put(path, "the other's\n");
    assert_int_equal(rename(path, rotated), 0);
    sink_close(w);
    int other = open(rotated, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(other, LOCK_EX | LOCK_NB), 0);
    open_sink(false);
    assert_true(sink_adopt(w, LINEAGE));
    assert_true(sink_settle(w, true));
    commit("two\n", 2);
    close(other);
    assert_text(rotated, "one\nthe other's\n");
    assert_text(path, "two\n");
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
    };
    return cmocka_run_group_tests_name("worker/logfile", tests, make_dir, remove_dir);
}
