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

#define LINEAGE "00112233445566778899aabbccddeeff"
#define BOOT    "ffeeddccbbaa99887766554433221100"

static char dir[] = "/tmp/test_state.XXXXXX";
static char path[sizeof(dir) + 16];

static int make_dir(void **arg)
{
    (void)arg;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/app.log.state", dir);
    return 0;
}

static int remove_dir(void **arg)
{
    (void)arg;
    return rmdir(dir);
}

static int remove_file(void **arg)
{
    (void)arg;
    return unlink(path);
}

static struct state_commit example(void)
{
    return (struct state_commit){.gen = 17,
                                 .dev = 64769,
                                 .ino = 1311,
                                 .offset = 20480,
                                 .id = {1732415702123, 4},
                                 .lineage = LINEAGE,
                                 .boot = BOOT};
}

static void assert_same(const struct state_commit *a, const struct state_commit *b)
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

static void test_text(void **arg)
{
    static const char expected[] =
        "logworker-state 1 gen=17 dev=64769 ino=1311 offset=20480 "
        "id=1732415702123-4 lineage=" LINEAGE " boot=" BOOT " sync=0 crc=08854cac";
    struct state_commit c = example(), read;
    char slot[STATE_SLOT_BYTES];
    (void)arg;
    assert_true(state_format(&c, slot));
    assert_memory_equal(slot, expected, sizeof(expected) - 1);
    for (size_t i = sizeof(expected) - 1; i < STATE_SLOT_BYTES - 1; i++)
        assert_int_equal(slot[i], ' ');
    assert_int_equal(slot[STATE_SLOT_BYTES - 1], '\n');
    assert_true(state_parse(&read, slot));
    assert_same(&c, &read);
}

static void test_every_changed_byte_is_noticed(void **arg)
{
    struct state_commit c = example(), read;
    char slot[STATE_SLOT_BYTES];
    (void)arg;
    assert_true(state_format(&c, slot));
    for (size_t i = 0; i < STATE_SLOT_BYTES; i++)
        for (int bit = 0; bit < 8; bit++) {
            slot[i] = (char)(slot[i] ^ 1 << bit);
            assert_false(state_parse(&read, slot));
            slot[i] = (char)(slot[i] ^ 1 << bit);
        }
    assert_true(state_parse(&read, slot));
}

static void test_a_number_too_long_for_the_slot_is_refused(void **arg)
{
    struct state_commit c = example();
    char slot[STATE_SLOT_BYTES];
    (void)arg;
    c.gen = c.dev = c.ino = c.id.ms = c.id.seq = UINT64_MAX;
    c.offset = INT64_MAX;
    assert_false(state_format(&c, slot));
}

static void test_commits_alternate(void **arg)
{
    struct state_commit c = example();
    struct state s;
    char err[256] = "";
    struct stat st;
    (void)arg;
    assert_true(state_open(&s, path, err, sizeof(err)));
    assert_int_equal(s.found, STATE_NEW);
    for (int64_t i = 1; i <= 5; i++) {
        c.offset = i * 100;
        assert_true(state_write(&s, &c));
        assert_int_equal(s.last.gen, i);
        state_close(&s);
        assert_true(state_open(&s, path, err, sizeof(err)));
        assert_int_equal(s.found, STATE_VALID);
        assert_int_equal(s.last.gen, i);
        assert_int_equal(s.last.offset, i * 100);
    }
    assert_int_equal(fstat(s.fd, &st), 0);
    assert_int_equal(st.st_size, 2 * STATE_SLOT_BYTES);
    state_close(&s);
}

static void test_a_damaged_slot_leaves_the_one_before(void **arg)
{
    struct state_commit c = example();
    struct state s;
    char err[256] = "";
    (void)arg;
    assert_true(state_open(&s, path, err, sizeof(err)));
    for (int64_t i = 1; i <= 4; i++) {
        c.offset = i * 100;
        assert_true(state_write(&s, &c));
    }
    state_close(&s);
    put("x", 1, 30); /* gen 4 lies in slot 0 */
    assert_true(state_open(&s, path, err, sizeof(err)));
    assert_int_equal(s.found, STATE_VALID);
    assert_int_equal(s.last.gen, 3);
    assert_int_equal(s.last.offset, 300);
    assert_true(state_write(&s, &c));
    assert_int_equal(s.last.gen, 4);
    state_close(&s);
}

static void test_a_slot_in_the_wrong_place_does_not_count(void **arg)
{
    struct state_commit c = example(); /* gen 17 belongs into slot 1 */
    struct state s;
    char slot[STATE_SLOT_BYTES], err[256] = "";
    (void)arg;
    assert_true(state_format(&c, slot));
    put(slot, sizeof(slot), 0);
    assert_true(state_open(&s, path, err, sizeof(err)));
    assert_int_equal(s.found, STATE_INVALID);
    assert_int_equal(s.last.gen, 0);
    state_close(&s);
}

static void test_another_programs_file_is_invalid(void **arg)
{
    struct state s;
    char err[256] = "";
    (void)arg;
    put("[section]\nkey=value\n", 20, 0);
    assert_true(state_open(&s, path, err, sizeof(err)));
    assert_int_equal(s.found, STATE_INVALID);
    state_close(&s);
}

static void test_the_second_owner_is_refused(void **arg)
{
    struct state s, second;
    char err[256] = "";
    (void)arg;
    assert_true(state_open(&s, path, err, sizeof(err)));
    assert_false(state_open(&second, path, err, sizeof(err)));
    assert_non_null(strstr(err, path));
    assert_non_null(strstr(err, "another logworker"));
    state_close(&s);
    assert_true(state_open(&second, path, err, sizeof(err)));
    state_close(&second);
}

static void test_a_directory_that_is_not_there(void **arg)
{
    struct state s;
    char err[256] = "";
    (void)arg;
    assert_false(state_open(&s, "/nonexistent/app.log.state", err, sizeof(err)));
    assert_non_null(strstr(err, "/nonexistent/app.log.state"));
}

static void test_boot_id(void **arg)
{
    char boot[STATE_TOKEN_LEN + 1], again[STATE_TOKEN_LEN + 1];
    (void)arg;
    assert_true(state_boot_id(boot));
    assert_true(state_token_valid(boot, strlen(boot)));
    assert_true(state_boot_id(again));
    assert_string_equal(boot, again);
}

static void test_tokens(void **arg)
{
    (void)arg;
    assert_true(state_token_valid(LINEAGE, 32));
    assert_false(state_token_valid(LINEAGE, 31));
    assert_false(state_token_valid("00112233445566778899AABBCCDDEEFF", 32));
    assert_false(state_token_valid("", 0));
}

#define WITH_FILE(f) cmocka_unit_test_teardown(f, remove_file)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_every_changed_byte_is_noticed),
        cmocka_unit_test(test_a_number_too_long_for_the_slot_is_refused),
        WITH_FILE(test_commits_alternate),
        WITH_FILE(test_a_damaged_slot_leaves_the_one_before),
        WITH_FILE(test_a_slot_in_the_wrong_place_does_not_count),
        WITH_FILE(test_another_programs_file_is_invalid),
        WITH_FILE(test_the_second_owner_is_refused),
        cmocka_unit_test(test_a_directory_that_is_not_there),
        cmocka_unit_test(test_boot_id),
        cmocka_unit_test(test_tokens),
    };
    return cmocka_run_group_tests_name("worker/state", tests, make_dir, remove_dir);
}
