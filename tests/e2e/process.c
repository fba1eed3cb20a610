/* process.c: what a program may do to itself while it logs: exec, spawn, exit, be interrupted,
 * close descriptors, and fork (process-fork.c). test_process.py runs one scenario at a time. Each
 * record that was accepted is listed in a file. It sees only the public header. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "logclient.h"

#define FLUSH_MS 30000

extern char **environ;

static int list_fd = -1;
static const char *list_path, *self;
static bool stop; /* atomic */

_Noreturn void die(const char *what)
{
    fprintf(stderr, "process: %s: %s\n", what, strerror(errno));
    _exit(70);
}

void open_list(void)
{
    list_fd = open(list_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (list_fd < 0)
        die(list_path);
}

bool log_one(const char *tag, long number)
{
    char line[128], digits[24];
    size_t n = strlen(tag), d = 0;
    memcpy(line, tag, n);
    line[n++] = '-';
    do
        digits[d++] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    while (d > 0)
        line[n++] = digits[--d];
    line[n] = '\0';
    if (send_log("process", "warn", line) != 0)
        return false;
    line[n++] = '\n';
    if (list_fd >= 0 && write(list_fd, line, n) != (ssize_t)n)
        _exit(71);
    return true;
}

void log_many(const char *tag, long count)
{
    for (long i = 0; i < count; i++)
        if (!log_one(tag, i))
            die("send_log");
}

void flush(void)
{
    if (logclient_flush(NULL, FLUSH_MS) != LOGCLIENT_OK)
        die("logclient_flush");
}

void *log_until_stopped(void *arg)
{
    const char *tag = arg;
    for (long i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        log_one(tag, i);
        nanosleep(&(struct timespec){0, 200000}, NULL);
    }
    return NULL;
}

void stop_logging(void)
{
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
}

/* What each descriptor is, but for the three standard ones and the list. */
static void print_descriptors(void)
{
    char path[64], target[256];
    for (int fd = 3; fd < 1024; fd++) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        if (n > 0 && fd != list_fd)
            printf("fd %d: %.*s\n", fd, (int)n, target);
    }
    fflush(stdout);
}

/* ---- Exec and spawn ---- */

static char *arguments[] = {NULL, NULL, NULL, NULL}; /* of the program that takes over */

static void set_arguments(const char *scenario)
{
    arguments[0] = strdup(self);
    arguments[1] = strdup(list_path);
    arguments[2] = strdup(scenario);
}

static void free_arguments(void)
{
    for (size_t i = 0; i < 3; i++)
        free(arguments[i]);
}

/* Another program takes over, in the middle of a delivery. */
static void run_exec(char **arg)
{
    (void)arg;
    set_arguments("after-exec");
    log_many("first", 1);
    flush(); /* the connection stands (logclient(3), Descriptors) */
    log_many("before", 1999);
    execv(self, arguments);
    die("execv");
}

static void run_after_exec(char **arg)
{
    (void)arg;
    print_descriptors();
    log_many("after", 10);
    flush();
    while (logclient_stat(NULL, LOGCLIENT_STAT_ADOPTED) == 0)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
}

static void run_descriptors(char **arg)
{
    (void)arg;
    print_descriptors();
}

static void wait_for(pid_t pid)
{
    int status;
    if (waitpid(pid, &status, 0) != pid || status != 0)
        die("the program did not exit with 0");
}

static pid_t spawn_by_vfork(void)
{
    pid_t pid = vfork();
    if (pid == 0) {
        execv(self, arguments);
        _exit(127);
    }
    return pid;
}

/* COUNT: posix_spawn(3) and vfork(2) between log calls. */
static void run_spawn(char **arg)
{
    pid_t pid;
    set_arguments("descriptors");
    for (long i = 0; i < atol(arg[0]); i++) {
        if (!log_one("spawn", i))
            die("send_log");
        if (i == 0)
            flush(); /* the connection stands (logclient(3), Descriptors) */
        if (i % 2 == 0)
            pid = spawn_by_vfork();
        else if (posix_spawn(&pid, self, NULL, NULL, arguments, environ) != 0)
            die("posix_spawn");
        wait_for(pid);
    }
    free_arguments();
    flush();
}

/* ---- Signals ---- */

static int interrupts; /* atomic */

static void on_timer(int number)
{
    int saved = errno;
    (void)number;
    if (!log_one("signal", __atomic_fetch_add(&interrupts, 1, __ATOMIC_RELAXED)) && errno != EAGAIN)
        _exit(72);
    errno = saved;
}

/* COUNT MICROSECONDS: a handler that logs interrupts the only thread that logs. */
static void run_signals(char **arg)
{
    long count = atol(arg[0]), us = atol(arg[1]);
    struct itimerval timer = {{0, us}, {0, us}}, off = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
    if (!logclient_default())
        die("logclient_default");
    if (sigaction(SIGALRM, &action, NULL) != 0 || setitimer(ITIMER_REAL, &timer, NULL) != 0)
        die("setitimer");
    log_many("main", count);
    setitimer(ITIMER_REAL, &off, NULL);
    flush();
    printf("signals: %d\n", interrupts);
}

static bool same_set(const sigset_t *a, const sigset_t *b)
{
    for (int i = 1; i <= 64; i++)
        if (sigismember(a, i) != sigismember(b, i))
            return false;
    return true;
}

