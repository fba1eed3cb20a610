/* test_sink_sync.c: what is synced, in which order, and what follows when it fails. */
#include "tests/unit/worker/sink-world.h"

#include <sys/syscall.h>

#define SYNCS_MAX 16

/* A call of fdatasync(2): of which file, and what was in the files then. */
struct sync {
    ino_t ino;
    off_t size;   /* of the file itself */
    off_t log;    /* of the log */
    uint64_t gen; /* of the newest slot of the state file */
};

static struct sync syncs[SYNCS_MAX];
static size_t sync_count;
static int fail_at; /* the call that fails with EIO, counted from 1; 0: none */

static off_t size_of(const char *name)
{
    struct stat st;
    return stat(name, &st) == 0 ? st.st_size : 0;
}

/* Takes the place of the C library's. */
int fdatasync(int fd)
{
    struct stat st;
    if (fail_at > 0 && --fail_at == 0) {
        errno = EIO;
        return -1;
    }
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(sync_count < SYNCS_MAX);
    syncs[sync_count++] = (struct sync){
        .ino = st.st_ino, .size = st.st_size, .log = size_of(path), .gen = last_slot().gen};
    return (int)syscall(SYS_fdatasync, fd);
}

/* The log had `log` bytes then; the state had this slot. */
static void assert_sync(size_t i, const char *name, off_t log, uint64_t gen)
{
    assert_true(i < sync_count);
    assert_int_equal(syncs[i].ino, inode_of(name));
    assert_int_equal(syncs[i].log, log);
    assert_int_equal(syncs[i].gen, gen);
}

/* Which of the calls from `from` on was for this file; fails the test when none was. */
static size_t find_sync(const char *name, size_t from)
{
    for (size_t i = from; i < sync_count; i++)
        if (syncs[i].ino == inode_of(name))
            return i;
    fail_msg("%s was not synced", name);
    return 0;
}

static void assert_nothing_in_hand(void)
{
    struct state_slot slot = last_slot();
    assert_false(state_in_hand(&slot));
}

/* Begins anew with --fsync batch; the stream begins with entry 2-0. Returns the generation of the
 * slot. */
static uint64_t restart_with_sync(void)
{
    sink_close(w);
    open_sink(true);
    begin(2);
    sync_count = 0;
    return last_slot().gen;
}

/* ---- Order ---- */

static void test_without_fsync_nothing_is_synced(void **arg)
{
    (void)arg;
    sync_count = 0;
    write_new("{two}\n", 2);
    rotate();
    assert_true(sink_reopen(w));
    write_new("{three}\n", 3);
    assert_int_equal(sync_count, 0);
    assert_true(sink_sync(w));
    assert_int_equal(sync_count, 2);
    assert_sync(0, path, 8, last_slot().gen);
    assert_sync(1, state_path, 8, last_slot().gen);
}

/* The slot before the lines, the lines before the commit. */
static void test_fsync_in_every_batch(void **arg)
{
    uint64_t gen = restart_with_sync();
    (void)arg;
    write_new("{two}\n", 2);
    assert_int_equal(sync_count, 2);
    assert_sync(0, state_path, 6, gen + 1);
    assert_sync(1, path, 12, gen + 1);
    write_new("{three}\n", 3);
    assert_int_equal(sync_count, 4);
    assert_sync(2, state_path, 12, gen + 2);
    assert_sync(3, path, 20, gen + 2);
}

static void test_fsync_of_the_first_slot(void **arg)
{
    (void)arg;
    sink_close(w);
    assert_int_equal(unlink(state_path), 0);
    open_sink(true);
    sync_count = 0;
    begin(1);
    assert_int_equal(sync_count, 2);
    assert_sync(0, state_path, 6, 1);
    assert_sync(1, path, 6, 1); /* what is found there will not be written again */
}

