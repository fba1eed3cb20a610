/* producer.c: the test program of the end-to-end tests. It logs records with unique messages
 * ("TAG-THREAD-NUMBER"), keeps a list of what the library accepted, and prints the statistics as
 * one JSON object. It sees only the public header. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "logclient.h"

#define MAX_NAMES   16
#define MESSAGE_MAX (1 << 20)

static struct {
    long threads;
    long records; /* of each thread */
    const char *levels[MAX_NAMES];
    size_t level_count;
    const char *service;
    const char *tag;
    char *message;   /* instead of unique ids */
    long rate;       /* records a second of each thread; 0: no limit */
    long pad;        /* bytes after each id */
    long flush_ms;   /* -1: no flush */
    int accepted_fd; /* -1: no list */
    long forks;      /* children that log after the parent has begun */
    long signal_us;  /* period of a timer whose handler logs; 0: none */
    bool retry_full;
    bool hold; /* wait for the end of standard input before the flush */
    bool use_handle;
    bool at_exit;
    bool calm_fork; /* flush before the children are forked */
} opt = {.threads = 1,
         .records = 1000,
         .levels = {"info"},
         .level_count = 1,
         .service = "test",
         .tag = "p",
         .flush_ms = 30000,
         .accepted_fd = -1};

static logclient_t *client;                 /* NULL: send_log() and the default client */
static int signals_begun, signals_accepted; /* atomic: any thread may get the signal */
static long refused; /* sends that failed with EAGAIN and were not tried again */

static _Noreturn void die(const char *what, const char *detail)
{
    fprintf(stderr, "producer: %s: %s\n", what, detail);
    exit(70);
}

static int send_one(const char *level, const char *message)
{
    return client ? logclient_send(client, opt.service, level, message)
                  : send_log(opt.service, level, message);
}

/* One line for each accepted record, by a write(2) of its own, so that a killed producer leaves a
 * list that lacks at most the records it was about to list. Async-signal-safe. */
static void list_accepted(const char *id)
{
    char line[128];
    size_t n = strlen(id);
    if (opt.accepted_fd < 0)
        return;
    if (n > sizeof(line) - 1)
        n = sizeof(line) - 1;
    memcpy(line, id, n);
    line[n++] = '\n';
    if (write(opt.accepted_fd, line, n) != (ssize_t)n)
        _exit(71);
}

static void sleep_until(const struct timespec *start, long n)
{
    struct timespec t = *start;
    t.tv_sec += n / opt.rate;
    t.tv_nsec += (n % opt.rate) * (1000000000L / opt.rate);
    if (t.tv_nsec >= 1000000000L) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000L;
    }
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

/* Returns whether the record was accepted. Any refusal but a full queue ends the program. */
static bool send_retrying(const char *level, const char *message)
{
    const struct timespec nap = {0, 1000000};
    while (send_one(level, message) != 0) {
        if (errno != EAGAIN)
            die("send_log", strerror(errno));
        if (!opt.retry_full) {
            __atomic_fetch_add(&refused, 1, __ATOMIC_RELAXED);
            return false;
        }
        nanosleep(&nap, NULL);
    }
    return true;
}

static void log_records(const char *tag, long thread)
{
    char id[100];
    size_t pad = (size_t)opt.pad;
    char *message = malloc(sizeof(id) + pad + 1);
    struct timespec start;
    if (!message)
        die("malloc", "out of memory");
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (long n = 0; n < opt.records; n++) {
        int len = snprintf(id, sizeof(id), "%s-%ld-%ld", tag, thread, n);
        if (opt.rate > 0)
            sleep_until(&start, n);
        memcpy(message, id, (size_t)len);
        memset(message + len, '.', pad);
        message[(size_t)len + pad] = '\0';
        if (send_retrying(opt.levels[(size_t)n % opt.level_count],
                          opt.message ? opt.message : message))
            list_accepted(id);
    }
    free(message);
}

static void *thread_main(void *arg)
{
    log_records(opt.tag, (long)(intptr_t)arg);
    return NULL;
}

