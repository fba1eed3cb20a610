/* test_sink.c: what the sink appends, which slot says so, and how it goes on after a failure. */
#include "tests/unit/worker/sink-world.h"

#include <sys/file.h>
#include <sys/resource.h>

/* ---- Batches ---- */

/* Without a state file. */
static void forget_state(void)
{
    sink_close(w);
    assert_int_equal(unlink(state_path), 0);
    open_sink(false);
}

static void test_a_log_without_a_state_has_no_batch_in_hand(void **arg)
{
    const struct stream_id first = id(5);
    char token[STATE_TOKEN_LEN + 1];
    (void)arg;
    forget_state();
    snprintf(token, sizeof(token), "%s", sink_token(w));
    assert_int_equal(strspn(token, "0123456789abcdef"), STATE_TOKEN_LEN);
    assert_int_equal(sink_last(w).ms, 0);
    assert_true(sink_begin(w, &first, id(7)));
    assert_idle(7, 6);
    assert_string_equal(last_slot().token, token);
    assert_int_equal(sink_last(w).ms, 7);
    assert_false(is_in_hand());
    assert_int_equal(sink_class(w, id(7)), ENTRY_OLD);
    restart(0);
    assert_string_equal(sink_token(w), token);
}

/* Nothing of what Redis holds can have a line. */
static void test_in_a_log_without_a_byte_all_is_new(void **arg)
{
    const struct stream_id first = id(5);
    (void)arg;
    assert_int_equal(truncate(path, 0), 0);
    forget_state();
    assert_true(sink_begin(w, &first, id(7)));
    assert_idle(0, 0);
    assert_int_equal(sink_class(w, id(1)), ENTRY_NEW);
}

static void test_an_empty_log_may_have_been_another_file(void **arg)
{
    const struct stream_id first = id(5);
    (void)arg;
    rotate();
    forget_state();
    assert_true(sink_begin(w, &first, id(7)));
    assert_idle(7, 0);
    assert_int_equal(sink_class(w, id(1)), ENTRY_OLD);
    assert_int_equal(find_line(ENTRY_OLD, "{one}\n"), LINE_FOUND);
}

static void test_the_slot_says_where_a_batch_begins(void **arg)
{
    struct stream_id first, last;
    (void)arg;
    write_batch(ENTRY_NEW, "{two}\n{three}\n", 2, 4);
    assert_text(path, "{one}\n{two}\n{three}\n");
    assert_slot(2, 4, 6);
    assert_int_equal(sink_offset(w), 20);
    assert_int_equal(sink_last(w).ms, 4);
    assert_true(sink_in_hand(w, &first, &last));
    assert_int_equal(first.ms, 2);
    assert_int_equal(last.ms, 4);
    sink_confirm(w, sink_last(w));
    assert_false(is_in_hand());
    write_new("{five}\n", 5);
    assert_slot(5, 5, 20);
}

