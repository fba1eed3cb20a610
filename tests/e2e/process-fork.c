/* process-fork.c: the scenarios of process.c that fork(2), also where one hardly may. */
#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "logclient.h"

/* ---- Children ---- */

static int count_entries(const char *path)
{
    DIR *dir = opendir(path);
    int n = -3; /* ".", "..", and for descriptors the one that reads them */
    if (!dir)
        die(path);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* Of the two that stay, the main one and the library's, and of others. A thread that was joined
 * may be listed for a moment more. */
static int count_threads(void)
{
    int n;
    for (int i = 0; (n = count_entries("/proc/self/task") + 1) > 2 && i < 1000; i++)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    return n;
}

static void print_counts(const char *name)
{
    printf("%s: %d descriptors, %d threads\n", name, count_entries("/proc/self/fd"),
           count_threads());
    fflush(stdout);
}

static _Noreturn void child(long number, long records)
{
    char tag[64];
    snprintf(tag, sizeof(tag), "child%ld", number);
    log_many(tag, records);
    if (logclient_stat(NULL, LOGCLIENT_STAT_RING_FALLBACK) != 0)
        _exit(74);
    if (number % 5 == 0)
        _exit(0); /* without the exit flush: the ring is left to others */
    exit(0);
}

static void reap_one(void)
{
    int status;
    if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "process: a child ended with status %#x\n", (unsigned)status);
        _exit(70);
    }
}

/* COUNT RECORDS THREADS: children of a process that logs, also while they are made. */
void run_forks(char **arg)
{
    long count = atol(arg[0]), records = atol(arg[1]), threads = atol(arg[2]);
    pthread_t thread[8];
    char tag[8][32];
    log_many("parent", 100);
    flush();
    print_counts("before");
    for (long i = 0; i < threads; i++) {
        snprintf(tag[i], sizeof(tag[i]), "thread%ld", i);
        if (pthread_create(&thread[i], NULL, log_until_stopped, tag[i]) != 0)
            die("pthread_create");
    }
    for (long i = 0; i < count; i++) {
        if (i >= 4)
            reap_one();
        if (!log_one("between", i))
            die("send_log");
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        if (pid == 0)
            child(i, records);
    }
    for (long i = 0; i < 4; i++)
        reap_one();
    stop_logging();
    for (long i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    flush();
    print_counts("after");
}

/* After a line of input: forks a child that logs nothing and outlives its parent. */
void run_orphan(char **arg)
{
    char c;
    (void)arg;
    log_many("parent", 100);
    if (read(STDIN_FILENO, &c, 1) < 0)
        die("standard input");
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid > 0) {
        printf("orphan: %d\n", (int)pid);
        fflush(stdout);
    }
    pause();
}

/* ---- In a signal handler ---- */

static volatile sig_atomic_t in_first_call;

static void on_fork_signal(int number)
{
    (void)number;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    if (pid < 0 || waitpid(pid, NULL, 0) != pid)
        _exit(73);
}

/* A handler forks, and does nothing else, in the midst of the first call. */
void run_fork_in_handler(char **arg)
{
    (void)arg;
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_fork_signal}, NULL);
    in_first_call = 1;
    log_one("first", 0);
    in_first_call = 0;
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    if (sigismember(&blocked, SIGUSR1) || sigismember(&blocked, SIGTERM))
        _exit(72);
    flush();
}

static volatile sig_atomic_t signals_due; /* in the next calls of the handlers of fork(2) */

static void signal_in_fork(void)
{
    if (signals_due > 0 && --signals_due == 0)
        raise(SIGUSR1);
}

static void *fork_in_thread(void *arg)
{
    (void)arg;
    on_fork_signal(0);
    return NULL;
}

/* A signal whose handler forks comes in the midst of fork(2). */
void run_fork_in_fork(char **arg)
{
    pthread_t thread;
    (void)arg;
    log_one("first", 0);
    if (pthread_atfork(signal_in_fork, signal_in_fork, NULL) != 0)
        die("pthread_atfork");
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_fork_signal}, NULL);
    for (int i = 0; i < 2; i++) {
        signals_due = i + 1; /* before the fork, then after it */
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        if (pid < 0 || waitpid(pid, NULL, 0) != pid)
            die("fork");
        log_one(i == 0 ? "second" : "third", 0);
    }
    if (pthread_create(&thread, NULL, fork_in_thread, NULL) != 0)
        die("pthread_create");
    pthread_join(thread, NULL);
    flush();
}

/* ---- A fork beside the first call ---- */

static pid_t forking_thread; /* atomic, like those below */
static bool in_first, fork_begun, fork_done;

static void note_begun(void)
{
    __atomic_store_n(&fork_begun, true, __ATOMIC_SEQ_CST);
}

/* Whether the thread waits for something, as for a lock. */
static bool waits(pid_t thread)
{
    char path[64], text[256] = "";
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)thread);
    FILE *f = fopen(path, "r");
    bool good = f != NULL && fgets(text, sizeof(text), f) != NULL;
    if (f != NULL)
        fclose(f);
    if (!good)
        die(path);
    const char *state = strrchr(text, ')');
    return state != NULL && state[2] == 'S';
}

/* In the place of the C library's. The first call reads its settings here, under the lock of the
 * default client: a signal comes. It goes on when the other thread has forked, or waits for the
 * lock. */
char *secure_getenv(const char *name)
{
    if (in_first_call)
        raise(SIGUSR1);
    __atomic_store_n(&in_first, true, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&forking_thread, __ATOMIC_SEQ_CST) != 0 &&
           !__atomic_load_n(&fork_done, __ATOMIC_SEQ_CST) &&
           !(__atomic_load_n(&fork_begun, __ATOMIC_SEQ_CST) && waits(forking_thread)))
        sched_yield();
    return getenv(name);
}

static void *fork_beside(void *arg)
{
    __atomic_store_n(&forking_thread, gettid(), __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&in_first, __ATOMIC_SEQ_CST))
        sched_yield();
    pid_t pid = fork();
    if (pid == 0) {
        alarm(30); /* it waited for ever */
        __atomic_store_n(&forking_thread, 0, __ATOMIC_SEQ_CST);
        log_one("child", 0);
        flush();
        _exit(0);
    }
    __atomic_store_n(&fork_done, true, __ATOMIC_SEQ_CST);
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        _exit(72);
    return arg;
}

void run_fork_beside_first(char **arg)
{
    pthread_t thread;
    (void)arg;
    if (pthread_atfork(note_begun, NULL, NULL) != 0 ||
        pthread_create(&thread, NULL, fork_beside, NULL) != 0)
        die("pthread_create");
    while (__atomic_load_n(&forking_thread, __ATOMIC_SEQ_CST) == 0)
        sched_yield();
    log_one("parent", 0);
    pthread_join(thread, NULL);
    flush();
}
