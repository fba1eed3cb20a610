/* test_tail.c: what the sink cuts off the log, and what it never cuts. */
#include "tests/unit/worker/sink-world.h"

static void test_a_tail_is_cut_when_its_entries_come_again(void **arg)
{
    (void)arg;
    put(path, "two\nthr");
    restart();
    assert_true(sink_adopt(w, LINEAGE));
    assert_text(path, "one\ntwo\nthr");
    assert_true(sink_settle(w, true));
    commit("two\nthree\n", 3);
    assert_text(path, "one\ntwo\nthree\n");
}

static void test_a_tail_stays_when_redis_has_not_its_entries(void **arg)
{
    (void)arg;
    put(path, "two\nthr");
    restart();
    assert_true(sink_adopt(w, LINEAGE));
    assert_true(sink_settle(w, false));
    commit("nine\n", 9);
    assert_text(path, "one\ntwo\nthr\nnine\n");
}

static void test_a_tail_stays_when_the_lineage_is_another(void **arg)
{
    (void)arg;
    put(path, "two\n");
    restart();
    assert_false(sink_adopt(w, OTHER));
    assert_int_equal(sink_id(w).ms, 0);
    assert_true(sink_settle(w, true));
    commit("new\n", 1);
    assert_text(path, "one\ntwo\nnew\n");
    restart();
    assert_true(sink_adopt(w, OTHER));
}

static void test_nothing_is_cut_without_a_state(void **arg)
{
    (void)arg;
    sink_close(w);
    assert_int_equal(unlink(state_path), 0);
    put(path, "two\n");
    open_sink(false);
    assert_false(sink_adopt(w, LINEAGE));
    assert_true(sink_settle(w, true));
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
    assert_int_equal(last_commit().gen, 0);
    sink_adopt(w, LINEAGE);
    assert_true(sink_settle(w, true));
    commit("three\n", 3);
    assert_text(path, "one\ntwo\nthree\n");
}

/* Rewrites the state's last commit as one of another boot, between two lives. */
static void pretend_a_reboot(bool sync)
{
    struct state_commit c = last_commit();
    struct state state;
    char err[512];
    memset(c.boot, '0', STATE_TOKEN_LEN);
    c.sync = sync;
    sink_close(w);
    assert_true(state_open(&state, state_path, err, sizeof(err)));
    assert_true(state_write(&state, &c));
    state_close(&state);
}

static void test_nothing_is_cut_after_a_reboot_without_sync(void **arg)
{
    (void)arg;
    pretend_a_reboot(false);
    put(path, "two\n");
    open_sink(false);
    assert_true(sink_adopt(w, LINEAGE));
    assert_true(sink_settle(w, true));
    commit("three\n", 3);
    assert_text(path, "one\ntwo\nthree\n");
}

static void test_a_tail_is_cut_after_a_reboot_with_sync(void **arg)
{
    (void)arg;
    pretend_a_reboot(true);
    put(path, "tw");
    open_sink(false);
    assert_true(sink_adopt(w, LINEAGE));
    assert_true(sink_settle(w, true));
    commit("two\n", 2);
    assert_text(path, "one\ntwo\n");
}

static void test_another_file_is_not_cut(void **arg)
{
    (void)arg;
    assert_int_equal(rename(path, rotated), 0);
    put(path, "something long that is another program's\n");
    restart();
    assert_true(sink_adopt(w, LINEAGE));
    assert_int_equal(sink_id(w).ms, 1); /* what is committed stays committed */
    assert_true(sink_settle(w, true));
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
    assert_true(sink_adopt(w, LINEAGE));
    assert_true(sink_settle(w, true));
    commit("two\nthree\n", 3);
    assert_text(rotated, "one\n");
    assert_text(path, "two\nthree\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_tail_is_cut_when_its_entries_come_again),
        TEST(test_a_tail_stays_when_redis_has_not_its_entries),
        TEST(test_a_tail_stays_when_the_lineage_is_another),
        TEST(test_nothing_is_cut_without_a_state),
        TEST(test_nothing_is_cut_with_a_damaged_state),
        TEST(test_nothing_is_cut_after_a_reboot_without_sync),
        TEST(test_a_tail_is_cut_after_a_reboot_with_sync),
        TEST(test_another_file_is_not_cut),
        TEST(test_the_tail_of_a_renamed_log_is_cut),
    };
    return cmocka_run_group_tests_name("worker/tail", tests, make_dir, remove_dir);
}
