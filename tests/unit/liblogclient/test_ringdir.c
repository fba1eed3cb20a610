/* test_ringdir.c: which directories are taken, who owns a ring file, and what a search makes of
 * strange files. Leftovers are faked: what a file contains does not matter here. */
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
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "liblogclient/ringdir-internal.h"

#define NAME "0123456789abcdef0123456789abcdef"

static char path[64], why[400];
static int dir;

/* ---- Fakes ---- */

static int leftover_error;
static bool leftover_is_empty;

int lc_leftover_open(struct lc_leftover *leftover, int fd, const char *name)
{
    (void)name;
    *leftover = (struct lc_leftover){.fd = fd};
    return leftover_error;
}

bool lc_leftover_is_empty(const struct lc_leftover *leftover)
{
    (void)leftover;
    return leftover_is_empty;
}

void lc_leftover_close(struct lc_leftover *leftover)
{
    close(leftover->fd);
}

static off_t quota; /* of a file; 0: none */

int fallocate(int fd, int mode, off_t offset, off_t bytes)
{
    (void)fd, (void)mode;
    if (quota == 0 || offset + bytes <= quota)
        return 0;
    errno = EDQUOT;
    return -1;
}

/* ---- Helpers ---- */

static int set_up(void **state)
{
    (void)state;
    leftover_error = 0;
    leftover_is_empty = false;
    strcpy(path, "/tmp/logclient-ringdir-XXXXXX");
    if (mkdtemp(path) == NULL)
        return -1;
    dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    char command[100];
    (void)state;
    close(dir);
    snprintf(command, sizeof(command), "rm -rf %s", path);
    return system(command);
}

