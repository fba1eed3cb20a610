/* The log writer: what it appends, what it cuts, and what it never cuts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/writer.h"

#define LINEAGE "00112233445566778899aabbccddeeff"
#define OTHER   "ffffffffffffffffffffffffffffffff"

static char dir[] = "/tmp/test_writer.XXXXXX";
static char path[64], rotated[64], state_path[64];
static struct writer w;

static void open_writer(bool sync_batch)
{
    char err[512];

    if (!writer_open(&w, path, sync_batch, err, sizeof(err)))
        fail_msg("%s", err);
}

static bool try_commit(const char *text, uint64_t id)
{
    struct buf lines = {0};

    buf_add(&lines, text, strlen(text));
    bool done = writer_commit(&w, &lines, (struct stream_id){id, 0});
    int saved = errno;
    buf_free(&lines);
    errno = saved;
    return done;
}

static void commit(const char *text, uint64_t id)
{
    assert_true(try_commit(text, id));
}

static void put(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void assert_text(const char *name, const char *expected)
{
    char text[8192];
    FILE *f = fopen(name, "r");

    assert_non_null(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    fclose(f);
    assert_string_equal(text, expected);
}

static int set_up(void **arg)
{
    (void)arg;
    open_writer(false);
    writer_lineage(&w, LINEAGE);
    commit("one\n", 1);
    return 0;
}

static int tear_down(void **arg)
{
    (void)arg;
    writer_close(&w);
    unlink(rotated);
    return unlink(path) != 0 || unlink(state_path) != 0;
}

/* A new life of the worker. */
static void restart(void)
{
    writer_close(&w);
    open_writer(false);
}

static void test_commits_follow_each_other(void **arg)
{
    (void)arg;
    commit("two\n", 2);
    commit("", 3);
    commit("three\nfour\n", 4);
    assert_text(path, "one\ntwo\nthree\nfour\n");
    restart();
    assert_int_equal(w.state.last.offset, 19);
    assert_int_equal(w.id.ms, 4);
    assert_true(writer_lineage(&w, LINEAGE));
}

static void test_a_tail_is_cut_when_its_entries_come_again(void **arg)
{
    (void)arg;
    put(path, "two\nthr");
    restart();
    assert_true(writer_lineage(&w, LINEAGE));
    assert_text(path, "one\ntwo\nthr");
    assert_true(writer_settle(&w, true));
    commit("two\nthree\n", 3);
    assert_text(path, "one\ntwo\nthree\n");
}

static void test_a_tail_stays_when_redis_has_not_its_entries(void **arg)
{
    (void)arg;
    put(path, "two\nthr");
    restart();
    assert_true(writer_lineage(&w, LINEAGE));
    assert_true(writer_settle(&w, false));
    commit("nine\n", 9);
    assert_text(path, "one\ntwo\nthr\nnine\n");
}

static void test_a_tail_stays_when_the_lineage_is_another(void **arg)
{
    (void)arg;
    put(path, "two\n");
    restart();
    assert_false(writer_lineage(&w, OTHER));
    assert_int_equal(w.id.ms, 0);
    assert_true(writer_settle(&w, true));
    commit("new\n", 1);
    assert_text(path, "one\ntwo\nnew\n");
    restart();
    assert_true(writer_lineage(&w, OTHER));
}

static void test_nothing_is_cut_without_a_state(void **arg)
{
    (void)arg;
    writer_close(&w);
    assert_int_equal(unlink(state_path), 0);
    put(path, "two\n");
    open_writer(false);
    assert_false(writer_lineage(&w, LINEAGE));
    assert_true(writer_settle(&w, true));
    commit("three\n", 3);
    assert_text(path, "one\ntwo\nthree\n");
}

static void test_nothing_is_cut_with_a_damaged_state(void **arg)
{
    (void)arg;
    assert_int_equal(truncate(state_path, 0), 0);
    put(state_path, "garbage");
    put(path, "two\n");
    restart();
    assert_int_equal(w.state.found, STATE_INVALID);
    writer_lineage(&w, LINEAGE);
    assert_true(writer_settle(&w, true));
    commit("three\n", 3);
    assert_text(path, "one\ntwo\nthree\n");
}

/* Rewrites the state's last commit as one of another boot. */
static void pretend_a_reboot(bool sync)
{
    struct state_commit c = w.state.last;

    memset(c.boot, '0', STATE_TOKEN_LEN);
    c.sync = sync;
    assert_true(state_write(&w.state, &c));
}

static void test_nothing_is_cut_after_a_reboot_without_sync(void **arg)
{
    (void)arg;
    pretend_a_reboot(false);
    put(path, "two\n");
    restart();
    assert_true(writer_lineage(&w, LINEAGE));
    assert_true(writer_settle(&w, true));
    commit("three\n", 3);
    assert_text(path, "one\ntwo\nthree\n");
}

static void test_a_tail_is_cut_after_a_reboot_with_sync(void **arg)
{
    (void)arg;
    pretend_a_reboot(true);
    put(path, "tw");
    restart();
    assert_true(writer_lineage(&w, LINEAGE));
    assert_true(writer_settle(&w, true));
    commit("two\n", 2);
    assert_text(path, "one\ntwo\n");
}

