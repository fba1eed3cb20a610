/* test_place.c: which file systems are safe, and which directories are the default. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "liblogclient/place-internal.h"

static char runtime[64];

static int make_runtime(void **state)
{
    (void)state;
    strcpy(runtime, "/tmp/logclient-place-XXXXXX");
    return mkdtemp(runtime) == NULL ? -1 : setenv("XDG_RUNTIME_DIR", runtime, 1);
}

static int remove_runtime(void **state)
{
    (void)state;
    unsetenv("XDG_RUNTIME_DIR");
    return rmdir(runtime);
}

static void test_memory_is_known(void **state)
{
    char name[64];
    int fd = memfd_create("place", MFD_CLOEXEC);
    (void)state;
    assert_int_equal(lc_place_of(fd, name, sizeof(name)), LC_PLACE_MEMORY);
    assert_string_equal(name, "tmpfs");
    assert_int_equal(lc_place_check(fd), 0);
    close(fd);
}

static void test_an_unknown_file_system_has_a_number(void **state)
{
    char name[64];
    int dir = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)state;
    assert_int_equal(lc_place_of(dir, name, sizeof(name)), LC_PLACE_UNKNOWN);
    assert_string_equal(name, "file system 0x9fa0");
    close(dir);
    assert_int_equal(lc_place_of(dir, name, sizeof(name)), LC_PLACE_UNKNOWN);
}

static void test_the_runtime_directory_comes_first(void **state)
{
    char path[128], expected[128];
    (void)state;
    assert_true(lc_place_default(0, path, sizeof(path)));
    snprintf(expected, sizeof(expected), "%s/logclient", runtime);
    assert_string_equal(path, expected);
}

static void test_a_runtime_directory_that_others_may_write_to_does_not_count(void **state)
{
    char path[128];
    (void)state;
    assert_int_equal(chmod(runtime, 0770), 0);
    assert_true(lc_place_default(0, path, sizeof(path)));
    assert_string_equal(path, "");
}

static void test_a_runtime_directory_of_another_user_does_not_count(void **state)
{
    char path[128];
    (void)state;
    setenv("XDG_RUNTIME_DIR", geteuid() == 0 ? "/proc/self/fd/0/none" : "/", 1);
    assert_true(lc_place_default(0, path, sizeof(path)));
    assert_string_equal(path, "");
    setenv("XDG_RUNTIME_DIR", "tmp", 1);
    assert_true(lc_place_default(0, path, sizeof(path)));
    assert_string_equal(path, "");
}

static void test_shared_memory_comes_last(void **state)
{
    char path[128], expected[128];
    (void)state;
    assert_true(lc_place_default(2, path, sizeof(path)));
    snprintf(expected, sizeof(expected), "/dev/shm/logclient-%lu", (unsigned long)geteuid());
    assert_string_equal(path, expected);
    assert_false(lc_place_default(3, path, sizeof(path)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_known),
        cmocka_unit_test(test_an_unknown_file_system_has_a_number),
        cmocka_unit_test_setup_teardown(test_the_runtime_directory_comes_first, make_runtime,
                                        remove_runtime),
        cmocka_unit_test_setup_teardown(
            test_a_runtime_directory_that_others_may_write_to_does_not_count, make_runtime,
            remove_runtime),
        cmocka_unit_test_setup_teardown(test_a_runtime_directory_of_another_user_does_not_count,
                                        make_runtime, remove_runtime),
        cmocka_unit_test(test_shared_memory_comes_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