static void make(const char *name)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static bool exists(const char *name)
{
    struct stat st;
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The first thing that a search finds. */
static enum lc_adopt search(char name[LC_RING_NAME_MAX], char strange[LC_RING_NAME_MAX + 120])
{
    struct lc_adoption adoption;
    struct lc_leftover leftover;
    assert_true(lc_adoption_begin(&adoption, dir, 0));
    enum lc_adopt result = lc_adoption_next(&adoption, &leftover, name);
    if (result == LC_ADOPT_RING)
        lc_leftover_close(&leftover);
    assert_false(adoption.failed);
    strcpy(strange, adoption.strange);
    lc_adoption_end(&adoption);
    return result;
}

static void expect(enum lc_adopt expected, const char *strange)
{
    char name[LC_RING_NAME_MAX], text[LC_RING_NAME_MAX + 120];
    assert_int_equal(search(name, text), expected);
    assert_string_equal(text, strange);
}

/* ---- Directories ---- */

static void test_a_missing_directory_is_made_private(void **state)
{
    char inner[100];
    struct stat st;
    (void)state;
    snprintf(inner, sizeof(inner), "%s/rings", path);
    int fd = lc_ringdir_open(inner, why, sizeof(why));
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    close(fd);
}

static void test_a_directory_that_others_may_write_to_is_refused(void **state)
{
    char expected[200];
    (void)state;
    snprintf(expected, sizeof(expected),
             "the ring directory %s must belong to user %lu and be writable by nobody else", path,
             (unsigned long)geteuid());
    for (mode_t mode = 0; mode < 0100; mode++) {
        assert_int_equal(chmod(path, 0700 | mode), 0);
        int fd = lc_ringdir_open(path, why, sizeof(why));
        assert_int_equal(fd >= 0, (mode & 022) == 0);
        if (fd >= 0)
            close(fd);
        else
            assert_string_equal(why, expected);
    }
}

static void test_a_directory_of_another_user_is_drained_by_root_only(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(chown(path, 65534, 65534), 0);
    assert_int_equal(lc_ringdir_open(path, why, sizeof(why)), -1);
    assert_non_null(strstr(why, "must belong to user 0"));
    int fd = lc_ringdir_open_drain(path, why, sizeof(why));
    assert_true(fd >= 0);
    close(fd);
}

static void test_a_file_system_that_is_not_known_is_refused(void **state)
{
    (void)state;
    if (geteuid() != 0) /* /proc is root's */
        skip();
    assert_int_equal(lc_ringdir_open("/proc", why, sizeof(why)), -1);
    assert_string_equal(why, "the ring directory /proc lies on file system 0x9fa0, where rings are "
                             "not safe: use tmpfs, ext4 or xfs");
}

static void test_to_drain_makes_no_directory(void **state)
{
    char inner[100];
    (void)state;
    snprintf(inner, sizeof(inner), "%s/rings", path);
    assert_int_equal(lc_ringdir_open_drain(inner, why, sizeof(why)), -1);
    assert_false(exists("rings"));
}

static void test_a_client_has_the_directories_it_is_told(void **state)
{
    struct lc_ringdirs dirs;
    (void)state;
    lc_ringdirs_open(&dirs, path, NULL, why, sizeof(why));
    assert_true(dirs.own);
    assert_int_equal(dirs.count, 1);
    assert_string_equal(why, "");
    lc_ringdirs_close(&dirs);
    lc_ringdirs_open(&dirs, "off", path, why, sizeof(why));
    assert_false(dirs.own);
    assert_int_equal(dirs.count, 1);
    lc_ringdirs_close(&dirs);
    lc_ringdirs_open(&dirs, "off", NULL, why, sizeof(why));
    assert_int_equal(dirs.count, 0);
    assert_string_equal(why, "");
    assert_int_equal(chmod(path, 0777), 0);
    lc_ringdirs_open(&dirs, path, NULL, why, sizeof(why));
    assert_false(dirs.own);
    assert_int_equal(dirs.count, 0);
    assert_string_not_equal(why, "");
}

/* ---- Rings ---- */

static void test_a_ring_in_use_is_not_adopted(void **state)
{
    struct lc_ring ring;
    char name[LC_RING_NAME_MAX];
    (void)state;
    assert_int_equal(lc_ringdir_create(dir, &ring, LC_RING_MIN_BYTES, name), 0);
    assert_true(exists(name));
    expect(LC_ADOPT_NONE, "");
    lc_ring_close(&ring);
    expect(LC_ADOPT_RING, "");
    leftover_is_empty = true;
    expect(LC_ADOPT_NONE, "");
    assert_false(exists(name));
}

static void test_a_mapping_that_outlives_the_owner_keeps_no_lock(void **state)
{
    struct lc_ring ring;
    char name[LC_RING_NAME_MAX];
    (void)state;
    assert_int_equal(lc_ringdir_create(dir, &ring, LC_RING_MIN_BYTES, name), 0);
    close(ring.fd); /* as in a child of _Fork(3), which has the mapping and not the descriptor */
    ring.fd = -1;
    expect(LC_ADOPT_RING, "");
    lc_ring_close(&ring);
}

static void test_a_quota_halves_a_ring_on_a_disk(void **state)
{
    struct lc_ring ring;
    (void)state;
    make("ring");
    int fd = openat(dir, "ring", O_RDWR | O_CLOEXEC);
    quota = (off_t)12 << 20;
    assert_int_equal(lc_ring_create(&ring, fd, (uint64_t)64 << 20, true), 0);
    assert_int_equal(ring.capacity, (uint64_t)8 << 20);
    lc_ring_close(&ring);
    fd = openat(dir, "ring", O_RDWR | O_CLOEXEC);
    quota = LC_RING_MIN_BYTES;
    assert_int_equal(lc_ring_create(&ring, fd, (uint64_t)64 << 20, true), EDQUOT);
    close(fd);
    quota = 0;
}

/* ---- Strange files ---- */

static void test_what_is_no_file_is_moved_aside(void **state)
{
    (void)state;
    assert_int_equal(mkdirat(dir, "dir.ring", 0700), 0);
    expect(LC_ADOPT_DAMAGED, "");
    assert_true(exists("dir.ring.damaged"));
    assert_int_equal(mkfifoat(dir, "fifo.ring", 0600), 0);
    expect(LC_ADOPT_DAMAGED, "");
    assert_true(exists("fifo.ring.damaged"));
    assert_int_equal(symlinkat("/etc/passwd", dir, "link.ring"), 0);
    expect(LC_ADOPT_DAMAGED, "");
    assert_true(exists("link.ring.damaged"));
    expect(LC_ADOPT_NONE, "");
}

static void test_what_was_moved_aside_is_kept(void **state)
{
    (void)state;
    leftover_error = EBADMSG;
    make("a.ring.damaged");
    make("a.ring");
    expect(LC_ADOPT_DAMAGED, "");
    make("a.ring");
    expect(LC_ADOPT_DAMAGED, "");
    assert_true(exists("a.ring.damaged"));
    assert_true(exists("a.ring.damaged.1"));
    assert_true(exists("a.ring.damaged.2"));
    assert_false(exists("a.ring"));
}

static void test_a_ring_of_an_older_version_stays(void **state)
{
    (void)state;
    leftover_error = ENOTSUP;
    make(NAME ".ring");
    expect(LC_ADOPT_NONE, "ring " NAME ".ring is passed over: it is one of version 0.1.0, whose "
                          "logsend can drain it");
    assert_true(exists(NAME ".ring"));
}

static void test_a_file_of_another_user_stays(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    make("a.ring");
    assert_int_equal(fchownat(dir, "a.ring", 65534, 65534, 0), 0);
    expect(LC_ADOPT_NONE, "ring a.ring is passed over: it belongs to another user than the "
                          "directory");
    assert_true(exists("a.ring"));
}

static void test_only_unfinished_rings_are_removed(void **state)
{
    (void)state;
    make(NAME ".tmp");
    make("notes.tmp");
    expect(LC_ADOPT_NONE, "");
    assert_false(exists(NAME ".tmp"));
    assert_true(exists("notes.tmp"));
}

/* ---- The lock ---- */

static void test_one_process_searches_at_a_time(void **state)
{
    struct lc_adoption one, two;
    (void)state;
    assert_true(lc_adoption_begin(&one, dir, 0));
    assert_false(lc_adoption_begin(&two, dir, 0));
    lc_adoption_end(&one);
    assert_false(lc_adoption_begin(&two, dir, 10000));
    assert_true(lc_adoption_begin(&two, dir, 0));
    lc_adoption_end(&two);
}

static void test_a_lock_that_is_no_file_stops_nobody(void **state)
{
    (void)state;
    make("a.ring");
    assert_int_equal(mkdirat(dir, "adopt.lock", 0700), 0);
    expect(LC_ADOPT_RING, "");
    assert_int_equal(unlinkat(dir, "adopt.lock", AT_REMOVEDIR), 0);
    assert_int_equal(mkfifoat(dir, "adopt.lock", 0600), 0);
    expect(LC_ADOPT_RING, "");
    assert_int_equal(unlinkat(dir, "adopt.lock", 0), 0);
    assert_int_equal(symlinkat("/etc/passwd", dir, "adopt.lock"), 0);
    expect(LC_ADOPT_RING, "");
}

static void test_a_lock_of_another_user_stops_nobody(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    make("a.ring");
    make("adopt.lock");
    assert_int_equal(fchownat(dir, "adopt.lock", 65534, 65534, 0), 0);
    int fd = openat(dir, "adopt.lock", O_RDONLY | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    expect(LC_ADOPT_RING, "");
    close(fd);
}

static void test_root_leaves_no_lock_to_a_user(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(chown(path, 65534, 65534), 0);
    make("a.ring");
    assert_int_equal(fchownat(dir, "a.ring", 65534, 65534, 0), 0);
    expect(LC_ADOPT_RING, "");
    assert_false(exists("adopt.lock"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_missing_directory_is_made_private),
        TEST(test_a_directory_that_others_may_write_to_is_refused),
        TEST(test_a_directory_of_another_user_is_drained_by_root_only),
        TEST(test_a_file_system_that_is_not_known_is_refused),
        TEST(test_to_drain_makes_no_directory),
        TEST(test_a_client_has_the_directories_it_is_told),
        TEST(test_a_ring_in_use_is_not_adopted),
        TEST(test_a_mapping_that_outlives_the_owner_keeps_no_lock),
        TEST(test_a_quota_halves_a_ring_on_a_disk),
        TEST(test_what_is_no_file_is_moved_aside),
        TEST(test_what_was_moved_aside_is_kept),
        TEST(test_a_ring_of_an_older_version_stays),
        TEST(test_a_file_of_another_user_stays),
        TEST(test_only_unfinished_rings_are_removed),
        TEST(test_one_process_searches_at_a_time),
        TEST(test_a_lock_that_is_no_file_stops_nobody),
        TEST(test_a_lock_of_another_user_stops_nobody),
        TEST(test_root_leaves_no_lock_to_a_user),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
