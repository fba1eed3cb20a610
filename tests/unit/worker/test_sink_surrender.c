/* test_sink_surrender.c: what becomes of the batch in hand when another log has its lines. */
#include "tests/unit/worker/sink-world.h"

/* The batch in hand is of the entries 2-0 to 4-0. */
static void begin_batch(void)
{
    write_batch(ENTRY_NEW, "{two}\n{four}\n", 2, 4);
}

/* Its entries are new now. */
static void assert_given_up(const char *text)
{
    const struct stream_id before = {1, UINT64_MAX};
    struct state_slot slot = last_slot();
    assert_text(path, text);
    assert_true(stream_id_equal(slot.last, before));
    assert_int_equal(slot.offset, strlen(text));
    assert_int_equal(slot.ino, inode_of(path));
    assert_false(is_in_hand());
    begin(2);
    assert_int_equal(sink_class(w, id(1)), ENTRY_OLD);
    assert_int_equal(sink_class(w, id(2)), ENTRY_NEW);
}

static void test_a_batch_that_was_taken_is_cut_off(void **arg)
{
    (void)arg;
    begin_batch();
    assert_true(surrender("{two}\n{four}\n"));
    assert_given_up("{one}\n");
}

static void test_after_a_restart_it_is_cut_off_too(void **arg)
{
    (void)arg;
    begin_batch();
    sink_close(w);
    open_sink(false);
    assert_true(surrender("{two}\n{four}\n"));
    assert_given_up("{one}\n");
    write_new("{five}\n", 5);
    assert_text(path, "{one}\n{five}\n");
}

/* Only some lines of the batch have come so far. */
static void test_half_a_batch_is_cut_off(void **arg)
{
    (void)arg;
    begin_batch();
    assert_int_equal(truncate(path, 15), 0);
    sink_close(w);
    open_sink(false);
    assert_true(surrender("{four}\n{other}\n{two}\n"));
    assert_given_up("{one}\n");
}

static void assert_kept(const char *notes)
{
    begin_batch();
    assert_true(surrender(notes));
    assert_text(path, "{one}\n{two}\n{four}\n");
    assert_slot(2, 4, 6);
    assert_true(is_in_hand());
}

/* The commit took place, or Redis was put back: the lines may be all that is left. */
static void test_a_batch_that_others_have_in_part_stays(void **arg)
{
    (void)arg;
    assert_kept("{two}\n");
}

static void test_a_batch_that_others_have_not_stays(void **arg)
{
    (void)arg;
    assert_kept("{one}\n{three}\n");
}

/* Their lines are alike. */
static void test_notes_of_other_entries_do_not_count(void **arg)
{
    (void)arg;
    assert_kept("");
    assert_true(surrender_as(1, "{two}\n{four}\n"));
    assert_true(surrender_as(5, "{two}\n{four}\n"));
    assert_text(path, "{one}\n{two}\n{four}\n");
    assert_true(surrender_as(4, "{two}\n{four}\n"));
    assert_given_up("{one}\n");
}

static void test_without_notes_a_batch_stays(void **arg)
{
    (void)arg;
    assert_kept("");
}

static void test_equal_lines_count(void **arg)
{
    (void)arg;
    write_batch(ENTRY_NEW, "{two}\n{two}\n", 2, 4);
    assert_true(surrender("{two}\n"));
    assert_text(path, "{one}\n{two}\n{two}\n");
    assert_true(surrender("{two}\n{two}\n"));
    assert_given_up("{one}\n");
}

static void test_a_batch_that_is_committed_stays(void **arg)
{
    (void)arg;
    begin_batch();
    sink_confirm(w, sink_last(w));
    assert_true(surrender("{two}\n{four}\n"));
    assert_text(path, "{one}\n{two}\n{four}\n");
}

static void test_a_batch_of_a_renamed_log_is_cut_there(void **arg)
{
    (void)arg;
    begin_batch();
    rotate();
    sink_close(w);
    open_sink(false);
    assert_true(surrender("{two}\n{four}\n"));
    assert_text(rotated, "{one}\n");
    assert_false(is_in_hand());
    begin(2);
    assert_int_equal(sink_class(w, id(2)), ENTRY_NEW);
    write_new("{two}\n", 2);
    assert_text(rotated, "{one}\n");
    assert_text(path, "{two}\n");
}

static void test_a_batch_of_a_log_that_is_gone_stays_in_hand(void **arg)
{
    (void)arg;
    begin_batch();
    rotate();
    put(path, "");
    sink_close(w);
    assert_int_equal(unlink(rotated), 0);
    open_sink(false);
    assert_true(surrender("{two}\n{four}\n"));
    assert_slot(2, 4, 6);
    assert_text(path, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_batch_that_was_taken_is_cut_off),
        TEST(test_after_a_restart_it_is_cut_off_too),
        TEST(test_half_a_batch_is_cut_off),
        TEST(test_a_batch_that_others_have_in_part_stays),
        TEST(test_a_batch_that_others_have_not_stays),
        TEST(test_notes_of_other_entries_do_not_count),
        TEST(test_without_notes_a_batch_stays),
        TEST(test_equal_lines_count),
        TEST(test_a_batch_that_is_committed_stays),
        TEST(test_a_batch_of_a_renamed_log_is_cut_there),
        TEST(test_a_batch_of_a_log_that_is_gone_stays_in_hand),
    };
    return cmocka_run_group_tests_name("worker/sink surrender", tests, make_dir, remove_dir);
}