static void on_timer(int sig)
{
    char id[32] = "signal-0-";
    char digits[16];
    size_t n = strlen(id), d = 0;
    int saved = errno, count = __atomic_fetch_add(&signals_begun, 1, __ATOMIC_RELAXED);
    (void)sig;
    do
        digits[d++] = (char)('0' + count % 10);
    while ((count /= 10) > 0);
    while (d > 0)
        id[n++] = digits[--d];
    id[n] = '\0';
    if (send_one("fatal", id) == 0) {
        list_accepted(id);
        __atomic_fetch_add(&signals_accepted, 1, __ATOMIC_RELAXED);
    } else if (errno != EAGAIN) {
        _exit(72);
    }
    errno = saved;
}

static void set_timer(long us)
{
    struct itimerval t = {{us / 1000000, us % 1000000}, {us / 1000000, us % 1000000}};
    struct sigaction sa = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
    if (sigaction(SIGALRM, &sa, NULL) != 0 || setitimer(ITIMER_REAL, &t, NULL) != 0)
        die("timer", strerror(errno));
}

static void log_at_exit(void)
{
    if (send_log(opt.service, "fatal", "atexit-0-0") == 0)
        list_accepted("atexit-0-0");
}

static void run_threads(void)
{
    pthread_t thread[256];
    if (opt.threads > 256)
        die("--threads", "at most 256");
    for (long i = 0; i < opt.threads; i++)
        if (pthread_create(&thread[i], NULL, thread_main, (void *)(intptr_t)i) != 0)
            die("pthread_create", "failed");
    for (long i = 0; i < opt.threads; i++)
        pthread_join(thread[i], NULL);
}

/* Children that log with the default client, each with its own tag, and end by exit(3), that is
 * with the exit flush. */
static void run_forks(void)
{
    char tag[64];
    int status;
    if (opt.calm_fork && logclient_flush(client, 30000) != LOGCLIENT_OK)
        die("--calm-fork", "the records before are not delivered");
    for (long i = 0; i < opt.forks; i++) {
        pid_t pid = fork();
        if (pid < 0)
            die("fork", strerror(errno));
        if (pid == 0) {
            snprintf(tag, sizeof(tag), "%s.child%ld", opt.tag, i);
            log_records(tag, 0);
            if (client && logclient_flush(client, 10000) != LOGCLIENT_OK)
                _exit(73);
            exit(0);
        }
    }
    for (long i = 0; i < opt.forks; i++)
        if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
            die("child", "did not exit with 0");
}

static void wait_for_eof(void)
{
    char c;
    ssize_t n;
    do
        n = read(STDIN_FILENO, &c, 1);
    while (n > 0 || (n < 0 && errno == EINTR));
}

static void print_stat(const char *name, logclient_stat_t stat)
{
    printf("\"%s\":%llu,", name, (unsigned long long)logclient_stat(client, stat));
}

static void print_statistics(logclient_status_t flushed)
{
    printf("{");
    print_stat("logged", LOGCLIENT_STAT_LOGGED);
    print_stat("delivered", LOGCLIENT_STAT_DELIVERED);
    print_stat("rejected", LOGCLIENT_STAT_REJECTED);
    print_stat("dropped", LOGCLIENT_STAT_DROPPED);
    print_stat("queued", LOGCLIENT_STAT_QUEUED);
    print_stat("truncated", LOGCLIENT_STAT_TRUNCATED);
    print_stat("repaired", LOGCLIENT_STAT_REPAIRED);
    print_stat("batches", LOGCLIENT_STAT_BATCHES);
    print_stat("retries", LOGCLIENT_STAT_RETRIES);
    print_stat("ring_fallback", LOGCLIENT_STAT_RING_FALLBACK);
    print_stat("adopted", LOGCLIENT_STAT_ADOPTED);
    print_stat("adopted_rejected", LOGCLIENT_STAT_ADOPTED_REJECTED);
    print_stat("damaged", LOGCLIENT_STAT_DAMAGED);
    printf("\"refused\":%ld,\"signals\":%d,\"flushed\":%s}\n", refused,
           __atomic_load_n(&signals_accepted, __ATOMIC_RELAXED),
           opt.flush_ms >= 0 && flushed == LOGCLIENT_OK ? "true" : "false");
    if (fflush(stdout) != 0)
        die("standard output", strerror(errno));
}

static void report(logclient_t *c, logclient_status_t status, const char *text, void *arg)
{
    (void)c, (void)arg;
    fprintf(stderr, "report: %d: %s: %s\n", (int)status, logclient_strerror(status), text);
}

