/* test_diag.c: common/diag.c. Standard error is a file or a pipe here; the clock is the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/diag.h"
#include "common/timestamp.h"

static int64_t now_ms = 1;

int64_t monotonic_now_ms(void)
{
    return now_ms;
}

static char text[32768];
static int saved = -1, file = -1;

static void begin_capture(void)
{
    file = memfd_create("stderr", MFD_CLOEXEC);
    saved = dup(STDERR_FILENO);
    assert_true(file >= 0 && saved >= 0);
    assert_true(dup2(file, STDERR_FILENO) >= 0);
}

static const char *end_capture(void)
{
    ssize_t n;
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    n = pread(file, text, sizeof(text) - 1, 0);
    close(file);
    close(saved);
    assert_true(n >= 0);
    text[n] = '\0';
    return text;
}

static void test_severities(void **state)
{
    (void)state;
    begin_capture();
    diag_info("a %d", 1);
    diag_init("logd");
    diag_info("a %d", 2);
    diag_warn("b %s", "two");
    diag_error("c");
    assert_string_equal(end_capture(),
                        "log: a 1\nlogd: a 2\nlogd: warning: b two\nlogd: error: c\n");
}

static void test_lines_below_the_level_are_not_printed(void **state)
{
    (void)state;
    begin_capture();
    for (enum diag_level level = DIAG_DEBUG; level <= DIAG_ERROR; level++) {
        diag_set_level(level);
        diag_debug("a %d", level);
        diag_info("b %d", level);
        diag_warn("c %d", level);
        diag_error("d %d", level);
    }
    diag_set_level(DIAG_INFO);
    assert_string_equal(end_capture(),
                        "logd: debug: a 0\nlogd: b 0\nlogd: warning: c 0\nlogd: error: d 0\n"
                        "logd: b 1\nlogd: warning: c 1\nlogd: error: d 1\n"
                        "logd: warning: c 2\nlogd: error: d 2\n"
                        "logd: error: d 3\n");
}

static void test_control_characters(void **state)
{
    (void)state;
    begin_capture();
    diag_warn("%s", "a\nlogd: error: forged\r\t\x1b[2J\x7f\xc2\x9b"
                    "31m é …");
    assert_string_equal(end_capture(), "logd: warning: a\\x0alogd: error: forged\\x0d\\x09\\x1b[2J"
                                       "\\x7f\\xc2\\x9b31m é …\n");
}

/* Cut, marked, and still one line. Control characters only are the worst case. */
static void test_long_text(void **state)
{
    char *huge = malloc(100001);
    const char *line;
    (void)state;
    assert_non_null(huge);
    memset(huge, '\n', 100000);
    huge[100000] = '\0';
    begin_capture();
    diag_info("%s", huge);
    line = end_capture();
    free(huge);
    assert_int_equal(strlen(line), 6 + 2047 * 4 + 7);
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    assert_string_equal(line + strlen(line) - 11, "\\x0a [cut]\n");
}

static void test_errno_is_kept(void **state)
{
    (void)state;
    begin_capture();
    close(STDERR_FILENO);
    errno = ENOSPC;
    diag_error("unheard");
    assert_int_equal(errno, ENOSPC);
    assert_string_equal(end_capture(), "");
    begin_capture();
    diag_info("heard");
    assert_string_equal(
        end_capture(),
        "logd: warning: messages lost while standard error took none: 1\nlogd: heard\n");
}

static void test_die(void **state)
{
    int status;
    pid_t pid;
    (void)state;
    begin_capture();
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        diag_die(EXIT_USAGE, "--x: %s", "no");
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_string_equal(end_capture(), "logd: error: --x: no\n");
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 64);
}

/* ---- A pipe that nobody reads ---- */

static int reader = -1;

/* Standard error becomes a pipe with `room` bytes free, whose writes block.
 * alarm(2) here ends a test that waits for ever. */
static void begin_pipe(size_t room)
{
    char filler[PIPE_BUF] = {0};
    int ends[2], size;
    memset(filler, '.', sizeof(filler));
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    size = fcntl(ends[1], F_SETPIPE_SZ, 4 * PIPE_BUF);
    assert_true(size >= 4 * PIPE_BUF);
    for (size_t left = (size_t)size - room; left > 0;) {
        size_t n = left < sizeof(filler) ? left : sizeof(filler);
        assert_int_equal(write(ends[1], filler, n), n);
        left -= n;
    }
    reader = ends[0];
    saved = dup(STDERR_FILENO);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    close(ends[1]);
    alarm(20);
}

/* Empties the pipe into `text`, without the filler. */
static const char *read_pipe(void)
{
    ssize_t n = read(reader, text, sizeof(text) - 1);
    assert_true(n >= 0);
    text[n] = '\0';
    return text + strspn(text, ".");
}

static void end_pipe(void)
{
    alarm(0);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(reader);
    close(saved);
}

static void test_full_pipe(void **state)
{
    (void)state;
    begin_pipe(0);
    for (int i = 0; i < 3; i++)
        diag_warn("lost %d", i);
    assert_string_equal(read_pipe(), "");
    diag_warn("again");
    diag_warn("and again");
    assert_string_equal(
        read_pipe(),
        "logd: warning: messages lost while standard error took none: 3\nlogd: warning: again\n"
        "logd: warning: and again\n");
    end_pipe();
}

