/* test_life.c: a client without a server: fork, limits of the process, bad variables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "liblogclient/client-internal.h"
#include "liblogclient/ring-read-internal.h"

static char dir[] = "/tmp/test-client-XXXXXX";

static logclient_t *new_client(const char *ring_dir, const char *ring_bytes)
{
    char why[300];
    logclient_options_t *o = logclient_options_new();
    assert_non_null(o);
    assert_int_equal(logclient_options_set(o, "url", "http://127.0.0.1:1", NULL, 0), LOGCLIENT_OK);
    assert_int_equal(logclient_options_set(o, "ring_dir", ring_dir, NULL, 0), LOGCLIENT_OK);
    assert_int_equal(logclient_options_set(o, "ring_bytes", ring_bytes, NULL, 0), LOGCLIENT_OK);
    assert_int_equal(logclient_options_set(o, "exit_timeout_ms", "0", NULL, 0), LOGCLIENT_OK);
    assert_int_equal(logclient_options_set(o, "adopt", "off", NULL, 0), LOGCLIENT_OK);
    logclient_t *c = logclient_new(o, why, sizeof(why));
    if (c == NULL)
        fail_msg("%s", why);
    logclient_options_free(o);
    return c;
}

/* The child shared the ring with its parent, and sealed it: the parent's queue stopped for ever. */
static void test_a_child_that_frees_the_client_leaves_the_parent_its_ring(void **state)
{
    (void)state;
    logclient_t *c = new_client(dir, "1m");
    assert_int_equal(logclient_send(c, "svc", "info", "before"), 0);
    uint64_t head = lc_ring_head(&c->ring);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        logclient_free(c);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(lc_ring_head(&c->ring), head);
    assert_int_equal(logclient_send(c, "svc", "info", "after"), 0);
    struct lc_record got;
    uint64_t position = head;
    assert_int_equal(lc_ring_read(&c->ring, &position, &got), LC_RING_RECORD);
    assert_int_equal(access(dir, F_OK), 0);
    logclient_free(c);
}

/* Making the file raised SIGXFSZ in the program. */
static void test_a_file_size_limit_makes_the_ring_smaller(void **state)
{
    struct rlimit old, small = {.rlim_cur = 3 << 20};
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    logclient_t *c = new_client(dir, "64m");
    assert_int_equal(c->ring.capacity, 2 << 20);
    assert_int_equal(logclient_stat(c, LOGCLIENT_STAT_RING_FALLBACK), 0);
    logclient_free(c);
    small.rlim_cur = 1000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    logclient_options_t *o = logclient_options_new();
    assert_non_null(o);
    errno = 0;
    assert_null(logclient_new(o, NULL, 0));
    assert_int_equal(errno, EFBIG);
    logclient_options_free(o);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
}

static void test_each_bad_variable_has_to_be_set_right(void **state)
{
    char why[400];
    (void)state;
    setenv("LOGCLIENT_ADOPT", "maybe", 1);
    setenv("LOGCLIENT_LINGER_MS", "soon", 1);
    logclient_options_t *o = logclient_options_new();
    assert_non_null(o);
    assert_int_equal(logclient_options_set(o, "linger_ms", "5", NULL, 0), LOGCLIENT_OK);
    assert_null(logclient_new(o, why, sizeof(why)));
    assert_int_equal(errno, EINVAL);
    assert_non_null(strstr(why, "LOGCLIENT_ADOPT: adopt: \"maybe\""));
    assert_int_equal(logclient_options_set(o, "adopt", "off", NULL, 0), LOGCLIENT_OK);
    assert_int_equal(logclient_options_set(o, "ring_dir", "off", NULL, 0), LOGCLIENT_OK);
    logclient_t *c = logclient_new(o, why, sizeof(why));
    assert_non_null(c);
    logclient_options_free(o);
    unsetenv("LOGCLIENT_ADOPT");
    unsetenv("LOGCLIENT_LINGER_MS");
    logclient_free(c);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    char command[64] = "rm -rf ";
    (void)state;
    return system(strcat(command, dir));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_child_that_frees_the_client_leaves_the_parent_its_ring),
        cmocka_unit_test(test_a_file_size_limit_makes_the_ring_smaller),
        cmocka_unit_test(test_each_bad_variable_has_to_be_set_right),
    };
    return cmocka_run_group_tests_name("life", tests, set_up, tear_down);
}
