/* fd-internal.h: keeps the library's descriptors away from 0, 1 and 2. */
#ifndef LC_FD_INTERNAL_H
#define LC_FD_INTERNAL_H

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* A program that has closed its standard descriptors writes its messages into whatever got their
 * numbers. Moves a new descriptor to 3 or above; -1 with errno when it cannot, or was -1. */
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

#endif
