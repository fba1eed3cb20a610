/* table.c: a descriptor table that the program does not share. */
#include "table-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CLOSE_UNSHARE 2u /* CLOSE_RANGE_UNSHARE of linux/close_range.h, Linux 5.9 */
#define LOW           64 /* numbers that the program may use for its own files */
#define SPARE_MAX     32 /* as many as the sender needs at most */
#define SPARE_MIN     12 /* ring, directory, search, libevent's pair, socket, name server */
#define CLOSE_MAX     65536

/* A sanitizer's report about the sender's thread is to be seen. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KEEP_ERROR true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define KEEP_ERROR true
#endif
#endif
#ifndef KEEP_ERROR
#define KEEP_ERROR false
#endif

static int close_range_of(unsigned first, unsigned last, unsigned flags)
{
    return (int)syscall(SYS_close_range, first, last, flags);
}

/* For Linux before 5.9, or a filter of system calls. */
static void close_one_by_one(int limit)
{
    for (int fd = 0; fd < limit && fd < CLOSE_MAX; fd++)
        if (!KEEP_ERROR || fd != STDERR_FILENO)
            close(fd);
}

static int leave(int limit)
{
    unsigned after = KEEP_ERROR ? STDERR_FILENO + 1 : 0;
    if (close_range_of(after, UINT_MAX, CLOSE_UNSHARE) == 0)
        return after == 0 || close_range_of(0, STDERR_FILENO - 1, 0) == 0 ? 0 : errno;
    if (unshare(CLONE_FILES) != 0)
        return errno;
    close_one_by_one(limit);
    return 0;
}

/* Whether so many more descriptors can be had. Nobody else takes them: the table is ours. */
static int check_spare(int from)
{
    int held[SPARE_MIN], n = 0, error = 0;
    while (n < SPARE_MIN && error == 0) {
        int fd = fcntl(from, F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
            error = errno;
        else
            held[n++] = fd;
    }
    while (n > 0)
        close(held[--n]);
    return error;
}

int lc_table_separate(void)
{
    struct rlimit limit;
    int numbers = CLOSE_MAX;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < CLOSE_MAX)
        numbers = (int)limit.rlim_cur;
    int error = leave(numbers);
    if (error != 0)
        return error;
    int low = numbers >= LOW + SPARE_MAX ? LOW : STDERR_FILENO + 1;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 && (null = (int)syscall(SYS_memfd_create, "logclient", 0)) < 0)
        return errno;
    int fd = null;
    while (fd >= 0 && fd < low - 1)
        fd = fcntl(null, F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? errno : check_spare(null);
}