static void test_another_file_is_not_cut(void **arg)
{
    (void)arg;
    assert_int_equal(rename(path, rotated), 0);
    put(path, "something long that is another program's\n");
    restart();
    assert_true(writer_lineage(&w, LINEAGE));
    assert_int_equal(w.id.ms, 1); /* what is committed stays committed */
    assert_true(writer_settle(&w, true));
    commit("two\n", 2);
    assert_text(path, "something long that is another program's\ntwo\n");
    assert_text(rotated, "one\n");
}

static void test_the_tail_of_a_renamed_log_is_cut(void **arg)
{
    (void)arg;
    put(path, "two\nthr");
    assert_int_equal(rename(path, rotated), 0);
    restart();
    assert_true(writer_lineage(&w, LINEAGE));
    assert_true(writer_settle(&w, true));
    commit("two\nthree\n", 3);
    assert_text(rotated, "one\n");
    assert_text(path, "two\nthree\n");
}

static void test_reopening_moves_the_state(void **arg)
{
    (void)arg;
    assert_int_equal(rename(path, rotated), 0);
    commit("two\n", 2);
    assert_true(writer_reopen(&w));
    assert_int_equal(w.state.last.offset, 0);
    assert_int_equal(w.state.last.id.ms, 2);
    commit("three\n", 3);
    assert_text(rotated, "one\ntwo\n");
    assert_text(path, "three\n");
}

static void test_reopening_the_same_file_changes_nothing(void **arg)
{
    uint64_t gen = w.state.last.gen;

    (void)arg;
    assert_true(writer_reopen(&w));
    assert_int_equal(w.state.last.gen, gen);
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
    assert_int_equal(w.state.last.offset, 4);
}

static void test_what_others_append_stays(void **arg)
{
    (void)arg;
    put(path, "foreign");
    commit("two\n", 2);
    assert_text(path, "one\nforeign\ntwo\n");
    assert_int_equal(w.state.last.offset, 16);
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
    assert_int_equal(w.written, 2);
}

static void assert_size(const char *name, off_t size)
{
    struct stat st;

    assert_int_equal(stat(name, &st), 0);
    assert_int_equal(st.st_size, size);
}

static void test_a_partial_write_goes_on(void **arg)
{
    (void)arg;
    get_stuck();
    assert_false(try_commit("two\n", 3));
    limit_file_size(RLIM_INFINITY);
    commit("two\n", 3);
    assert_size(path, 2002);
    assert_int_equal(w.state.last.offset, 2002);
}

static void test_a_partial_write_can_be_taken_back(void **arg)
{
    (void)arg;
    get_stuck();
    limit_file_size(RLIM_INFINITY);
    assert_true(writer_rollback(&w));
    assert_size(path, 1998);
    commit("two\n", 3);
    assert_size(path, 2002);
}

static void test_a_partial_write_moves_to_a_new_file(void **arg)
{
    (void)arg;
    get_stuck();
    assert_int_equal(rename(path, rotated), 0);
    assert_true(writer_reopen(&w));
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

static void test_fsync_in_every_batch(void **arg)
{
    (void)arg;
    writer_close(&w);
    open_writer(true);
    assert_true(writer_lineage(&w, LINEAGE));
    commit("two\n", 2);
    assert_true(w.state.last.sync);
    assert_text(path, "one\ntwo\n");
    assert_true(writer_sync(&w));
}

static void test_only_regular_files(void **arg)
{
    struct writer other;
    char err[512];

    (void)arg;
    assert_false(writer_open(&other, "/dev/null", false, err, sizeof(err)));
    assert_non_null(strstr(err, "/dev/null"));
    assert_int_equal(access("/dev/null.state", F_OK), -1);
    assert_false(writer_open(&other, dir, false, err, sizeof(err)));
    assert_false(writer_open(&other, path, false, err, sizeof(err)));
    assert_non_null(strstr(err, "another logworker"));
}

static int make_dir(void **arg)
{
    (void)arg;
    signal(SIGXFSZ, SIG_IGN);
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/app.log", dir);
    snprintf(rotated, sizeof(rotated), "%s/app.log.1", dir);
    snprintf(state_path, sizeof(state_path), "%s/app.log.state", dir);
    return 0;
}

static int remove_dir(void **arg)
{
    (void)arg;
    return rmdir(dir);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_commits_follow_each_other),
        TEST(test_a_tail_is_cut_when_its_entries_come_again),
        TEST(test_a_tail_stays_when_redis_has_not_its_entries),
        TEST(test_a_tail_stays_when_the_lineage_is_another),
        TEST(test_nothing_is_cut_without_a_state),
        TEST(test_nothing_is_cut_with_a_damaged_state),
        TEST(test_nothing_is_cut_after_a_reboot_without_sync),
        TEST(test_a_tail_is_cut_after_a_reboot_with_sync),
        TEST(test_another_file_is_not_cut),
        TEST(test_the_tail_of_a_renamed_log_is_cut),
        TEST(test_reopening_moves_the_state),
        TEST(test_reopening_the_same_file_changes_nothing),
        TEST(test_a_deleted_log_is_made_anew),
        TEST(test_a_truncated_log_goes_on_at_its_end),
        TEST(test_what_others_append_stays),
        TEST(test_a_partial_write_goes_on),
        TEST(test_a_partial_write_can_be_taken_back),
        TEST(test_a_partial_write_moves_to_a_new_file),
        TEST(test_a_partial_write_into_a_file_that_is_truncated),
        TEST(test_fsync_in_every_batch),
        TEST(test_only_regular_files),
    };

    return cmocka_run_group_tests_name("writer", tests, make_dir, remove_dir);
}
