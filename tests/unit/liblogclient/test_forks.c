/* test_forks.c: children that no fork handler is told of, and what waits for a client's threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/timestamp.h"
#include "liblogclient/forks-internal.h"
#include "liblogclient/logclient.h"

#define FILES 300

static logclient_t *new_client(logclient_error_cb *cb, void *arg)
{
    logclient_options_t *o = logclient_options_new();
    assert_non_null(o);
    assert_int_equal(logclient_options_set(o, "url", "http://127.0.0.1:1", NULL, 0), LOGCLIENT_OK);
    assert_int_equal(logclient_options_set(o, "ring_dir", "off", NULL, 0), LOGCLIENT_OK);
    assert_int_equal(logclient_options_set(o, "exit_timeout_ms", "0", NULL, 0), LOGCLIENT_OK);
    logclient_options_set_error_cb(o, cb, arg);
    logclient_t *c = logclient_new(o, NULL, 0);
    logclient_options_free(o);
    assert_non_null(c);
    return c;
}

/* ---- Children ---- */

static sem_t held, done;

static void *hold(void *arg)
{
    lc_hold_forks();
    sem_post(&held);
    sem_wait(&done);
    lc_allow_forks();
    return arg;
}

static bool all_open(const int *files)
{
    for (int i = 0; i < FILES; i++)
        if (fcntl(files[i], F_GETFD) < 0)
            return false;
    return true;
}

/* It waited for a lock of a thread that it does not have, or closed a file of the program's. */
static void test_a_client_is_freed_in_a_child_of__Fork(void **state)
{
    int files[FILES], status;
    pthread_t other;
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* ThreadSanitizer does not know that the child has no other threads */
#endif
    logclient_t *c = new_client(NULL, NULL);
    for (int i = 0; i < FILES; i++)
        assert_true((files[i] = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0);
    sem_init(&held, 0, 0);
    sem_init(&done, 0, 0);
    assert_int_equal(pthread_create(&other, NULL, hold, NULL), 0);
    sem_wait(&held);
    pid_t pid = _Fork();
    if (pid == 0) {
        logclient_free(c);
        _exit(all_open(files) ? 0 : 1);
    }
    int64_t give_up = monotonic_now_ms() + 20000;
    while (waitpid(pid, &status, WNOHANG) == 0)
        if (monotonic_now_ms() > give_up)
            kill(pid, SIGKILL); /* SIGALRM is blocked while it waits */
        else
            sched_yield();
    sem_post(&done);
    pthread_join(other, NULL);
    assert_int_equal(status, 0);
    for (int i = 0; i < FILES; i++)
        close(files[i]);
    logclient_free(c);
}

/* ---- The end ---- */

static sem_t called;

static void flush(logclient_t *client, logclient_status_t status, const char *text, void *arg)
{
    bool *first = arg;
    (void)status, (void)text;
    if (!*first)
        return;
    *first = false;
    sem_post(&called);
    logclient_flush(client, 60000);
}

/* The end of the client waited for the callback, which waited for a sender that had ended. */
static void test_a_callback_that_flushes_does_not_hold_up_the_end(void **state)
{
    bool first = true;
    (void)state;
    sem_init(&called, 0, 0);
    logclient_t *c = new_client(flush, &first);
    assert_int_equal(logclient_send(c, "a", "info", "b"), 0);
    sem_wait(&called);
    int64_t start = monotonic_now_ms();
    logclient_free(c);
    assert_true(monotonic_now_ms() - start < 30000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_client_is_freed_in_a_child_of__Fork),
        cmocka_unit_test(test_a_callback_that_flushes_does_not_hold_up_the_end),
    };
    return cmocka_run_group_tests_name("forks", tests, NULL, NULL);
}