static void test_the_slot_comes_before_the_first_line(void **arg)
{
    struct rlimit limit;
    (void)arg;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    const struct rlimit full = {.rlim_cur = 6, .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    assert_false(try_write(ENTRY_NEW, "{two}\n", 2, 3)); /* nor has the state file room */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_slot(1, 1, 0);
    assert_text(path, "{one}\n");
    write_batch(ENTRY_NEW, "{two}\n", 2, 3);
    assert_slot(2, 3, 6);
}

/* What lies behind the offset then does not tell what is missing of it. */
static void test_before_old_lines_no_batch_is_in_hand(void **arg)
{
    (void)arg;
    write_new("{three}\n", 3);
    restart(2);
    assert_int_equal(sink_class(w, id(2)), ENTRY_OLD);
    write_batch(ENTRY_OLD, "{two}\n", 2, 2);
    assert_idle(3, 14);
    uint64_t gen = last_slot().gen;
    write_batch(ENTRY_OLD, "{more}\n", 2, 2);
    assert_int_equal(last_slot().gen, gen);
    write_batch(ENTRY_IN_HAND, "{three}\n", 3, 3); /* as it was in hand at the opening */
    assert_int_equal(last_slot().gen, gen);
    assert_text(path, "{one}\n{three}\n{two}\n{more}\n{three}\n");
}

static void test_a_batch_in_hand_keeps_its_slot(void **arg)
{
    (void)arg;
    write_batch(ENTRY_NEW, "{two}\n{three}\n", 2, 4);
    assert_int_equal(truncate(path, 12), 0); /* the second line never came */
    restart(2);
    uint64_t gen = last_slot().gen;
    assert_int_equal(find_line(ENTRY_IN_HAND, "{two}\n"), LINE_FOUND);
    assert_int_equal(find_line(ENTRY_IN_HAND, "{three}\n"), LINE_MISSING);
    write_batch(ENTRY_IN_HAND, "{three}\n", 2, 4);
    assert_int_equal(last_slot().gen, gen);
    assert_slot(2, 4, 6);
    assert_text(path, "{one}\n{two}\n{three}\n");
}

static void test_what_is_known_is_sorted_by_the_slot(void **arg)
{
    (void)arg;
    write_new("{two}\n", 2);
    write_batch(ENTRY_NEW, "{three}\n", 3, 5);
    restart(0);
    assert_int_equal(sink_class(w, id(1)), ENTRY_OLD);
    assert_int_equal(sink_class(w, (struct stream_id){2, 9}), ENTRY_OLD);
    assert_int_equal(sink_class(w, id(3)), ENTRY_IN_HAND);
    assert_int_equal(sink_class(w, id(5)), ENTRY_IN_HAND);
    assert_int_equal(sink_class(w, (struct stream_id){5, 1}), ENTRY_NEW);
}

static void test_a_new_token_is_kept(void **arg)
{
    char before[STATE_TOKEN_LEN + 1], after[STATE_TOKEN_LEN + 1];
    (void)arg;
    write_new("{two}\n", 2);
    snprintf(before, sizeof(before), "%s", sink_token(w));
    assert_true(sink_new_token(w));
    snprintf(after, sizeof(after), "%s", sink_token(w));
    assert_string_not_equal(before, after);
    assert_string_equal(last_slot().token, after);
    assert_slot(2, 2, 6);
    write_new("{three}\n", 3);
    restart(0);
    assert_string_equal(sink_token(w), after);
}

/* ---- Another file ---- */

static void test_reopening_moves_the_next_batch(void **arg)
{
    (void)arg;
    rotate();
    write_new("{two}\n", 2);
    assert_true(sink_reopen(w));
    write_new("{three}\n", 3);
    assert_slot(3, 3, 0);
    assert_int_equal(last_slot().ino, inode_of(path));
    assert_text(rotated, "{one}\n{two}\n");
    assert_text(path, "{three}\n");
}

static void test_reopening_the_same_file_changes_nothing(void **arg)
{
    uint64_t gen = last_slot().gen;
    (void)arg;
    assert_true(sink_reopen(w));
    assert_int_equal(last_slot().gen, gen);
    write_new("{two}\n", 2);
    assert_text(path, "{one}\n{two}\n");
}

/* Redis may have been told, by a commit whose answer never came. */
static void test_a_batch_that_was_written_is_never_taken_back(void **arg)
{
    (void)arg;
    write_batch(ENTRY_NEW, "{two}\n", 2, 2);
    rotate();
    assert_true(sink_reopen(w));
    assert_text(rotated, "{one}\n{two}\n");
    begin(2);
    assert_int_equal(find_line(ENTRY_IN_HAND, "{two}\n"), LINE_FOUND);
    sink_confirm(w, sink_last(w));
    write_new("{three}\n", 3);
    assert_text(rotated, "{one}\n{two}\n");
    assert_text(path, "{three}\n");
}

static void test_a_batch_in_hand_stays_with_its_file(void **arg)
{
    (void)arg;
    write_batch(ENTRY_NEW, "{two}\n", 2, 3);
    rotate();
    restart(2);
    assert_true(sink_reopen(w));
    write_batch(ENTRY_IN_HAND, "{three}\n", 2, 3);
    assert_slot(2, 3, 6);
    assert_text(rotated, "{one}\n{two}\n{three}\n");
    sink_confirm(w, sink_last(w));
    write_new("{four}\n", 4);
    assert_text(rotated, "{one}\n{two}\n{three}\n");
    assert_text(path, "{four}\n");
    assert_slot(4, 4, 0);
}

/* Its lines would go to a file without a name. */
static void test_a_log_that_is_deleted_under_a_batch_in_hand(void **arg)
{
    (void)arg;
    write_batch(ENTRY_NEW, "{two}\n", 2, 3);
    begin(2);
    assert_int_equal(unlink(path), 0);
    write_batch(ENTRY_IN_HAND, "{three}\n", 2, 3);
    assert_text(path, "{three}\n");
}

/* The old file stays in use, and the new one is not forgotten. */
static void test_a_late_turn_that_fails_is_tried_again(void **arg)
{
    (void)arg;
    write_batch(ENTRY_NEW, "{two}\n", 2, 2);
    rotate();
    assert_true(sink_reopen(w));
    sink_confirm(w, sink_last(w));
    int other = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(other >= 0);
    assert_int_equal(flock(other, LOCK_EX), 0);
    write_new("{three}\n", 3);
    assert_text(rotated, "{one}\n{two}\n{three}\n");
    close(other);
    write_new("{four}\n", 4);
    assert_text(path, "{four}\n");
}

static void test_a_batch_in_hand_that_was_committed_keeps_no_file(void **arg)
{
    (void)arg;
    write_batch(ENTRY_NEW, "{two}\n", 2, 3);
    rotate();
    restart(0);
    write_new("{four}\n", 4);
    assert_text(path, "{four}\n");
    rename(path, rotated);
    restart(9);
    write_new("{nine}\n", 9);
    assert_text(path, "{nine}\n");
}

static void test_lines_in_hand_for_another_file_end_the_slot(void **arg)
{
    (void)arg;
    write_batch(ENTRY_NEW, "{two}\n", 2, 3);
    rotate();
    put(path, "{foreign}\n");
    sink_close(w);
    assert_int_equal(unlink(rotated), 0);
    open_sink(false);
    begin(2);
    assert_int_equal(find_line(ENTRY_IN_HAND, "{two}\n"), LINE_UNPLACED);
    write_batch(ENTRY_IN_HAND, "{two}\n{three}\n", 2, 3);
    assert_idle(3, 10);
    assert_text(path, "{foreign}\n{two}\n{three}\n");
}

static void test_a_deleted_log_is_made_anew(void **arg)
{
    (void)arg;
    assert_int_equal(unlink(path), 0);
    write_new("{two}\n", 2);
    assert_text(path, "{two}\n");
    assert_slot(2, 2, 0);
}

static void test_a_truncated_log_goes_on_at_its_end(void **arg)
{
    (void)arg;
    assert_int_equal(truncate(path, 0), 0);
    write_new("{two}\n", 2);
    assert_text(path, "{two}\n");
    assert_slot(2, 2, 0);
    assert_int_equal(sink_offset(w), 6);
}

static void test_what_others_append_stays(void **arg)
{
    (void)arg;
    put(path, "foreign");
    write_new("{two}\n", 2);
    assert_text(path, "{one}\nforeign\n{two}\n");
    assert_slot(2, 2, 14);
}

static void test_a_removed_state_is_made_anew(void **arg)
{
    uint64_t gen = last_slot().gen;
    (void)arg;
    assert_int_equal(unlink(state_path), 0);
    write_new("{two}\n", 2);
    assert_true(last_slot().gen > gen);
    assert_slot(2, 2, 6);
    restart(0);
    assert_int_equal(sink_last(w).ms, 2);
}

/* Without this two workers wrote the same log. */
static void test_a_state_that_another_worker_has_locked_stops_the_writing(void **arg)
{
    struct state other;
    char err[512];
    (void)arg;
    assert_int_equal(unlink(state_path), 0);
    assert_true(state_open(&other, state_path, err, sizeof(err)));
    assert_false(try_write(ENTRY_NEW, "{two}\n", 2, 2));
    assert_int_equal(errno, EBUSY);
    assert_text(path, "{one}\n");
    state_close(&other);
    write_new("{two}\n", 2);
    assert_text(path, "{one}\n{two}\n");
    assert_slot(2, 2, 6);
}

/* ---- A disk that is full ---- */

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

/* Leaves the second of two lines half written: the log has 2,000 bytes, 1,994 of them before the
 * batch. */
static void get_stuck(void)
{
    char line[1989];
    memset(line, 'x', sizeof(line) - 2);
    memcpy(line + sizeof(line) - 2, "\n", 2);
    write_new(line, 2);
    assert_size(path, 1994);
    limit_file_size(2000);
    assert_false(try_write(ENTRY_NEW, "abc\ndef\n", 3, 4));
    assert_int_equal(errno, EFBIG);
    assert_size(path, 2000);
    assert_slot(3, 4, 1994);
}

static void test_a_partial_write_goes_on(void **arg)
{
    (void)arg;
    get_stuck();
    assert_false(try_write(ENTRY_NEW, "abc\ndef\n", 3, 4));
    assert_int_equal(sink_offset(w), 1994);
    limit_file_size(RLIM_INFINITY);
    write_batch(ENTRY_NEW, "abc\ndef\n", 3, 4);
    assert_size(path, 2002);
    assert_int_equal(sink_offset(w), 2002);
}

static void test_a_partial_write_moves_to_a_new_file(void **arg)
{
    (void)arg;
    get_stuck();
    rotate();
    assert_true(sink_reopen(w));
    limit_file_size(RLIM_INFINITY);
    assert_size(rotated, 1994);
    write_batch(ENTRY_NEW, "abc\ndef\n", 3, 4);
    assert_text(path, "abc\ndef\n");
    assert_slot(3, 4, 0);
}

static void test_a_partial_write_is_not_taken_back_from_others(void **arg)
{
    (void)arg;
    get_stuck();
    limit_file_size(RLIM_INFINITY);
    put(path, "foreign\n");
    rotate();
    assert_true(sink_reopen(w));
    assert_size(rotated, 2008);
    write_batch(ENTRY_NEW, "abc\ndef\n", 3, 4);
    assert_text(path, "abc\ndef\n");
}

/* The lines that were whole are not written again; the half one is. */
static void test_others_append_behind_a_partial_write(void **arg)
{
    (void)arg;
    get_stuck();
    limit_file_size(RLIM_INFINITY);
    put(path, "foreign\n");
    write_batch(ENTRY_NEW, "abc\ndef\n", 3, 4);
    assert_size(path, 2012);
    assert_slot(3, 4, 1994);
}

static void test_a_partial_write_into_a_file_that_is_truncated(void **arg)
{
    (void)arg;
    get_stuck();
    limit_file_size(RLIM_INFINITY);
    assert_int_equal(truncate(path, 0), 0);
    write_batch(ENTRY_NEW, "abc\ndef\n", 3, 4);
    assert_text(path, "def\n"); /* "abc" went with the rest, into the copy */
    assert_slot(3, 4, 0);
}

/* The next opening knows only what stands in the log. */
static void test_an_opening_forgets_a_partial_write(void **arg)
{
    (void)arg;
    get_stuck();
    limit_file_size(RLIM_INFINITY);
    begin(3);
    assert_int_equal(find_line(ENTRY_IN_HAND, "abc\n"), LINE_FOUND);
    assert_int_equal(find_line(ENTRY_IN_HAND, "def\n"), LINE_MISSING);
    write_batch(ENTRY_IN_HAND, "def\n", 3, 4);
    assert_size(path, 2002);
    assert_slot(3, 4, 1994);
}

static void test_only_regular_files(void **arg)
{
    char err[512];
    (void)arg;
    assert_null(sink_open("/dev/null", false, LOOK_BACK, err, sizeof(err)));
    assert_non_null(strstr(err, "/dev/null"));
    assert_int_equal(access("/dev/null.state", F_OK), -1);
    assert_null(sink_open(dir, false, LOOK_BACK, err, sizeof(err)));
    assert_null(sink_open(path, false, LOOK_BACK, err, sizeof(err)));
    assert_non_null(strstr(err, "another logworker"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_log_without_a_state_has_no_batch_in_hand),
        TEST(test_in_a_log_without_a_byte_all_is_new),
        TEST(test_an_empty_log_may_have_been_another_file),
        TEST(test_the_slot_says_where_a_batch_begins),
        TEST(test_the_slot_comes_before_the_first_line),
        TEST(test_before_old_lines_no_batch_is_in_hand),
        TEST(test_a_batch_in_hand_keeps_its_slot),
        TEST(test_what_is_known_is_sorted_by_the_slot),
        TEST(test_a_new_token_is_kept),
        TEST(test_reopening_moves_the_next_batch),
        TEST(test_reopening_the_same_file_changes_nothing),
        TEST(test_a_batch_that_was_written_is_never_taken_back),
        TEST(test_a_batch_in_hand_stays_with_its_file),
        TEST(test_a_batch_in_hand_that_was_committed_keeps_no_file),
        TEST(test_lines_in_hand_for_another_file_end_the_slot),
        TEST(test_a_deleted_log_is_made_anew),
        TEST(test_a_truncated_log_goes_on_at_its_end),
        TEST(test_what_others_append_stays),
        TEST(test_a_removed_state_is_made_anew),
        TEST(test_a_state_that_another_worker_has_locked_stops_the_writing),
        TEST(test_a_partial_write_goes_on),
        TEST(test_a_partial_write_moves_to_a_new_file),
        TEST(test_a_partial_write_is_not_taken_back_from_others),
        TEST(test_others_append_behind_a_partial_write),
        TEST(test_a_partial_write_into_a_file_that_is_truncated),
        TEST(test_an_opening_forgets_a_partial_write),
        TEST(test_a_log_that_is_deleted_under_a_batch_in_hand),
        TEST(test_a_late_turn_that_fails_is_tried_again),
        TEST(test_only_regular_files),
    };
    return cmocka_run_group_tests_name("worker/sink", tests, make_dir, remove_dir);
}
