/* clock.c: becomes clock.so. Preloaded into redis-server, it adds to the time of day the
 * milliseconds that stand as a number of 64 bits in the file $CLOCK_FILE. The file is mapped, so
 * whoever writes it steps the clock of a process that runs. Clocks other than that of the day are
 * left alone. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SHOWN __attribute__((visibility("default")))

static const int64_t *step_ms;

__attribute__((constructor)) static void map_step(void)
{
    const char *path = getenv("CLOCK_FILE");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*step_ms), PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        abort(); /* a test without its step would show nothing */
    step_ms = map;
    close(fd);
}

static void add_step(struct timespec *ts)
{
    int64_t step = step_ms == NULL ? 0 : __atomic_load_n(step_ms, __ATOMIC_RELAXED);
    int64_t ns = ts->tv_nsec + step % 1000 * 1000000;
    ts->tv_sec += step / 1000 + ns / 1000000000;
    ts->tv_nsec = ns % 1000000000;
    if (ts->tv_nsec < 0) {
        ts->tv_nsec += 1000000000;
        ts->tv_sec--;
    }
}

SHOWN int clock_gettime(clockid_t clock, struct timespec *ts)
{
    int result = (int)syscall(SYS_clock_gettime, clock, ts);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        add_step(ts);
    return result;
}

SHOWN int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    struct timespec ts;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &ts) != 0)
        return -1;
    *tv = (struct timeval){.tv_sec = ts.tv_sec, .tv_usec = ts.tv_nsec / 1000};
    return 0;
}

SHOWN time_t time(time_t *out)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (out != NULL)
        *out = ts.tv_sec;
    return ts.tv_sec;
}
