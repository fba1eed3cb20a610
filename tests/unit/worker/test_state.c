/* test_state.c: the text of the state file, its two slots, its lock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/state.h"

#define TOKEN "00112233445566778899aabbccddeeff"

static char dir[] = "/tmp/test_state.XXXXXX";
static char path[sizeof(dir) + 16], moved[sizeof(dir) + 16];

static int make_dir(void **arg)
{
    (void)arg;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/app.log.state", dir);
    snprintf(moved, sizeof(moved), "%s/moved", dir);
    return 0;
}

static int remove_dir(void **arg)
{
    (void)arg;
    return rmdir(dir);
}

static int remove_files(void **arg)
{
    (void)arg;
    unlink(moved);
    return unlink(path);
}

static struct state_slot example(void)
{
    return (struct state_slot){.gen = 17,
                               .dev = 64769,
                               .ino = 1311,
                               .offset = 20480,
                               .first = {1732415702123, 0},
                               .last = {1732415702123, 4},
                               .token = TOKEN};
}

static void assert_same(const struct state_slot *a, const struct state_slot *b)
{
    char one[STATE_SLOT_BYTES], two[STATE_SLOT_BYTES];
    assert_true(state_format(a, one));
    assert_true(state_format(b, two));
    assert_memory_equal(one, two, sizeof(one));
}

static void put(const void *bytes, size_t n, off_t at)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, n, at), n);
    close(fd);
}

static struct state open_state(void)
{
    struct state s;
    char err[256] = "";
    if (!state_open(&s, path, err, sizeof(err)))
        fail_msg("%s", err);
    return s;
}

/* Opens and closes it. */
static void assert_found(enum state_found found, uint64_t gen)
{
    struct state s = open_state();
    assert_int_equal(s.found, found);
    assert_int_equal(s.slot.gen, gen);
    state_close(&s);
}

/* ---- Text ---- */

static void test_text(void **arg)
{
    static const char expected[] =
        "logworker-state 2 gen=17 dev=64769 ino=1311 offset=20480 first=1732415702123-0 "
        "last=1732415702123-4 token=" TOKEN " crc=";
    struct state_slot slot = example(), read;
    char text[STATE_SLOT_BYTES];
    (void)arg;
    assert_true(state_format(&slot, text));
    assert_memory_equal(text, expected, sizeof(expected) - 1);
    for (size_t i = sizeof(expected) - 1 + 8; i < STATE_SLOT_BYTES - 1; i++)
        assert_int_equal(text[i], ' ');
    assert_int_equal(text[STATE_SLOT_BYTES - 1], '\n');
    assert_true(state_parse(&read, text));
    assert_same(&slot, &read);
}

/* CRC-32 of IEEE 802.3 over the line up to "crc=": computed by another program. */
static void test_check_sum(void **arg)
{
    struct state_slot slot = example();
    char text[STATE_SLOT_BYTES];
    (void)arg;
    assert_true(state_format(&slot, text));
    const char *crc = memmem(text, sizeof(text), "crc=", 4);
    assert_non_null(crc);
    assert_memory_equal(crc, "crc=88c981c5", 12);
}

static void test_every_changed_byte_is_noticed(void **arg)
{
    struct state_slot slot = example(), read;
    char text[STATE_SLOT_BYTES];
    (void)arg;
    assert_true(state_format(&slot, text));
    for (size_t i = 0; i < STATE_SLOT_BYTES; i++)
        for (int bit = 0; bit < 8; bit++) {
            text[i] = (char)(text[i] ^ 1 << bit);
            assert_false(state_parse(&read, text));
            text[i] = (char)(text[i] ^ 1 << bit);
        }
    assert_true(state_parse(&read, text));
}

static void test_the_largest_numbers_fit(void **arg)
{
    struct state_slot slot = example(), read;
    char text[STATE_SLOT_BYTES];
    (void)arg;
    slot.gen = slot.dev = slot.ino = UINT64_MAX;
    slot.first = slot.last = (struct stream_id){UINT64_MAX, UINT64_MAX};
    slot.offset = INT64_MAX;
    assert_true(state_format(&slot, text));
    assert_true(state_parse(&read, text));
    assert_same(&slot, &read);
}

