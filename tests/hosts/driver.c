/* driver.c: the test program of tests/hosts. It does what standard input tells it, a command a
 * line, and answers each with a line. It sees only the public header. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "logclient.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define MESSAGE_MAX 60000

static logclient_t *client;
static const char *tag = "d";
static long number; /* of the next record */

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "driver: %s: %s\n", what, strerror(errno));
    exit(70);
}

static void report(logclient_t *c, logclient_status_t status, const char *text, void *arg)
{
    (void)c, (void)arg;
    fprintf(stderr, "report: %d: %s\n", (int)status, text);
}

static void begin(void)
{
    char err[300];
    logclient_options_t *options = logclient_options_new();
    if (options == NULL)
        die("options");
    logclient_options_set_error_cb(options, report, NULL);
    client = logclient_new(options, err, sizeof(err));
    logclient_options_free(options);
    if (client == NULL)
        die(err);
}

/* A record with a message of its own. Returns 0 or an errno. */
static int log_one(char *message, long bytes)
{
    int n = sprintf(message, "%s-%ld-", tag, number);
    message[n] = '.';
    message[bytes] = '\0';
    int error = logclient_send(client, "host", "info", message) == 0 ? 0 : errno;
    message[bytes] = '.';
    number += error == 0;
    return error;
}

/* "log RECORDS BYTES": logs until one is refused, and says how many were taken, and why it was. */
static void log_records(long records, long bytes)
{
    static char message[MESSAGE_MAX + 1];
    long taken = 0;
    int error = 0;
    memset(message, '.', MESSAGE_MAX);
    while (taken < records && (error = log_one(message, bytes)) == 0)
        taken++;
    printf("%ld %s\n", taken, error == 0 ? "" : strerrorname_np(error));
}

static int compare(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return x < y ? -1 : x > y;
}

/* "price CALLS BYTES": the price of each call, whether taken or refused; the number of the refused,
 * the average, the median and the price that 1 in 1000 exceeds, in nanoseconds. */
static void measure(long calls, long bytes)
{
    static char message[MESSAGE_MAX + 1];
    long *ns = calloc((size_t)calls, sizeof(*ns)), refused = 0, sum = 0;
    struct timespec a, b;
    memset(message, '.', MESSAGE_MAX);
    for (long i = 0; i < calls; i++) {
        clock_gettime(CLOCK_MONOTONIC, &a);
        refused += log_one(message, bytes) != 0;
        clock_gettime(CLOCK_MONOTONIC, &b);
        ns[i] = (b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec;
        sum += ns[i];
    }
    qsort(ns, (size_t)calls, sizeof(*ns), compare);
    printf("%ld %ld %ld %ld\n", refused, sum / calls, ns[calls / 2], ns[calls - 1 - calls / 1000]);
    free(ns);
}

/* "pageout": gives back the memory of all ring files that are mapped, as a lack of memory would. */
static void page_out(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[4600];
    unsigned long from, to;
    int done = 0;
    while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
        if (strstr(line, ".ring") != NULL && sscanf(line, "%lx-%lx", &from, &to) == 2)
            done += madvise((void *)from, to - from, MADV_PAGEOUT) == 0;
    if (maps != NULL)
        fclose(maps);
    printf("%d\n", done);
}

static void limit_memory(long bytes)
{
    struct rlimit limit = {.rlim_cur = (rlim_t)bytes, .rlim_max = (rlim_t)bytes};
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        die("setrlimit");
    puts("done");
}

static void obey(const char *command, long a, long b)
{
    if (strcmp(command, "begin") == 0) {
        begin();
        puts("done");
    } else if (strcmp(command, "log") == 0) {
        log_records(a, b);
    } else if (strcmp(command, "price") == 0) {
        measure(a, b);
    } else if (strcmp(command, "flush") == 0) {
        puts(logclient_flush(client, (int)a) == LOGCLIENT_OK ? "done" : "late");
    } else if (strcmp(command, "stat") == 0) {
        printf("%llu\n", (unsigned long long)logclient_stat(client, (logclient_stat_t)a));
    } else if (strcmp(command, "pageout") == 0) {
        page_out();
    } else if (strcmp(command, "lock") == 0) {
        puts(mlockall((int)a) == 0 ? "done" : strerrorname_np(errno));
    } else if (strcmp(command, "memory") == 0) {
        limit_memory(a);
    } else if (strcmp(command, "user") == 0) {
        puts(setuid((uid_t)a) == 0 ? "done" : strerrorname_np(errno));
    } else {
        die(command);
    }
}

int main(int argc, char **argv)
{
    char line[200], command[20];
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1)
        tag = argv[1];
    while (fgets(line, sizeof(line), stdin) != NULL) {
        long a = 0, b = 0;
        if (sscanf(line, "%19s %ld %ld", command, &a, &b) < 1)
            continue;
        obey(command, a, b);
    }
    logclient_free(client);
    puts("ended");
    return 0;
}
