/* test_sink.c: what the sink appends and commits, and how it goes on after a failure. */
#include "tests/unit/worker/sink-world.h"

#include <sys/resource.h>

static void test_commits_follow_each_other(void **arg)
{
    (void)arg;
    commit("two\n", 2);
    commit("", 3);
    commit("three\nfour\n", 4);
    assert_text(path, "one\ntwo\nthree\nfour\n");
    restart();
    assert_int_equal(last_commit().offset, 19);
    assert_int_equal(sink_id(w).ms, 4);
    assert_true(sink_adopt(w, LINEAGE));
}

static void test_reopening_moves_the_state(void **arg)
{
    (void)arg;
    assert_int_equal(rename(path, rotated), 0);
    commit("two\n", 2);
    assert_true(sink_reopen(w));
    assert_int_equal(last_commit().offset, 0);
    assert_int_equal(last_commit().id.ms, 2);
    commit("three\n", 3);
    assert_text(rotated, "one\ntwo\n");
    assert_text(path, "three\n");
}

static void test_reopening_the_same_file_changes_nothing(void **arg)
{
    uint64_t gen = last_commit().gen;
    (void)arg;
    assert_true(sink_reopen(w));
    assert_int_equal(last_commit().gen, gen);
    commit("two\n", 2);
    assert_text(path, "one\ntwo\n");
}

static void test_a_deleted_log_is_made_anew(void **arg)
{
    (void)arg;
    assert_int_equal(unlink(path), 0);
    commit("two\n", 2);
    assert_text(path, "two\n");
}

static void test_a_truncated_log_goes_on_at_its_end(void **arg)
{
    (void)arg;
    assert_int_equal(truncate(path, 0), 0);
    commit("two\n", 2);
    assert_text(path, "two\n");
    assert_int_equal(last_commit().offset, 4);
}

static void test_what_others_append_stays(void **arg)
{
    (void)arg;
    put(path, "foreign");
    commit("two\n", 2);
    assert_text(path, "one\nforeign\ntwo\n");
    assert_int_equal(last_commit().offset, 16);
}

static void test_a_removed_state_is_made_anew(void **arg)
{
    (void)arg;
    uint64_t gen = last_commit().gen;
    assert_int_equal(unlink(state_path), 0);
    commit("two\n", 2);
    assert_true(last_commit().gen > gen);
    restart();
    assert_int_equal(last_commit().offset, 8);
    assert_int_equal(sink_id(w).ms, 2);
}

/* Without this two workers wrote the same log. */
static void test_a_state_that_another_worker_has_locked_stops_the_writing(void **arg)
{
    struct state other;
    char err[512];
    (void)arg;
    assert_int_equal(unlink(state_path), 0);
    assert_true(state_open(&other, state_path, err, sizeof(err)));
    assert_false(try_commit("two\n", 2));
    assert_int_equal(errno, EBUSY);
    assert_text(path, "one\n");
    state_close(&other);
    commit("two\n", 2);
    assert_text(path, "one\ntwo\n");
    assert_int_equal(last_commit().offset, 8);
}

static void assert_size(const char *name, off_t size)
{
    struct stat st;
    assert_int_equal(stat(name, &st), 0);
    assert_int_equal(st.st_size, size);
}

/* The disk is full at `bytes`. */
static void limit_file_size(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Leaves "two\n" half written: the log may have 2,000 bytes, and the state file has its 512. */
static void get_stuck(void)
{
    char line[1995];
    memset(line, 'x', sizeof(line) - 2);
    memcpy(line + sizeof(line) - 2, "\n", 2);
    commit(line, 2); /* the log has 1,998 bytes */
    limit_file_size(2000);
    assert_false(try_commit("two\n", 3));
    assert_int_equal(errno, EFBIG);
    assert_size(path, 2000);
}

static void test_a_partial_write_goes_on(void **arg)
{
    (void)arg;
    get_stuck();
    assert_false(try_commit("two\n", 3));
    limit_file_size(RLIM_INFINITY);
    commit("two\n", 3);
    assert_size(path, 2002);
    assert_int_equal(last_commit().offset, 2002);
}

static void test_a_partial_write_can_be_taken_back(void **arg)
{
    (void)arg;
    get_stuck();
    limit_file_size(RLIM_INFINITY);
    assert_true(sink_rollback(w));
    assert_size(path, 1998);
    commit("two\n", 3);
    assert_size(path, 2002);
}

static void test_a_partial_write_moves_to_a_new_file(void **arg)
{
    (void)arg;
    get_stuck();
    assert_int_equal(rename(path, rotated), 0);
    assert_true(sink_reopen(w));
    limit_file_size(RLIM_INFINITY);
    assert_size(rotated, 1998);
    commit("two\n", 3);
    assert_text(path, "two\n");
}

static void test_a_partial_write_into_a_file_that_is_truncated(void **arg)
{
    (void)arg;
    get_stuck();
    limit_file_size(RLIM_INFINITY);
    assert_int_equal(truncate(path, 0), 0);
    commit("two\n", 3);
    assert_text(path, "two\n");
}

static void test_only_regular_files(void **arg)
{
    char err[512];
    (void)arg;
    assert_null(sink_open("/dev/null", false, err, sizeof(err)));
    assert_non_null(strstr(err, "/dev/null"));
    assert_int_equal(access("/dev/null.state", F_OK), -1);
    assert_null(sink_open(dir, false, err, sizeof(err)));
    assert_null(sink_open(path, false, err, sizeof(err)));
    assert_non_null(strstr(err, "another logworker"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_commits_follow_each_other),
        TEST(test_reopening_moves_the_state),
        TEST(test_reopening_the_same_file_changes_nothing),
        TEST(test_a_deleted_log_is_made_anew),
        TEST(test_a_truncated_log_goes_on_at_its_end),
        TEST(test_what_others_append_stays),
        TEST(test_a_removed_state_is_made_anew),
        TEST(test_a_state_that_another_worker_has_locked_stops_the_writing),
        TEST(test_a_partial_write_goes_on),
        TEST(test_a_partial_write_can_be_taken_back),
        TEST(test_a_partial_write_moves_to_a_new_file),
        TEST(test_a_partial_write_into_a_file_that_is_truncated),
        TEST(test_only_regular_files),
    };
    return cmocka_run_group_tests_name("worker/sink", tests, make_dir, remove_dir);
}