static void set_property(logclient_options_t *options, char *assignment)
{
    char err[256];
    char *value = strchr(assignment, '=');
    if (!value)
        die(assignment, "--set takes NAME=VALUE");
    *value++ = '\0';
    if (logclient_options_set(options, assignment, value, err, sizeof(err)) != LOGCLIENT_OK)
        die("--set", err);
    opt.use_handle = true;
}

static char *read_file(const char *path)
{
    char *text = malloc(MESSAGE_MAX + 1);
    FILE *f = fopen(path, "rb");
    size_t n;
    if (!f || !text)
        die(path, "cannot be read");
    n = fread(text, 1, MESSAGE_MAX, f);
    text[n] = '\0';
    fclose(f);
    return text;
}

static void split_levels(char *list)
{
    opt.level_count = 0;
    for (char *name = strtok(list, ","); name && opt.level_count < MAX_NAMES;
         name = strtok(NULL, ","))
        opt.levels[opt.level_count++] = name;
}

static const struct option long_options[] = {
    {"threads", 1, NULL, 't'},    {"records", 1, NULL, 'n'}, {"levels", 1, NULL, 'l'},
    {"service", 1, NULL, 's'},    {"tag", 1, NULL, 'g'},     {"message-file", 1, NULL, 'm'},
    {"rate", 1, NULL, 'r'},       {"pad", 1, NULL, 'p'},     {"flush-ms", 1, NULL, 'f'},
    {"accepted", 1, NULL, 'a'},   {"fork", 1, NULL, 'k'},    {"signal-us", 1, NULL, 'u'},
    {"retry-full", 0, NULL, 'y'}, {"hold", 0, NULL, 'h'},    {"handle", 0, NULL, 'H'},
    {"set", 1, NULL, 'S'},        {"at-exit", 0, NULL, 'x'}, {"calm-fork", 0, NULL, 'c'},
    {NULL, 0, NULL, 0},
};

static const struct {
    int letter;
    long *target;
} numbers[] = {
    {'t', &opt.threads},  {'n', &opt.records}, {'r', &opt.rate},      {'p', &opt.pad},
    {'f', &opt.flush_ms}, {'k', &opt.forks},   {'u', &opt.signal_us},
};

static bool take_number(int c, const char *arg)
{
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (numbers[i].letter == c) {
            *numbers[i].target = strtol(arg, NULL, 10);
            return true;
        }
    }
    return false;
}

static void take_option(int c, char *arg, logclient_options_t *options)
{
    if (take_number(c, arg))
        return;
    switch (c) {
    case 'l':
        split_levels(arg);
        break;
    case 's':
        opt.service = arg;
        break;
    case 'g':
        opt.tag = arg;
        break;
    case 'm':
        opt.message = read_file(arg);
        break;
    case 'a':
        opt.accepted_fd = open(arg, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (opt.accepted_fd < 0)
            die(arg, strerror(errno));
        break;
    case 'y':
        opt.retry_full = true;
        break;
    case 'h':
        opt.hold = true;
        break;
    case 'H':
        opt.use_handle = true;
        break;
    case 'S':
        set_property(options, arg);
        break;
    case 'x':
        opt.at_exit = true;
        break;
    case 'c':
        opt.calm_fork = true;
        break;
    default:
        exit(64);
    }
}

int main(int argc, char **argv)
{
    logclient_options_t *options = logclient_options_new();
    logclient_status_t flushed = LOGCLIENT_OK;
    char err[256];
    int c;
    if (!options)
        die("logclient_options_new", "out of memory");
    while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        take_option(c, optarg, options);
    logclient_options_set_error_cb(options, report, NULL);
    if (opt.use_handle && !(client = logclient_new(options, err, sizeof(err))))
        die("logclient_new", err);
    logclient_options_free(options);
    if (opt.at_exit && atexit(log_at_exit) != 0)
        die("atexit", "failed");

    if (opt.signal_us > 0) {
        if (!client && !logclient_default()) /* the first call is not async-signal-safe */
            die("logclient_default", strerror(errno));
        set_timer(opt.signal_us);
    }
    run_threads();
    run_forks();
    if (opt.signal_us > 0)
        setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    if (opt.hold)
        wait_for_eof();
    if (opt.flush_ms >= 0)
        flushed = logclient_flush(client, (int)opt.flush_ms);
    print_statistics(flushed);
    logclient_free(client);
    free(opt.message);
    return 0;
}