/* A line longer than PIPE_BUF may be cut; the next begins on a line of its own. */
static void test_cut_line(void **state)
{
    char long_text[1500];
    const char *line;
    (void)state;
    memset(long_text, '\n', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    begin_pipe(PIPE_BUF);
    diag_warn("%s", long_text);
    line = read_pipe();
    assert_int_equal(strlen(line), PIPE_BUF);
    assert_null(strchr(line, '\n'));
    diag_info("next");
    assert_string_equal(read_pipe(),
                        "\nlogd: warning: messages lost while standard error took none: 1\n"
                        "logd: next\n");
    end_pipe();
}

/* A reader that comes back within the second still gets the last word. */
static void test_die_waits(void **state)
{
    int status;
    pid_t pid;
    (void)state;
    begin_pipe(0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        diag_die(EXIT_BUG, "the last word");
    assert_string_equal(read_pipe(), "");
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_string_equal(read_pipe(), "logd: error: the last word\n");
    end_pipe();
    assert_int_equal(WEXITSTATUS(status), EXIT_BUG);
}

static void test_die_ends(void **state)
{
    int status;
    pid_t pid;
    (void)state;
    begin_pipe(0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        diag_die(EXIT_USAGE, "unheard");
    assert_int_equal(waitpid(pid, &status, 0), pid);
    end_pipe();
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), EXIT_USAGE);
}

/* ---- Limits ---- */

static void warn(struct diag_limit *limit, int number)
{
    errno = ENOSPC;
    diag_warn_limited(limit, "flood %d: %m", number);
    assert_int_equal(errno, ENOSPC);
}

static void test_limit(void **state)
{
    static struct diag_limit limit, other;
    (void)state;
    begin_capture();
    for (int i = 0; i < 6; i++)
        warn(&limit, i);
    warn(&other, 6);
    now_ms += 9999;
    warn(&limit, 6);
    now_ms += 1;
    warn(&limit, 7);
    warn(&limit, 8);
    now_ms += 10000;
    diag_error_limited(&limit, "flood 12345: %s", strerror(ENOSPC));
    now_ms += 10000;
    diag_error_limited(&limit, "really");
    assert_string_equal(
        end_capture(),
        "logd: warning: flood 0: No space left on device\n"
        "logd: warning: flood 6: No space left on device\n"
        "logd: warning: flood 7: No space left on device (6 more since the last such line)\n"
        "logd: error: flood 12345: No space left on device (1 more since the last such line)\n"
        "logd: error: really\n");
}

/* Redis was full, then read-only, and only the first was ever logged. */
static void test_another_cause_is_printed_at_once(void **state)
{
    static struct diag_limit limit;
    (void)state;
    begin_capture();
    for (int i = 0; i < 3; i++) {
        diag_warn_limited(&limit, "Redis refuses writes: OOM command not allowed");
        diag_warn_limited(&limit, "Redis refuses writes: READONLY You can't write");
    }
    now_ms += 10000;
    diag_warn_limited(&limit, "Redis refuses writes: READONLY You can't write");
    assert_string_equal(end_capture(),
                        "logd: warning: Redis refuses writes: OOM command not allowed\n"
                        "logd: warning: Redis refuses writes: READONLY You can't write\n"
                        "logd: warning: Redis refuses writes: READONLY You can't write (2 more "
                        "since the last such line)\n");
}

/* Four texts fit. What was left out is told once, also of a text that made room for another. */
static void test_a_flood_of_texts_is_limited(void **state)
{
    static struct diag_limit limit;
    (void)state;
    begin_capture();
    for (char c = 'a'; c <= 'j'; c++)
        diag_warn_limited(&limit, "client %c%d", c, c);
    diag_warn_limited(&limit, "client a1");
    now_ms += 10000;
    diag_warn_limited(&limit, "client b1");
    for (char c = 'k'; c <= 'z'; c++)
        diag_warn_limited(&limit, "client %c%d", c, c);
    now_ms += 10000;
    diag_warn_limited(&limit, "client z1");
    assert_string_equal(end_capture(), "logd: warning: client a97\n"
                                       "logd: warning: client b98\n"
                                       "logd: warning: client c99\n"
                                       "logd: warning: client d100\n"
                                       "logd: warning: client b1 (other lines left out: 6)\n"
                                       "logd: warning: client k107 (other lines left out: 1)\n"
                                       "logd: warning: client l108\n"
                                       "logd: warning: client m109\n"
                                       "logd: warning: client z1 (other lines left out: 13)\n");
}

/* ---- Standard descriptors ---- */

/* A log or a socket got the number 2, and the diagnostics went into it. */
static void test_standard_descriptors_are_open(void **state)
{
    int status, pid;
    (void)state;
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        for (int fd = 0; fd < 3; fd++)
            close(fd);
        diag_init("logd");
        for (int fd = 0; fd < 3; fd++)
            if (fcntl(fd, F_GETFD) < 0)
                _exit(1);
        _exit(open("/dev/null", O_RDONLY) > 2 ? 0 : 2);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_severities),
        cmocka_unit_test(test_lines_below_the_level_are_not_printed),
        cmocka_unit_test(test_control_characters),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_errno_is_kept),
        cmocka_unit_test(test_die),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_another_cause_is_printed_at_once),
        cmocka_unit_test(test_a_flood_of_texts_is_limited),
        cmocka_unit_test(test_standard_descriptors_are_open),
        cmocka_unit_test(test_full_pipe),
        cmocka_unit_test(test_cut_line),
        cmocka_unit_test(test_die_waits),
        cmocka_unit_test(test_die_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
