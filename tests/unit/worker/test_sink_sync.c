/* test_sink_sync.c: what is synced, in which order, and what follows when it fails. */
#include "tests/unit/worker/sink-world.h"

#include <sys/syscall.h>

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
    syncs[sync_count++] =
        (struct sync){.ino = st.st_ino, .size = st.st_size, .gen = last_commit().gen};
    return (int)syscall(SYS_fdatasync, fd);
}

static void assert_sync(size_t i, const char *name, off_t size, uint64_t gen)
{
    assert_true(i < sync_count);
    assert_int_equal(syncs[i].ino, inode_of(name));
    assert_int_equal(syncs[i].size, size);
    assert_int_equal(syncs[i].gen, gen);
}

static void test_without_fsync_nothing_is_synced(void **arg)
{
    (void)arg;
    sync_count = 0;
    commit("two\n", 2);
    assert_int_equal(rename(path, rotated), 0);
    assert_true(sink_reopen(w));
    commit("three\n", 3);
    assert_int_equal(sync_count, 0);
    assert_true(sink_sync(w));
    assert_int_equal(sync_count, 2);
    assert_sync(0, path, 6, last_commit().gen);
    assert_sync(1, state_path, 512, last_commit().gen);
}

/* Begins anew with --fsync batch. */
static void restart_with_sync(void)
{
    sink_close(w);
    open_sink(true);
    assert_true(sink_adopt(w, LINEAGE));
    sync_count = 0;
}

/* The log before the slot, the slot before the acknowledgement. */
static void test_fsync_in_every_batch(void **arg)
{
    (void)arg;
    restart_with_sync();
    uint64_t gen = last_commit().gen;
    commit("two\n", 2);
    assert_int_equal(sync_count, 2);
    assert_sync(0, path, 8, gen);
    assert_sync(1, state_path, 512, gen + 1);
    commit("three\n", 3);
    assert_int_equal(sync_count, 4);
    assert_sync(2, path, 14, gen + 1);
    assert_sync(3, state_path, 512, gen + 2);
    assert_true(last_commit().sync);
    assert_text(path, "one\ntwo\nthree\n");
}

static void test_fsync_around_a_rotation(void **arg)
{
    (void)arg;
    restart_with_sync();
    uint64_t gen = last_commit().gen;
    assert_int_equal(rename(path, rotated), 0);
    assert_true(sink_reopen(w));
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
    uint64_t gen = last_commit().gen;
    assert_true(sink_settle(w, true));
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
    assert_false(sink_settle(w, true));
    assert_int_equal(errno, EIO);
    assert_int_equal(sync_count, 0);
    assert_true(sink_settle(w, true));
    assert_int_equal(sync_count, 1);
    assert_sync(0, rotated, 4, last_commit().gen);
    commit("two\n", 2);
    assert_text(path, "two\n");
}

/* The kernel may have dropped what it could not write: the lines are written again. */
static void test_lines_that_cannot_be_synced_are_written_again(void **arg)
{
    (void)arg;
    restart_with_sync();
    uint64_t gen = last_commit().gen;
    sync_error = EIO;
    assert_false(try_commit("two\n", 2));
    assert_text(path, "one\n");
    assert_int_equal(last_commit().gen, gen);
    commit("two\n", 2);
    assert_text(path, "one\ntwo\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_without_fsync_nothing_is_synced),
        TEST(test_fsync_in_every_batch),
        TEST(test_fsync_around_a_rotation),
        TEST(test_fsync_of_a_cut_before_the_slot),
        TEST(test_a_cut_that_cannot_be_synced_is_tried_again),
        TEST(test_lines_that_cannot_be_synced_are_written_again),
    };
    return cmocka_run_group_tests_name("worker/sink_sync", tests, make_dir, remove_dir);
}
