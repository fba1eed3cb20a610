/* call.c: what a call costs its thread, beside clock_gettime(CLOCK_REALTIME) in the same round.
 *
 * In a round each thread makes so many calls at once; then comes a flush: each round finds an empty
 * queue. Even rounds time groups of calls, odd ones each call, less what looking at the clock
 * takes. Prints one JSON object. The client's settings come from LOGCLIENT_*. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "logclient.h"
#include "util.h"

#define THREADS_MAX  64
#define GROUP        50 /* calls between two looks at the clock */
#define CLOCK_GROUPS 400
#define FLUSH_MS     60000

static struct {
    long threads, calls, rounds, warm_up, bytes;
} opt = {.threads = 1, .calls = 1000, .rounds = 200, .warm_up = 20, .bytes = 64};

static logclient_t *client;
static char *message;
static pthread_barrier_t gate; /* passed at the start and at the end of a round */
static long group;             /* calls between two looks at the clock, of this round */
static volatile int64_t clock_sink;

struct caller {
    pthread_t thread;
    uint32_t *ns;   /* of each group */
    int64_t cpu_ns; /* of the thread, this round */
    long refused;   /* calls, all rounds */
};

static void call(struct caller *c)
{
    if (logclient_send(client, "bench", "error", message) == 0)
        return;
    if (errno != EAGAIN)
        die("logclient_send", strerror(errno));
    c->refused++;
}

static void time_calls(struct caller *c)
{
    long groups = opt.calls / group;
    int64_t cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
    for (long g = 0; g < groups; g++) {
        int64_t before = now_ns(CLOCK_MONOTONIC);
        for (long i = 0; i < group; i++)
            call(c);
        int64_t took = now_ns(CLOCK_MONOTONIC) - before;
        c->ns[g] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
    }
    c->cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
}

static void *run(void *arg)
{
    struct caller *c = arg;
    for (long r = 0; r < opt.warm_up + opt.rounds; r++) {
        pthread_barrier_wait(&gate);
        time_calls(c);
        pthread_barrier_wait(&gate);
    }
    return NULL;
}

/* The time between two looks at the clock with nothing between them. */
static double timer_ns(uint32_t *scratch)
{
    for (int i = 0; i < CLOCK_GROUPS; i++) {
        int64_t before = now_ns(CLOCK_MONOTONIC);
        scratch[i] = (uint32_t)(now_ns(CLOCK_MONOTONIC) - before);
    }
    sort_values(scratch, CLOCK_GROUPS);
    return quantile(scratch, CLOCK_GROUPS, 0.5);
}

/* Of groups of reads, as with the calls; less `timer`. */
static double clock_ns(uint32_t *scratch, double timer)
{
    struct timespec t;
    for (int g = 0; g < CLOCK_GROUPS; g++) {
        int64_t before = now_ns(CLOCK_MONOTONIC);
        for (int i = 0; i < GROUP; i++) {
            clock_gettime(CLOCK_REALTIME, &t);
            clock_sink = t.tv_nsec;
        }
        scratch[g] = (uint32_t)(now_ns(CLOCK_MONOTONIC) - before);
    }
    sort_values(scratch, CLOCK_GROUPS);
    return (quantile(scratch, CLOCK_GROUPS, 0.5) - timer) / (double)GROUP;
}

struct results {
    double *clock, *call, *cpu, *p99; /* of each round, in ns */
    size_t groups, singles, count;
};

static size_t collect(const struct caller *callers, uint32_t *all, double *cpu)
{
    size_t groups = (size_t)(opt.calls / group);
    int64_t cpu_ns = 0;
    for (long i = 0; i < opt.threads; i++) {
        memcpy(all + (size_t)i * groups, callers[i].ns, groups * sizeof(*all));
        cpu_ns += callers[i].cpu_ns;
    }
    *cpu = (double)cpu_ns / (double)(opt.calls * opt.threads);
    sort_values(all, groups * (size_t)opt.threads);
    return groups * (size_t)opt.threads;
}