static void test_what_is_no_slot(void **arg)
{
    struct state_slot slot = example(), read;
    char text[STATE_SLOT_BYTES];
    (void)arg;
    slot.gen = 0;
    assert_true(state_format(&slot, text));
    assert_false(state_parse(&read, text));
    slot = example();
    slot.offset = -1;
    assert_true(state_format(&slot, text));
    assert_false(state_parse(&read, text));
    slot = example();
    slot.token[STATE_TOKEN_LEN - 1] = '\0';
    assert_true(state_format(&slot, text));
    assert_false(state_parse(&read, text));
}

static void test_whether_a_batch_is_in_hand(void **arg)
{
    struct state_slot slot = example(), none = {0};
    (void)arg;
    assert_true(state_in_hand(&slot));
    slot.first = slot.last;
    assert_true(state_in_hand(&slot));
    slot.first = stream_id_next(slot.last);
    assert_false(state_in_hand(&slot));
    assert_false(state_in_hand(&none));
}

static void test_which_file_a_slot_speaks_of(void **arg)
{
    struct state_slot slot = example();
    struct stat st = {.st_dev = slot.dev, .st_ino = slot.ino};
    (void)arg;
    assert_true(state_speaks_of(&slot, &st));
    st.st_ino++;
    assert_false(state_speaks_of(&slot, &st));
    st = (struct stat){.st_dev = slot.dev + 1, .st_ino = slot.ino};
    assert_false(state_speaks_of(&slot, &st));
    slot = (struct state_slot){0};
    st = (struct stat){0};
    assert_false(state_speaks_of(&slot, &st));
}

/* ---- The file ---- */

static void test_slots_alternate(void **arg)
{
    struct state_slot slot = example();
    struct state s = open_state();
    struct stat st;
    (void)arg;
    assert_int_equal(s.found, STATE_NEW);
    for (int64_t i = 1; i <= 5; i++) {
        slot.offset = i * 100;
        assert_true(state_write(&s, &slot));
        assert_int_equal(s.slot.gen, i);
        assert_true(s.dirty);
        assert_true(state_sync(&s));
        assert_false(s.dirty);
        state_close(&s);
        s = open_state();
        assert_int_equal(s.found, STATE_VALID);
        assert_int_equal(s.slot.gen, i);
        assert_int_equal(s.slot.offset, i * 100);
    }
    assert_int_equal(fstat(s.fd, &st), 0);
    assert_int_equal(st.st_size, 2 * STATE_SLOT_BYTES);
    state_close(&s);
}

/* Writes four slots, the last of which has gen 4 and lies in slot 0. */
static void write_four(void)
{
    struct state_slot slot = example();
    struct state s = open_state();
    for (int64_t i = 1; i <= 4; i++) {
        slot.offset = i * 100;
        assert_true(state_write(&s, &slot));
    }
    state_close(&s);
}

static void test_a_damaged_slot_leaves_the_one_before(void **arg)
{
    struct state_slot slot = example();
    (void)arg;
    write_four();
    put("x", 1, 30);
    struct state s = open_state();
    assert_int_equal(s.found, STATE_VALID);
    assert_int_equal(s.slot.gen, 3);
    assert_int_equal(s.slot.offset, 300);
    assert_true(state_write(&s, &slot));
    assert_int_equal(s.slot.gen, 4);
    state_close(&s);
    assert_found(STATE_VALID, 4);
}

/* A kill in the middle of the write. */
static void test_a_slot_that_is_half_written_does_not_count(void **arg)
{
    struct state_slot slot = example();
    char text[STATE_SLOT_BYTES];
    (void)arg;
    write_four();
    slot.gen = 5;
    assert_true(state_format(&slot, text));
    const char *crc = memmem(text, sizeof(text), "crc=", 4);
    assert_non_null(crc);
    for (size_t n = 1; n < (size_t)(crc - text) + 12; n++) {
        put(text, n, STATE_SLOT_BYTES);
        struct state s = open_state(); /* gen 3 as it was, or damaged */
        assert_int_equal(s.found, STATE_VALID);
        assert_int_equal(s.slot.gen, 4);
        state_close(&s);
    }
    put(text, sizeof(text), STATE_SLOT_BYTES);
    assert_found(STATE_VALID, 5);
}

static void test_two_damaged_slots(void **arg)
{
    (void)arg;
    write_four();
    put("x", 1, 30);
    put("x", 1, STATE_SLOT_BYTES + 30);
    assert_found(STATE_INVALID, 0);
}

