/* process-host.c: the scenarios of process.c in which a program changes what the library stands on:
 * descriptors, user, the way to make a child. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "logclient.h"

static void sleep_ms(long ms)
{
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&pause, &pause) != 0)
        ;
}

static long now_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- Descriptors ---- */

/* PATH: closes all descriptors after the first call, and opens files of its own, which get the
 * numbers. */
void run_close_all(char **arg)
{
    log_many("before", 10);
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    for (int i = 0; i < 60; i++)
        if (open(arg[0], O_RDWR | O_CREAT | O_APPEND, 0600) < 0)
            die(arg[0]);
    open_list();
    log_many("after", 1000);
    flush();
    long used = now_ms(CLOCK_PROCESS_CPUTIME_ID);
    sleep_ms(2500); /* the sender falls asleep, and searches */
    printf("idle: %ld ms of processor time\n", now_ms(CLOCK_PROCESS_CPUTIME_ID) - used);
    fflush(stdout);
    log_many("late", 10); /* left to exit(3) */
}

/* ---- Children ---- */

/* As fork(2), but no handler is told. */
static pid_t make_child(bool raw)
{
    return raw ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : _Fork();
}

static void reap(pid_t pid)
{
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
        fprintf(stderr, "process: a child ended with status %#x\n", (unsigned)status);
        _exit(70);
    }
}

/* "clone" or "_Fork": children that log and exit, and such that only exit. */
void run_bare_fork(char **arg)
{
    bool raw = strcmp(arg[0], "clone") == 0;
    log_many("parent", 10);
    for (int i = 0; i < 10; i++) {
        char tag[32];
        pid_t pid = make_child(raw);
        if (pid == 0) {
            alarm(30);
            snprintf(tag, sizeof(tag), "child%d", i);
            if (i % 2 == 0)
                log_many(tag, 10);
            exit(0);
        }
        reap(pid);
        log_one("between", i);
    }
    flush();
}

/* Children that are made before the first call, as servers do, and log all at once. */
void run_prefork(char **arg)
{
    pid_t pids[8];
    (void)arg;
    for (int i = 0; i < 8; i++) {
        char tag[32];
        if ((pids[i] = fork()) == 0) {
            snprintf(tag, sizeof(tag), "child%d", i);
            log_many(tag, 100);
            exit(0);
        }
    }
    log_many("parent", 100);
    for (int i = 0; i < 8; i++)
        reap(pids[i]);
}

/* ---- The user ---- */

/* UID: gives up what root may, as daemons do, after the first call. */
void run_setuid(char **arg)
{
    uid_t uid = (uid_t)atol(arg[0]);
    log_many("root", 10);
    flush();
    if (setgid((gid_t)uid) != 0 || setuid(uid) != 0)
        die("setuid");
    sleep_ms(2500); /* the sender searches */
    log_many("user", 10);
    pid_t pid = fork();
    if (pid == 0) {
        log_many("child", 10);
        exit(0);
    }
    reap(pid);
    flush();
    printf("damaged: %lu\n", (unsigned long)logclient_stat(NULL, LOGCLIENT_STAT_DAMAGED));
}

/* ---- Sleep ---- */

/* A record comes when the sender sleeps, and has searched meanwhile. */
void run_wake(char **arg)
{
    (void)arg;
    log_many("first", 1);
    flush();
    sleep_ms(3500);
    long start = now_ms(CLOCK_MONOTONIC);
    log_one("second", 0);
    while (logclient_stat(NULL, LOGCLIENT_STAT_DELIVERED) < 2 &&
           now_ms(CLOCK_MONOTONIC) < start + 10000)
        sleep_ms(1);
    printf("delivered after: %ld\n", now_ms(CLOCK_MONOTONIC) - start);
}

/* ---- The error callback ---- */

static bool done; /* atomic */

static void exit_in_callback(logclient_t *client, logclient_status_t status, const char *text,
                             void *arg)
{
    (void)client, (void)status, (void)text, (void)arg;
    exit(0);
}

static void flush_in_callback(logclient_t *client, logclient_status_t status, const char *text,
                              void *arg)
{
    (void)status, (void)text, (void)arg;
    logclient_send(client, "process", "info", "callback-0");
    printf("flush: %d\n", (int)logclient_flush(client, 500));
    fflush(stdout);
    __atomic_store_n(&done, true, __ATOMIC_SEQ_CST);
}

/* "exit" or "flush", with a logd that cannot be reached: what the callback does. */
void run_callback(char **arg)
{
    bool exits = strcmp(arg[0], "exit") == 0;
    logclient_options_t *options = logclient_options_new();
    if (options == NULL)
        die("logclient_options_new");
    logclient_options_set_error_cb(options, exits ? exit_in_callback : flush_in_callback, NULL);
    logclient_t *client = logclient_new(options, NULL, 0);
    logclient_options_free(options);
    if (client == NULL || logclient_send(client, "process", "info", "record-0") != 0)
        die("logclient_send");
    while (!__atomic_load_n(&done, __ATOMIC_SEQ_CST))
        sleep_ms(1);
    logclient_free(client);
}