static void test_fsync_around_a_rotation(void **arg)
{
    uint64_t gen = restart_with_sync();
    (void)arg;
    rotate();
    assert_true(sink_reopen(w));
    assert_int_equal(sync_count, 1);
    assert_sync(0, rotated, 0, gen);
    write_new("{two}\n", 2);
    assert_int_equal(sync_count, 3);
    assert_sync(1, state_path, 0, gen + 1);
    assert_sync(2, path, 6, gen + 1);
}

static void test_fsync_of_a_state_that_is_made_anew(void **arg)
{
    uint64_t gen = restart_with_sync();
    (void)arg;
    assert_int_equal(unlink(state_path), 0);
    write_new("{two}\n", 2);
    assert_int_equal(sync_count, 3);
    assert_sync(0, state_path, 6, gen + 1);
    assert_sync(1, state_path, 6, gen + 2);
    assert_sync(2, path, 12, gen + 2);
}

static void test_fsync_of_a_cut_before_the_lines(void **arg)
{
    (void)arg;
    restart_with_sync();
    write_batch(ENTRY_NEW, "{two}\n", 2, 3);
    put(path, "{thr");
    rotate();
    restart_with_sync();
    write_batch(ENTRY_IN_HAND, "{three}\n", 2, 3);
    assert_true(sync_count >= 2);
    assert_int_equal(find_sync(rotated, 0), 0);
    assert_int_equal(syncs[0].size, 12);
    assert_int_equal(syncs[sync_count - 1].ino, inode_of(rotated));
    assert_int_equal(syncs[sync_count - 1].size, 20);
    assert_text(rotated, "{one}\n{two}\n{three}\n");
}

static void test_fsync_of_a_batch_that_is_given_up(void **arg)
{
    (void)arg;
    write_batch(ENTRY_NEW, "{two}\n", 2, 3);
    uint64_t gen = restart_with_sync();
    assert_true(surrender("{two}\n"));
    assert_int_equal(sync_count, 2);
    assert_sync(0, path, 6, gen);
    assert_sync(1, state_path, 6, gen + 1);
}

/* ---- Failures ---- */

static void test_a_slot_that_cannot_be_synced_lets_no_line_follow(void **arg)
{
    uint64_t gen = restart_with_sync();
    (void)arg;
    fail_at = 1;
    assert_false(try_write(ENTRY_NEW, "{two}\n", 2, 2));
    assert_int_equal(errno, EIO);
    assert_text(path, "{one}\n");
    write_new("{two}\n", 2);
    assert_int_equal(sync_count, 2);
    assert_sync(0, state_path, 6, gen + 2);
    assert_sync(1, path, 12, gen + 2);
    assert_slot(2, 2, 6);
}

/* The kernel may have dropped what it could not write: the lines are written again. */
static void test_lines_that_cannot_be_synced_are_written_again(void **arg)
{
    uint64_t gen = restart_with_sync();
    (void)arg;
    fail_at = 2;
    assert_false(try_write(ENTRY_NEW, "{two}\n", 2, 2));
    assert_int_equal(errno, EIO);
    assert_text(path, "{one}\n");
    write_new("{two}\n", 2);
    assert_int_equal(sync_count, 2);
    assert_sync(1, path, 12, gen + 1);
    assert_text(path, "{one}\n{two}\n");
    assert_slot(2, 2, 6);
}

static void test_a_log_that_cannot_be_synced_is_not_let_go(void **arg)
{
    (void)arg;
    restart_with_sync();
    rotate();
    fail_at = 1;
    assert_false(sink_reopen(w));
    assert_int_equal(errno, EIO);
    write_new("{two}\n", 2);
    assert_text(rotated, "{one}\n{two}\n");
    assert_true(sink_reopen(w));
    write_new("{three}\n", 3);
    assert_text(path, "{three}\n");
}

