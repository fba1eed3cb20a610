/* fd-internal.h: keeps the library's descriptors away from 0, 1 and 2. One exception: the socket to
 * a host whose name had to be resolved, until it is connected. */
#ifndef LC_FD_INTERNAL_H
#define LC_FD_INTERNAL_H

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

/* Moves a new descriptor to 3 or above. Returns -1 with errno when it cannot, or was -1. A program
 * that has closed its standard descriptors would write its messages into whatever got their
 * numbers, even for a moment. Under lc_hold_standard() the descriptor lies high already, unless
 * there is no /dev/null. */
static inline int lc_fd_high(int fd)
{
    if (fd < 0 || fd > STDERR_FILENO)
        return fd;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int saved = errno;
    close(fd);
    errno = saved;
    return high;
}

/* Opens /dev/null as those of the three that are closed, so that what is opened next lies above.
 * Returns how many are in `held`, for lc_release_standard(). */
static inline size_t lc_hold_standard(int held[STDERR_FILENO + 1])
{
    size_t n = 0;
    int fd;
    while ((fd = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0 && fd <= STDERR_FILENO)
        held[n++] = fd;
    if (fd >= 0)
        close(fd);
    return n;
}

static inline void lc_release_standard(const int *held, size_t n)
{
    while (n > 0)
        close(held[--n]);
}

#endif
