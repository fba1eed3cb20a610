/* latency.c: logs at a fixed rate, follows app.log, and prints how long records took from just
 * before the call until their line was read, as one JSON object.
 *
 * Each message begins with the time of its call. The follower sleeps until inotify tells it that
 * the log has grown, so no polling interval is in the figures. What it finds in one read
 * carries one time. Records of the first seconds (--skip) are not counted. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "logclient.h"
#include "util.h"

#define SECOND      1000000000LL
#define STAMP_LEN   19 /* nanoseconds, with leading zeros */
#define CHUNK       (1 << 20)
#define PATIENCE_MS 10000 /* without a new line */

static struct {
    const char *log;
    long rate, seconds, skip, bytes;
} opt = {.rate = 1000, .seconds = 3, .skip = 1, .bytes = 100};

static logclient_t *client;

/* ---- The producer ---- */

struct producer {
    pthread_t thread;
    long refused;
    double seconds; /* it took */
};

static void sleep_until(int64_t ns)
{
    struct timespec t = {ns / SECOND, ns % SECOND};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

static long total(void)
{
    return opt.rate * (opt.seconds + opt.skip);
}

static void *produce(void *arg)
{
    struct producer *p = arg;
    char *message = filler((size_t)opt.bytes);
    prctl(PR_SET_TIMERSLACK, 1000UL);
    int64_t begin = now_ns(CLOCK_MONOTONIC);
    for (long n = 0; n < total(); n++) {
        char stamp[STAMP_LEN + 1];
        int64_t due = begin + n * SECOND / opt.rate;
        if (now_ns(CLOCK_MONOTONIC) < due)
            sleep_until(due);
        snprintf(stamp, sizeof(stamp), "%019lld", (long long)now_ns(CLOCK_MONOTONIC));
        memcpy(message, stamp, STAMP_LEN);
        if (logclient_send(client, "bench", "error", message) != 0)
            __atomic_fetch_add(&p->refused, 1, __ATOMIC_RELAXED);
    }
    p->seconds = (double)(now_ns(CLOCK_MONOTONIC) - begin) / 1e9;
    free(message);
    return NULL;
}

/* ---- The follower ---- */

struct follower {
    int log, notify;
    char *buffer;
    size_t held;  /* bytes of a line that is not whole yet */
    long seen;    /* lines */
    uint32_t *us; /* latencies of the counted ones */
    size_t counted;
};

static void follower_init(struct follower *f)
{
    f->log = open(opt.log, O_RDONLY | O_CLOEXEC);
    f->notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    f->buffer = malloc(CHUNK);
    f->us = calloc((size_t)(opt.rate * opt.seconds), sizeof(*f->us));
    if (f->log < 0 || lseek(f->log, 0, SEEK_END) < 0)
        die(opt.log, strerror(errno));
    if (f->notify < 0 || inotify_add_watch(f->notify, opt.log, IN_MODIFY) < 0)
        die("inotify", strerror(errno));
    if (f->buffer == NULL || f->us == NULL)
        die("malloc", strerror(errno));
}

static void follower_free(struct follower *f)
{
    close(f->log);
    close(f->notify);
    free(f->buffer);
    free(f->us);
}

static void take_line(struct follower *f, const char *line, size_t n, int64_t now)
{
    static const char member[] = "\"message\":\"";
    const char *at = memmem(line, n, member, sizeof(member) - 1);
    if (at == NULL || (size_t)(line + n - at) < sizeof(member) - 1 + STAMP_LEN)
        die(opt.log, "has a line without a time in its message");
    int64_t took = now - strtoll(at + sizeof(member) - 1, NULL, 10);
    if (f->seen++ >= opt.rate * opt.skip)
        f->us[f->counted++] = took > 0 ? (uint32_t)(took / 1000) : 0;
}

/* Reads all that is there; returns whether there was anything. */
static bool read_lines(struct follower *f)
{
    bool any = false;
    ssize_t n;
    while ((n = read(f->log, f->buffer + f->held, CHUNK - f->held)) > 0) {
        int64_t now = now_ns(CLOCK_MONOTONIC);
        char *line = f->buffer, *end = f->buffer + f->held + n, *lf;
        while (f->seen < total() && (lf = memchr(line, '\n', (size_t)(end - line))) != NULL) {
            take_line(f, line, (size_t)(lf - line), now);
            line = lf + 1;
        }
        f->held = (size_t)(end - line);
        memmove(f->buffer, line, f->held);
        any = true;
    }
    if (n < 0)
        die(opt.log, strerror(errno));
    return any;
}

/* Until all records that the client took were seen. */
static void follow(struct follower *f, const struct producer *p)
{
    char events[4096];
    int64_t last = now_ns(CLOCK_MONOTONIC);
    while (f->seen + __atomic_load_n(&p->refused, __ATOMIC_RELAXED) < total()) {
        struct pollfd ready = {.fd = f->notify, .events = POLLIN};
        poll(&ready, 1, 100);
        while (read(f->notify, events, sizeof(events)) > 0)
            ;
        if (read_lines(f))
            last = now_ns(CLOCK_MONOTONIC);
        else if (now_ns(CLOCK_MONOTONIC) - last > PATIENCE_MS * 1000000LL)
            die(opt.log, "did not grow for 10 s");
    }
}

/* ---- Both ---- */

static void measure(void)
{
    struct follower f = {0};
    struct producer p = {0};
    follower_init(&f);
    if (pthread_create(&p.thread, NULL, produce, &p) != 0)
        die("pthread_create", "failed");
    follow(&f, &p);
    pthread_join(p.thread, NULL);
    sort_values(f.us, f.counted);
    say("{\"rate\":%ld,\"reached\":%.0f,\"counted\":%zu,\"refused\":%ld,\"p50_us\":%u,"
        "\"p99_us\":%u,\"p999_us\":%u,\"max_us\":%u}",
        opt.rate, (double)total() / p.seconds, f.counted, p.refused, quantile(f.us, f.counted, 0.5),
        quantile(f.us, f.counted, 0.99), quantile(f.us, f.counted, 0.999),
        quantile(f.us, f.counted, 1));
    follower_free(&f);
}

static void parse_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"rate", 1, NULL, 'r'},  {"seconds", 1, NULL, 's'}, {"skip", 1, NULL, 'k'},
        {"bytes", 1, NULL, 'b'}, {"log", 1, NULL, 'l'},     {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'r')
            opt.rate = number("--rate", optarg);
        else if (c == 's')
            opt.seconds = number("--seconds", optarg);
        else if (c == 'k')
            opt.skip = number("--skip", optarg);
        else if (c == 'b')
            opt.bytes = number("--bytes", optarg);
        else if (c == 'l')
            opt.log = optarg;
        else
            exit(64);
    }
    if (opt.log == NULL)
        die("--log", "give the path of the worker's log");
    if (opt.bytes < STAMP_LEN)
        die("--bytes", "at least 19, for the time");
}

int main(int argc, char **argv)
{
    char err[256];
    parse_options(argc, argv);
    client = logclient_new(NULL, err, sizeof(err));
    if (client == NULL)
        die("logclient_new", err);
    measure();
    logclient_free(client);
    return 0;
}