static bool same(const struct sigaction *a, const struct sigaction *b)
{
    return a->sa_handler == b->sa_handler && a->sa_flags == b->sa_flags &&
           same_set(&a->sa_mask, &b->sa_mask);
}

/* Nothing that belongs to the program is changed, and its signals never come to the sender. */
static void run_dispositions(char **arg)
{
    struct sigaction before[65], after;
    sigset_t mask, mask_after;
    (void)arg;
    for (int i = 1; i <= 64; i++)
        if (sigaction(i, NULL, &before[i]) != 0)
            before[i] = (struct sigaction){.sa_flags = 0};
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    log_many("record", 100);
    flush();
    for (int i = 1; i <= 64; i++)
        if (sigaction(i, NULL, &after) == 0 && !same(&before[i], &after))
            printf("signal %d has another disposition\n", i);
    pthread_sigmask(SIG_BLOCK, NULL, &mask_after);
    if (!same_set(&mask, &mask_after))
        printf("the mask has changed\n");
    printf("ready\n");
    fflush(stdout);
    pause();
}

/* ---- The end of the process ---- */

static bool log_in_destructor;

static void at_exit_early(void)
{
    log_one("atexit-before", 0);
}

static void at_exit_late(void)
{
    log_one("atexit-after", 0);
}

__attribute__((destructor)) static void destroy(void)
{
    if (log_in_destructor)
        log_one("destructor", 0);
}

/* FIRST: log also from what runs at exit; FIRST is "main" or "exit": who logs first. */
static void run_exit(char **arg)
{
    log_in_destructor = true;
    if (atexit(at_exit_early) != 0)
        die("atexit");
    if (strcmp(arg[0], "main") == 0)
        log_many("main", 10);
    if (atexit(at_exit_late) != 0)
        die("atexit");
}

/* THREADS: they log on while main() returns. */
static void run_return(char **arg)
{
    static char tags[8][32];
    pthread_t thread;
    for (long i = 0; i < atol(arg[0]); i++) {
        snprintf(tags[i], sizeof(tags[i]), "thread%ld", i);
        if (pthread_create(&thread, NULL, log_until_stopped, tags[i]) != 0)
            die("pthread_create");
    }
    log_many("main", 1000);
}

/* ---- Descriptors ---- */

/* "fork" or "same", and a path: closes all descriptors as daemons do, with a fork or without, and
 * opens files that get the freed numbers. */
static void run_daemon(char **arg)
{
    int fd;
    log_many("before", 100);
    flush();
    if (strcmp(arg[0], "fork") == 0) {
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        if (pid > 0) {
            wait_for(pid);
            return;
        }
    }
    close_range(3, ~0U, 0);
    for (int i = 0; i < 16; i++)
        if ((fd = open(arg[1], O_RDWR | O_CREAT | O_APPEND, 0600)) < 0)
            die(arg[1]);
    open_list();
    for (long i = 0; i < 20; i++) {
        log_one("after", i);
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    /* A call after a second of silence wakes the sender. */
    nanosleep(&(struct timespec){1, 200000000}, NULL);
    log_one("after", 20);
    printf("flushed: %d\n", (int)logclient_flush(NULL, 5000));
}

static void *write_strays(void *arg)
{
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
        for (int fd = 0; fd < 3; fd++) {
            ssize_t n = write(fd, "stray\n", 6);
            (void)n;
        }
    return arg;
}

/* A program without standard descriptors, which writes to them all the same, and all the time. */
static void run_closed(char **arg)
{
    pthread_t thread;
    (void)arg;
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    if (pthread_create(&thread, NULL, write_strays, NULL) != 0)
        die("pthread_create");
    for (long i = 0; i < 200; i++) {
        log_one("closed", i);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    flush();
    stop_logging();
    pthread_join(thread, NULL);
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            _exit(72); /* whose is it? */
    log_many("last", 50);
    _exit(0); /* they are left in the ring */
}

static const struct {
    const char *name;
    void (*run)(char **arg);
    int args;
} scenarios[] = {
    {"forks", run_forks, 3},
    {"orphan", run_orphan, 0},
    {"exec", run_exec, 0},
    {"after-exec", run_after_exec, 0},
    {"descriptors", run_descriptors, 0},
    {"spawn", run_spawn, 1},
    {"signals", run_signals, 2},
    {"dispositions", run_dispositions, 0},
    {"exit", run_exit, 1},
    {"return", run_return, 1},
    {"daemon", run_daemon, 2},
    {"closed", run_closed, 0},
    {"close-all", run_close_all, 1},
    {"bare-fork", run_bare_fork, 1},
    {"prefork", run_prefork, 0},
    {"setuid", run_setuid, 1},
    {"wake", run_wake, 0},
    {"callback", run_callback, 1},
    {"fork-in-fork", run_fork_in_fork, 0},
    {"fork-beside-first", run_fork_beside_first, 0},
    {"fork-in-handler", run_fork_in_handler, 0},
};

int main(int argc, char **argv)
{
    if (argc < 3)
        return 64;
    self = argv[0];
    list_path = argv[1];
    open_list();
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        if (strcmp(scenarios[i].name, argv[2]) != 0 || argc != 3 + scenarios[i].args)
            continue;
        scenarios[i].run(argv + 3);
        return 0;
    }
    return 64;
}