static void test_a_slot_in_the_wrong_place_does_not_count(void **arg)
{
    struct state_slot slot = example(); /* gen 17 belongs into slot 1 */
    char text[STATE_SLOT_BYTES];
    (void)arg;
    assert_true(state_format(&slot, text));
    put(text, sizeof(text), 0);
    assert_found(STATE_INVALID, 0);
}

static void test_another_programs_file_is_invalid(void **arg)
{
    (void)arg;
    put("[section]\nkey=value\n", 20, 0);
    assert_found(STATE_INVALID, 0);
}

/* Two slots of 256 bytes, of which the first may have been empty yet. */
static void test_a_file_of_version_0_1_0_is_recognized(void **arg)
{
    static const char line[] = "logworker-state 1 gen=3 dev=1 ino=2 offset=3 id=4-0 lineage=";
    struct state_slot slot = example();
    char zeros[256] = {0};
    (void)arg;
    put(zeros, sizeof(zeros), 0);
    put(line, sizeof(line) - 1, 256);
    assert_found(STATE_OLD, 0);
    put(line, sizeof(line) - 1, 0);
    struct state s = open_state();
    assert_int_equal(s.found, STATE_OLD);
    assert_true(state_write(&s, &slot));
    state_close(&s);
    assert_found(STATE_VALID, 1);
}

static void test_the_second_owner_is_refused(void **arg)
{
    struct state s = open_state(), second;
    char err[256] = "";
    (void)arg;
    assert_false(state_open(&second, path, err, sizeof(err)));
    assert_int_equal(errno, EBUSY);
    assert_non_null(strstr(err, path));
    assert_non_null(strstr(err, "another logworker"));
    state_close(&s);
    s = open_state();
    state_close(&s);
}

static void test_whether_the_file_is_in_its_place(void **arg)
{
    struct state s = open_state();
    (void)arg;
    assert_true(state_in_place(&s, path));
    assert_int_equal(rename(path, moved), 0);
    assert_false(state_in_place(&s, path));
    put("", 0, 0);
    assert_false(state_in_place(&s, path));
    assert_true(state_in_place(&s, moved));
    state_close(&s);
}

static void test_a_directory_that_is_not_there(void **arg)
{
    struct state s;
    char err[256] = "";
    (void)arg;
    assert_false(state_open(&s, "/nonexistent/app.log.state", err, sizeof(err)));
    assert_int_equal(errno, ENOENT);
    assert_non_null(strstr(err, "/nonexistent/app.log.state"));
}

#define WITH_FILE(f) cmocka_unit_test_teardown(f, remove_files)

static void test_tokens(void **arg)
{
    char one[STATE_TOKEN_LEN + 1], two[STATE_TOKEN_LEN + 1];
    (void)arg;
    state_new_token(one);
    state_new_token(two);
    assert_int_equal(strspn(one, "0123456789abcdef"), STATE_TOKEN_LEN);
    assert_int_equal(strlen(one), STATE_TOKEN_LEN);
    assert_string_not_equal(one, two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_check_sum),
        cmocka_unit_test(test_every_changed_byte_is_noticed),
        cmocka_unit_test(test_the_largest_numbers_fit),
        cmocka_unit_test(test_what_is_no_slot),
        cmocka_unit_test(test_whether_a_batch_is_in_hand),
        cmocka_unit_test(test_which_file_a_slot_speaks_of),
        WITH_FILE(test_slots_alternate),
        WITH_FILE(test_a_damaged_slot_leaves_the_one_before),
        WITH_FILE(test_a_slot_that_is_half_written_does_not_count),
        WITH_FILE(test_two_damaged_slots),
        WITH_FILE(test_a_slot_in_the_wrong_place_does_not_count),
        WITH_FILE(test_another_programs_file_is_invalid),
        WITH_FILE(test_a_file_of_version_0_1_0_is_recognized),
        WITH_FILE(test_the_second_owner_is_refused),
        WITH_FILE(test_whether_the_file_is_in_its_place),
        cmocka_unit_test(test_a_directory_that_is_not_there),
        cmocka_unit_test(test_tokens),
    };
    return cmocka_run_group_tests_name("worker/state", tests, make_dir, remove_dir);
}
