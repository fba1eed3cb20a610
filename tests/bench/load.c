/* load.c: logs records as fast as it can, and prints what that took as one JSON object.
 *
 * It waits for a line on standard input four times: after it printed "started"; after it made the
 * client and printed "ready"; and after it logged, flushed and printed the JSON. So many of them
 * begin together, and their memory is looked at in between. The client's settings come from
 * LOGCLIENT_*. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "logclient.h"
#include "util.h"

#define THREADS_MAX 64
#define GROUP       64 /* calls between two looks at the clock */
#define FLUSH_MS    600000

static struct {
    long threads, records, bytes;
    const char *level;
} opt = {.threads = 4, .records = 1000000, .bytes = 100, .level = "error"};

static logclient_t *client;
static char *message;
static pthread_barrier_t start;

struct worker {
    pthread_t thread;
    long records;
    uint32_t *group_ns; /* duration of each whole group */
    size_t groups;
    long refused;
};

static void send_group(struct worker *w, long count)
{
    for (long i = 0; i < count; i++) {
        if (logclient_send(client, "bench", opt.level, message) == 0)
            continue;
        if (errno != EAGAIN)
            die("logclient_send", strerror(errno));
        w->refused++;
    }
}

static void *run(void *arg)
{
    struct worker *w = arg;
    pthread_barrier_wait(&start);
    for (size_t g = 0; g < w->groups; g++) {
        int64_t before = now_ns(CLOCK_MONOTONIC);
        send_group(w, GROUP);
        int64_t took = now_ns(CLOCK_MONOTONIC) - before;
        w->group_ns[g] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
    }
    send_group(w, w->records % GROUP);
    return NULL;
}

static void start_threads(struct worker *w, uint32_t *group_ns)
{
    if (pthread_barrier_init(&start, NULL, (unsigned)opt.threads + 1) != 0)
        die("pthread_barrier_init", "failed");
    for (long i = 0; i < opt.threads; i++) {
        w[i].records = opt.records / opt.threads + (i < opt.records % opt.threads ? 1 : 0);
        w[i].groups = (size_t)(w[i].records / GROUP);
        w[i].group_ns = group_ns;
        group_ns += w[i].groups;
        if (pthread_create(&w[i].thread, NULL, run, &w[i]) != 0)
            die("pthread_create", "failed");
    }
}

static unsigned long long stat_of(logclient_stat_t stat)
{
    return logclient_stat(client, stat);
}

/* One measurement, from the first call to the end of the flush. */
static void measure(struct worker *w, uint32_t *group_ns)
{
    size_t groups = 0;
    long refused = 0;
    int64_t begin = now_ns(CLOCK_MONOTONIC);
    double cpu = cpu_seconds();
    pthread_barrier_wait(&start);
    for (long i = 0; i < opt.threads; i++) {
        pthread_join(w[i].thread, NULL);
        groups += w[i].groups;
        refused += w[i].refused;
    }
    if (logclient_flush(client, FLUSH_MS) != LOGCLIENT_OK)
        die("logclient_flush", "timed out");
    int64_t end = now_ns(CLOCK_MONOTONIC);
    cpu = cpu_seconds() - cpu;
    sort_values(group_ns, groups);
    say("{\"records\":%ld,\"begin_ns\":%lld,\"end_ns\":%lld,\"seconds\":%.6f,\"cpu_seconds\":%.6f,"
        "\"call_ns\":%.1f,\"refused\":%ld,\"delivered\":%llu,\"batches\":%llu,\"retries\":%llu,"
        "\"ring_fallback\":%llu}",
        opt.records, (long long)begin, (long long)end, (double)(end - begin) / 1e9, cpu,
        quantile(group_ns, groups, 0.5) / (double)GROUP, refused, stat_of(LOGCLIENT_STAT_DELIVERED),
        stat_of(LOGCLIENT_STAT_BATCHES), stat_of(LOGCLIENT_STAT_RETRIES),
        stat_of(LOGCLIENT_STAT_RING_FALLBACK));
}

static void parse_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"threads", 1, NULL, 't'}, {"records", 1, NULL, 'n'}, {"bytes", 1, NULL, 'b'},
        {"level", 1, NULL, 'l'},   {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 't')
            opt.threads = number("--threads", optarg);
        else if (c == 'n')
            opt.records = number("--records", optarg);
        else if (c == 'b')
            opt.bytes = number("--bytes", optarg);
        else if (c == 'l')
            opt.level = optarg;
        else
            exit(64);
    }
    if (opt.threads > THREADS_MAX)
        die("--threads", "at most 64");
}

int main(int argc, char **argv)
{
    struct worker workers[THREADS_MAX] = {0};
    char err[256];
    parse_options(argc, argv);
    message = filler((size_t)opt.bytes);
    uint32_t *group_ns = calloc((size_t)opt.records / GROUP + 1, sizeof(*group_ns));
    if (group_ns == NULL)
        die("calloc", strerror(errno));
    say("started");
    wait_for_line();
    client = logclient_new(NULL, err, sizeof(err));
    if (client == NULL)
        die("logclient_new", err);
    start_threads(workers, group_ns);
    say("ready");
    wait_for_line();
    measure(workers, group_ns);
    wait_for_line();
    logclient_free(client);
    pthread_barrier_destroy(&start);
    free(group_ns);
    free(message);
    return 0;
}