static void one_round(const struct caller *callers, uint32_t *all, struct results *res, long round)
{
    bool grouped = round % 2 == 0;
    double timer = timer_ns(all), clock = clock_ns(all, timer), cpu;
    group = grouped ? GROUP : 1;
    pthread_barrier_wait(&gate);
    pthread_barrier_wait(&gate);
    size_t n = collect(callers, all, &cpu);
    if (logclient_flush(client, FLUSH_MS) != LOGCLIENT_OK)
        die("logclient_flush", "timed out");
    if (round < opt.warm_up)
        return;
    res->clock[res->count++] = clock;
    if (grouped) {
        res->cpu[res->groups] = cpu;
        res->call[res->groups++] = (quantile(all, n, 0.5) - timer) / (double)GROUP;
    } else {
        res->p99[res->singles++] = quantile(all, n, 0.99) - timer;
    }
}

static double median(double *values, size_t count)
{
    sort_doubles(values, count);
    return values[count / 2];
}

static void *room(size_t count, size_t size)
{
    void *p = calloc(count, size);
    if (p == NULL)
        die("calloc", strerror(errno));
    return p;
}

static void measure(void)
{
    struct caller callers[THREADS_MAX] = {0};
    long refused = 0;
    size_t rounds = (size_t)opt.rounds, calls = (size_t)opt.calls;
    uint32_t *all = room(calls * (size_t)opt.threads + CLOCK_GROUPS, sizeof(*all));
    double *values = room(4 * rounds, sizeof(*values));
    struct results res = {.clock = values,
                          .call = values + rounds,
                          .cpu = values + 2 * rounds,
                          .p99 = values + 3 * rounds};
    for (long i = 0; i < opt.threads; i++) {
        callers[i].ns = room(calls, sizeof(*all));
        if (pthread_create(&callers[i].thread, NULL, run, &callers[i]) != 0)
            die("pthread_create", "failed");
    }
    for (long r = 0; r < opt.warm_up + opt.rounds; r++)
        one_round(callers, all, &res, r);
    for (long i = 0; i < opt.threads; i++) {
        pthread_join(callers[i].thread, NULL);
        free(callers[i].ns);
        refused += callers[i].refused;
    }
    double clock = median(res.clock, res.count), took = median(res.call, res.groups);
    say("{\"threads\":%ld,\"calls\":%ld,\"clock_ns\":%.2f,\"call_ns\":%.2f,\"ratio\":%.3f,"
        "\"cpu_ns\":%.2f,\"p99_ns\":%.0f,\"refused\":%ld,\"ring_fallback\":%llu}",
        opt.threads, opt.calls, clock, took, took / clock, median(res.cpu, res.groups),
        median(res.p99, res.singles), refused,
        (unsigned long long)logclient_stat(client, LOGCLIENT_STAT_RING_FALLBACK));
    free(all);
    free(values);
}

static void parse_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"threads", 1, NULL, 't'}, {"calls", 1, NULL, 'n'}, {"rounds", 1, NULL, 'r'},
        {"warm-up", 1, NULL, 'w'}, {"bytes", 1, NULL, 'b'}, {NULL, 0, NULL, 0},
    };
    static const struct {
        int letter;
        long *target;
    } numbers[] = {{'t', &opt.threads},
                   {'n', &opt.calls},
                   {'r', &opt.rounds},
                   {'w', &opt.warm_up},
                   {'b', &opt.bytes}};
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == '?')
            exit(64);
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
            if (numbers[i].letter == c)
                *numbers[i].target = number(argv[optind - 2], optarg);
    }
    if (opt.threads > THREADS_MAX)
        die("--threads", "at most 64");
    if (opt.rounds < 2 || opt.calls < GROUP)
        die("--rounds and --calls", "give at least 2 rounds of 50 calls");
}

int main(int argc, char **argv)
{
    char err[256];
    parse_options(argc, argv);
    message = filler((size_t)opt.bytes);
    client = logclient_new(NULL, err, sizeof(err));
    if (client == NULL)
        die("logclient_new", err);
    if (pthread_barrier_init(&gate, NULL, (unsigned)opt.threads + 1) != 0)
        die("pthread_barrier_init", "failed");
    measure();
    pthread_barrier_destroy(&gate);
    logclient_free(client);
    free(message);
    return 0;
}
