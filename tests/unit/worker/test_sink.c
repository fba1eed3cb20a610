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
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/sink.h"

#define LINEAGE "00112233445566778899aabbccddeeff"
#define OTHER   "ffffffffffffffffffffffffffffffff"

static char dir[] = "/tmp/test_writer.XXXXXX";
static char path[64], rotated[64], state_path[64];
static struct sink w;

/* ---- What is synced, and when ---- */

#define SYNCS_MAX 16

/* A call of fdatasync(2): of which file, and what was in the files then. */
struct sync {
    ino_t ino;
    off_t size;   /* of the file itself */
    uint64_t gen; /* of the newest slot of the state file */
};

static struct sync syncs[SYNCS_MAX];
static size_t sync_count;
static int sync_error; /* fails with it, once; 0: works */

static ino_t inode_of(const char *name)
{
    struct stat st;
    assert_int_equal(stat(name, &st), 0);
    return st.st_ino;
}

static uint64_t newest_gen(void)
{
    char slots[2 * STATE_SLOT_BYTES] = {0};
    struct state_commit c;
    uint64_t newest = 0;
    int fd = open(state_path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(pread(fd, slots, sizeof(slots), 0) >= 0);
    close(fd);
    for (size_t i = 0; i < 2; i++)
        if (state_parse(&c, slots + i * STATE_SLOT_BYTES) && c.gen > newest)
            newest = c.gen;
    return newest;
}

/* Takes the place of the C library's. */
int fdatasync(int fd)
{
    struct stat st;
    if (sync_error != 0) {
        errno = sync_error;
        sync_error = 0;
        return -1;
    }
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(sync_count < SYNCS_MAX);
    syncs[sync_count++] = (struct sync){.ino = st.st_ino, .size = st.st_size, .gen = newest_gen()};
    return (int)syscall(SYS_fdatasync, fd);
}

static void assert_sync(size_t i, const char *name, off_t size, uint64_t gen)
{
    assert_true(i < sync_count);
    assert_int_equal(syncs[i].ino, inode_of(name));
    assert_int_equal(syncs[i].size, size);
    assert_int_equal(syncs[i].gen, gen);
}

static void open_writer(bool sync_batch)
{
    char err[512];
    if (!sink_open(&w, path, sync_batch, err, sizeof(err)))
        fail_msg("%s", err);
}

static bool try_commit(const char *text, uint64_t id)
{
    struct buf lines = {0};
    buf_add(&lines, text, strlen(text));
    bool done = sink_commit(&w, &lines, (struct stream_id){id, 0});
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
    sync_count = 0;
    open_writer(false);
    sink_lineage(&w, LINEAGE);
    commit("one\n", 1);
    return 0;
}

static int tear_down(void **arg)
{
    (void)arg;
    sink_close(&w);
    unlink(rotated);
    return unlink(path) != 0 || unlink(state_path) != 0;
}

/* A new life of the worker. */
static void restart(void)
{
    sink_close(&w);
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
    assert_true(sink_lineage(&w, LINEAGE));
}

static void test_a_tail_is_cut_when_its_entries_come_again(void **arg)
{
    (void)arg;
    put(path, "two\nthr");
    restart();
    assert_true(sink_lineage(&w, LINEAGE));
    assert_text(path, "one\ntwo\nthr");
    assert_true(sink_settle(&w, true));
    commit("two\nthree\n", 3);
    assert_text(path, "one\ntwo\nthree\n");
}

static void test_a_tail_stays_when_redis_has_not_its_entries(void **arg)
{
    (void)arg;
    put(path, "two\nthr");
    restart();
    assert_true(sink_lineage(&w, LINEAGE));
    assert_true(sink_settle(&w, false));
    commit("nine\n", 9);
    assert_text(path, "one\ntwo\nthr\nnine\n");
}

static void test_a_tail_stays_when_the_lineage_is_another(void **arg)
{
    (void)arg;
    put(path, "two\n");
    restart();
    assert_false(sink_lineage(&w, OTHER));
    assert_int_equal(w.id.ms, 0);
    assert_true(sink_settle(&w, true));
    commit("new\n", 1);
    assert_text(path, "one\ntwo\nnew\n");
    restart();
    assert_true(sink_lineage(&w, OTHER));
}

static void test_nothing_is_cut_without_a_state(void **arg)
{
    (void)arg;
    sink_close(&w);
    assert_int_equal(unlink(state_path), 0);
    put(path, "two\n");
    open_writer(false);
    assert_false(sink_lineage(&w, LINEAGE));
    assert_true(sink_settle(&w, true));
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
    sink_lineage(&w, LINEAGE);
    assert_true(sink_settle(&w, true));
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
    assert_true(sink_lineage(&w, LINEAGE));
    assert_true(sink_settle(&w, true));
    commit("three\n", 3);
    assert_text(path, "one\ntwo\nthree\n");
}

static void test_a_tail_is_cut_after_a_reboot_with_sync(void **arg)
{
    (void)arg;
    pretend_a_reboot(true);
    put(path, "tw");
    restart();
    assert_true(sink_lineage(&w, LINEAGE));
    assert_true(sink_settle(&w, true));
    commit("two\n", 2);
    assert_text(path, "one\ntwo\n");
}

static void test_another_file_is_not_cut(void **arg)
{
    (void)arg;
    assert_int_equal(rename(path, rotated), 0);
    put(path, "something long that is another program's\n");
    restart();
    assert_true(sink_lineage(&w, LINEAGE));
    assert_int_equal(w.id.ms, 1); /* what is committed stays committed */
    assert_true(sink_settle(&w, true));
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
    assert_true(sink_lineage(&w, LINEAGE));
    assert_true(sink_settle(&w, true));
    commit("two\nthree\n", 3);
    assert_text(rotated, "one\n");
    assert_text(path, "two\nthree\n");
}

static void test_reopening_moves_the_state(void **arg)
{
    (void)arg;
    assert_int_equal(rename(path, rotated), 0);
    commit("two\n", 2);
    assert_true(sink_reopen(&w));
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
    assert_true(sink_reopen(&w));
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
    assert_true(sink_rollback(&w));
    assert_size(path, 1998);
    commit("two\n", 3);
    assert_size(path, 2002);
}

static void test_a_partial_write_moves_to_a_new_file(void **arg)
{
    (void)arg;
    get_stuck();
    assert_int_equal(rename(path, rotated), 0);
    assert_true(sink_reopen(&w));
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

static void test_without_fsync_nothing_is_synced(void **arg)
{
    (void)arg;
    commit("two\n", 2);
    assert_int_equal(rename(path, rotated), 0);
    assert_true(sink_reopen(&w));
    commit("three\n", 3);
    assert_int_equal(sync_count, 0);
    assert_true(sink_sync(&w));
    assert_int_equal(sync_count, 2);
    assert_sync(0, path, 6, w.state.last.gen);
    assert_sync(1, state_path, 512, w.state.last.gen);
}

/* Begins anew with --fsync batch. */
static void restart_with_sync(void)
{
    sink_close(&w);
    open_writer(true);
    assert_true(sink_lineage(&w, LINEAGE));
    sync_count = 0;
}

/* The log before the slot, the slot before the acknowledgement. */
static void test_fsync_in_every_batch(void **arg)
{
    (void)arg;
    restart_with_sync();
    uint64_t gen = w.state.last.gen;
    commit("two\n", 2);
    assert_int_equal(sync_count, 2);
    assert_sync(0, path, 8, gen);
    assert_sync(1, state_path, 512, gen + 1);
    commit("three\n", 3);
    assert_int_equal(sync_count, 4);
    assert_sync(2, path, 14, gen + 1);
    assert_sync(3, state_path, 512, gen + 2);
    assert_true(w.state.last.sync);
    assert_text(path, "one\ntwo\nthree\n");
}

static void test_fsync_around_a_rotation(void **arg)
{
    (void)arg;
    restart_with_sync();
    uint64_t gen = w.state.last.gen;
    assert_int_equal(rename(path, rotated), 0);
    assert_true(sink_reopen(&w));
    assert_int_equal(sync_count, 3); /* the old log, then the new one, and what the state says */
    assert_sync(0, rotated, 4, gen);
    assert_sync(1, path, 0, gen);
    assert_sync(2, state_path, 512, gen + 1);
}

/* The state turns to another file with the next commit: then nothing would cut the renamed one. */
static void test_fsync_of_a_cut_before_the_slot(void **arg)
{
    (void)arg;
    restart_with_sync();
    commit("two\n", 2);
    put(path, "thr");
    assert_int_equal(rename(path, rotated), 0);
    restart_with_sync();
    uint64_t gen = w.state.last.gen;
    assert_true(sink_settle(&w, true));
    assert_int_equal(sync_count, 1);
    assert_sync(0, rotated, 8, gen);
    commit("three\n", 3);
    assert_text(rotated, "one\ntwo\n");
    assert_text(path, "three\n");
}

static void test_a_cut_that_cannot_be_synced_is_tried_again(void **arg)
{
    (void)arg;
    restart_with_sync();
    put(path, "tw");
    assert_int_equal(rename(path, rotated), 0);
    restart_with_sync();
    sync_error = EIO;
    assert_false(sink_settle(&w, true));
    assert_int_equal(errno, EIO);
    assert_int_equal(sync_count, 0);
    assert_true(sink_settle(&w, true));
    assert_int_equal(sync_count, 1);
    assert_sync(0, rotated, 4, w.state.last.gen);
    commit("two\n", 2);
    assert_text(path, "two\n");
}

/* The kernel may have dropped what it could not write: the lines are written again. */
static void test_lines_that_cannot_be_synced_are_written_again(void **arg)
{
    (void)arg;
    restart_with_sync();
    uint64_t gen = w.state.last.gen;
    sync_error = EIO;
    assert_false(try_commit("two\n", 2));
    assert_text(path, "one\n");
    assert_int_equal(w.state.last.gen, gen);
    commit("two\n", 2);
    assert_text(path, "one\ntwo\n");
}

static void test_only_regular_files(void **arg)
{
    struct sink other;
    char err[512];
    (void)arg;
    assert_false(sink_open(&other, "/dev/null", false, err, sizeof(err)));
    assert_non_null(strstr(err, "/dev/null"));
    assert_int_equal(access("/dev/null.state", F_OK), -1);
    assert_false(sink_open(&other, dir, false, err, sizeof(err)));
    assert_false(sink_open(&other, path, false, err, sizeof(err)));
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

static void test_a_removed_state_is_made_anew(void **arg)
{
    (void)arg;
    uint64_t gen = newest_gen();
    assert_int_equal(unlink(state_path), 0);
    commit("two\n", 2);
    assert_true(newest_gen() > gen);
    restart();
    assert_int_equal(w.state.found, STATE_VALID);
    assert_int_equal(w.state.last.offset, 8);
    assert_int_equal(w.id.ms, 2);
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
    assert_int_equal(w.state.last.offset, 8);
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
        TEST(test_a_removed_state_is_made_anew),
        TEST(test_a_state_that_another_worker_has_locked_stops_the_writing),
        TEST(test_a_truncated_log_goes_on_at_its_end),
        TEST(test_what_others_append_stays),
        TEST(test_a_partial_write_goes_on),
        TEST(test_a_partial_write_can_be_taken_back),
        TEST(test_a_partial_write_moves_to_a_new_file),
        TEST(test_a_partial_write_into_a_file_that_is_truncated),
        TEST(test_without_fsync_nothing_is_synced),
        TEST(test_fsync_in_every_batch),
        TEST(test_fsync_around_a_rotation),
        TEST(test_fsync_of_a_cut_before_the_slot),
        TEST(test_a_cut_that_cannot_be_synced_is_tried_again),
        TEST(test_lines_that_cannot_be_synced_are_written_again),
        TEST(test_only_regular_files),
    };
    return cmocka_run_group_tests_name("writer", tests, make_dir, remove_dir);
}
