/* test_past.c: which files of a directory the log was before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/past.h"

static char dir[] = "/tmp/test_past.XXXXXX";
static char path[64];
static struct past past;

static int make_dir(void **arg)
{
    (void)arg;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/app.log", dir);
    return 0;
}

static int remove_files(void **arg)
{
    char command[64];
    (void)arg;
    past_free(&past);
    snprintf(command, sizeof(command), "rm -rf %s/*", dir);
    return system(command);
}

static int remove_dir(void **arg)
{
    (void)arg;
    return rmdir(dir);
}

static const char *in_dir(const char *name)
{
    static char full[128];
    snprintf(full, sizeof(full), "%s/%s", dir, name);
    return full;
}

/* A file that was changed at this time. */
static void put(const char *name, const char *text, struct timespec changed)
{
    const struct timespec times[2] = {changed, changed};
    int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

static void list(void)
{
    struct stat st = {0};
    stat(path, &st);
    assert_true(past_list(&past, path, &st));
}

static void assert_file(size_t i, const char *name, int64_t size)
{
    assert_true(i < past.count);
    assert_string_equal(past.files[i].name, name);
    assert_int_equal(past.files[i].size, size);
}

static void test_the_last_one_that_was_changed_comes_first(void **arg)
{
    (void)arg;
    put("app.log.1", "{}\n", (struct timespec){2000, 0});
    put("app.log.2", "{}\n{}\n", (struct timespec){1000, 5});
    put("app.log.3", "{}\n", (struct timespec){1000, 7});
    put("app.log-20261124", "{}\n", (struct timespec){3000, 0});
    list();
    assert_int_equal(past.count, 4);
    assert_file(0, "app.log-20261124", 3);
    assert_file(1, "app.log.1", 3);
    assert_file(2, "app.log.3", 3);
    assert_file(3, "app.log.2", 6);
    assert_int_equal(past.bytes, 15);
}

static void test_names_that_are_none_of_the_log(void **arg)
{
    (void)arg;
    put("app.log", "{}\n", (struct timespec){1000, 0});
    put("app.log.state", "logworker-state", (struct timespec){1000, 0});
    put("app.lo", "{}\n", (struct timespec){1000, 0});
    put("xapp.log.1", "{}\n", (struct timespec){1000, 0});
    assert_int_equal(mkdir(in_dir("app.log.d"), 0700), 0);
    assert_int_equal(symlink("app.log", in_dir("app.log.link")), 0);
    assert_int_equal(mkfifo(in_dir("app.log.pipe"), 0600), 0);
    list();
    assert_int_equal(past.count, 0);
    assert_int_equal(past.bytes, 0);
}

/* Its lines would count twice. */
static void test_another_name_of_the_log_itself_is_none(void **arg)
{
    char kept[128];
    (void)arg;
    put("app.log", "{}\n", (struct timespec){1000, 0});
    snprintf(kept, sizeof(kept), "%s", in_dir("app.log.kept"));
    assert_int_equal(link(path, kept), 0);
    list();
    assert_int_equal(past.count, 0);
}

static void test_a_file_with_two_names_counts_once(void **arg)
{
    char kept[128];
    (void)arg;
    put("app.log.1", "{}\n", (struct timespec){1000, 0});
    snprintf(kept, sizeof(kept), "%s", in_dir("app.log.2"));
    assert_int_equal(link(in_dir("app.log.1"), kept), 0);
    list();
    assert_int_equal(past.count, 1);
    assert_int_equal(past.bytes, 3);
}

static bool none(void)
{
    bool is_none;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(past_none(path, fd, &is_none));
    close(fd);
    return is_none;
}

static void test_whether_there_is_a_byte_at_all(void **arg)
{
    bool is_none;
    (void)arg;
    put("app.log", "", (struct timespec){1000, 0});
    put("app.log.state", "logworker-state", (struct timespec){1000, 0});
    assert_true(none());
    put("app.log.1", "", (struct timespec){1000, 0});
    assert_true(none());
    put("app.log.2", "{}\n", (struct timespec){1000, 0});
    assert_false(none());
    assert_int_equal(unlink(in_dir("app.log.2")), 0);
    put("app.log", "{", (struct timespec){1000, 0});
    assert_false(none());
    assert_false(past_none(path, -1, &is_none));
    assert_int_equal(errno, EBADF);
}

static void assert_opens(size_t i, const char *expected)
{
    char text[64];
    int fd = past_open(&past, i);
    assert_true(fd >= 0);
    ssize_t n = read(fd, text, sizeof(text) - 1);
    assert_true(n >= 0);
    text[n] = '\0';
    assert_string_equal(text, expected);
    close(fd);
}

static void test_what_looks_like_a_log_is_opened(void **arg)
{
    (void)arg;
    put("app.log.1", "{}\n", (struct timespec){3000, 0});
    put("app.log.2", "", (struct timespec){2000, 0});
    put("app.log.3.gz", "\x1f\x8b\x08", (struct timespec){1000, 0});
    list();
    assert_opens(0, "{}\n");
    assert_opens(1, "");
    assert_int_equal(past_open(&past, 2), -1);
    assert_int_equal(errno, EINVAL);
}

static void test_a_file_that_is_gone_meanwhile(void **arg)
{
    (void)arg;
    put("app.log.1", "{}\n", (struct timespec){1000, 0});
    list();
    assert_int_equal(unlink(in_dir("app.log.1")), 0);
    assert_int_equal(past_open(&past, 0), -1);
    assert_int_equal(errno, ENOENT);
}

static void test_a_directory_that_is_gone(void **arg)
{
    struct stat st = {0};
    (void)arg;
    assert_false(past_list(&past, "/nonexistent/app.log", &st));
    assert_int_equal(errno, ENOENT);
    assert_int_equal(past.count, 0);
}

static void test_a_path_without_a_directory(void **arg)
{
    struct stat st = {0};
    char before[256];
    (void)arg;
    put("app.log.1", "{}\n", (struct timespec){1000, 0});
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(dir), 0);
    bool listed = past_list(&past, "app.log", &st);
    assert_int_equal(chdir(before), 0);
    assert_true(listed);
    assert_int_equal(past.count, 1);
    assert_opens(0, "{}\n");
}

#define TEST(f) cmocka_unit_test_teardown(f, remove_files)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_last_one_that_was_changed_comes_first),
        TEST(test_names_that_are_none_of_the_log),
        TEST(test_another_name_of_the_log_itself_is_none),
        TEST(test_a_file_with_two_names_counts_once),
        TEST(test_whether_there_is_a_byte_at_all),
        TEST(test_what_looks_like_a_log_is_opened),
        TEST(test_a_file_that_is_gone_meanwhile),
        TEST(test_a_directory_that_is_gone),
        TEST(test_a_path_without_a_directory),
    };
    past.dir = -1;
    return cmocka_run_group_tests_name("worker/past", tests, make_dir, remove_dir);
}