static void test_a_cut_that_cannot_be_synced_is_tried_again(void **arg)
{
    (void)arg;
    restart_with_sync();
    write_batch(ENTRY_NEW, "{two}\n", 2, 3);
    assert_int_equal(truncate(path, 10), 0);
    restart_with_sync();
    fail_at = 1;
    assert_false(try_write(ENTRY_IN_HAND, "{two}\n", 2, 3));
    assert_int_equal(errno, EIO);
    assert_text(path, "{one}\n");
    sync_count = 0;
    write_batch(ENTRY_IN_HAND, "{two}\n", 2, 3);
    assert_int_equal(find_sync(path, 0), 0);
    assert_int_equal(syncs[0].size, 6);
    assert_text(path, "{one}\n{two}\n");
}

static void test_a_batch_whose_cut_cannot_be_synced_stays_in_hand(void **arg)
{
    (void)arg;
    write_batch(ENTRY_NEW, "{two}\n", 2, 3);
    uint64_t gen = restart_with_sync();
    fail_at = 1;
    assert_false(surrender("{two}\n"));
    assert_int_equal(errno, EIO);
    assert_slot(2, 3, 6);
    assert_true(surrender("{two}\n"));
    assert_sync(0, path, 6, gen);
    assert_nothing_in_hand();
}

static void test_a_slot_of_no_batch_that_cannot_be_synced(void **arg)
{
    (void)arg;
    write_batch(ENTRY_NEW, "{two}\n", 2, 3);
    restart_with_sync();
    fail_at = 2;
    assert_false(surrender("{two}\n"));
    assert_int_equal(errno, EIO);
    assert_nothing_in_hand();
    assert_text(path, "{one}\n");
}

/* Without it a power cut could leave a batch in hand, and lines of others behind its offset. */
static void test_a_slot_before_old_lines_is_synced_when_it_works_again(void **arg)
{
    (void)arg;
    write_batch(ENTRY_NEW, "{two}\n", 2, 3);
    sink_close(w);
    open_sink(true);
    begin(1);
    uint64_t gen = last_slot().gen;
    fail_at = 3; /* after the log, by either name */
    assert_false(try_write(ENTRY_OLD, "{old}\n", 1, 1));
    assert_int_equal(errno, EIO);
    assert_text(path, "{one}\n{two}\n");
    sync_count = 0;
    write_batch(ENTRY_OLD, "{old}\n", 1, 1);
    size_t slot = find_sync(state_path, 0);
    assert_int_equal(syncs[slot].log, 12);
    assert_true(syncs[slot].gen > gen);
    assert_int_equal(syncs[find_sync(path, slot)].log, 18);
}

static void test_a_sync_by_the_clock_fails(void **arg)
{
    (void)arg;
    fail_at = 1;
    assert_false(sink_sync(w));
    assert_int_equal(errno, EIO);
    assert_true(sink_sync(w));
}

static int tear_down_sync(void **arg)
{
    fail_at = 0;
    sync_count = 0;
    return tear_down(arg);
}

#define SYNC_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down_sync)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SYNC_TEST(test_without_fsync_nothing_is_synced),
        SYNC_TEST(test_fsync_in_every_batch),
        SYNC_TEST(test_fsync_of_the_first_slot),
        SYNC_TEST(test_fsync_around_a_rotation),
        SYNC_TEST(test_fsync_of_a_state_that_is_made_anew),
        SYNC_TEST(test_fsync_of_a_cut_before_the_lines),
        SYNC_TEST(test_fsync_of_a_batch_that_is_given_up),
        SYNC_TEST(test_a_slot_that_cannot_be_synced_lets_no_line_follow),
        SYNC_TEST(test_lines_that_cannot_be_synced_are_written_again),
        SYNC_TEST(test_a_log_that_cannot_be_synced_is_not_let_go),
        SYNC_TEST(test_a_cut_that_cannot_be_synced_is_tried_again),
        SYNC_TEST(test_a_batch_whose_cut_cannot_be_synced_stays_in_hand),
        SYNC_TEST(test_a_slot_of_no_batch_that_cannot_be_synced),
        SYNC_TEST(test_a_slot_before_old_lines_is_synced_when_it_works_again),
        SYNC_TEST(test_a_sync_by_the_clock_fails),
    };
    return cmocka_run_group_tests_name("worker/sink_sync", tests, make_dir, remove_dir);
}
