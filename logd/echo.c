/* echo.c: writes as much as standard output takes at once, and counts the rest. */
#include "logd/echo.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"

struct echo {
    int fd;
    bool owned;       /* fd was opened here */
    bool terminal;    /* fd is one */
    bool mid_line;    /* the last write ended within a line whose rest was dropped */
    struct buf shown; /* scratch: lines as a terminal gets them */
    struct logd_stats *stats;
};

/* O_NONBLOCK belongs to the open file, which other processes share: a description of one's own is
 * opened where that is possible. Where it is not, poll(2) and the size of a write must do: a pipe
 * that is ready takes PIPE_BUF bytes. */
static void open_own(struct echo *e, int fd)
{
    char path[32];
    struct stat st;
    e->fd = fd;
    if (fstat(fd, &st) < 0 || (!S_ISFIFO(st.st_mode) && !isatty(fd)))
        return;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own < 0)
        return;
    e->fd = own;
    e->owned = true;
}

struct echo *echo_new(int fd, struct logd_stats *stats)
{
    struct echo *e = calloc(1, sizeof(*e));
    if (e == NULL)
        return NULL;
    e->stats = stats;
    e->terminal = isatty(fd);
    open_own(e, fd);
    return e;
}

/* At most PIPE_BUF bytes, ending with a line if one ends there. */
static size_t next_piece(const char *p, size_t n)
{
    if (n <= PIPE_BUF)
        return n;
    const char *newline = memrchr(p, '\n', PIPE_BUF);
    return newline != NULL ? (size_t)(newline + 1 - p) : PIPE_BUF;
}

/* Returns how many bytes were written, 0 when standard output is not ready or broken. */
static size_t write_now(struct echo *e, const char *p, size_t n)
{
    struct pollfd pfd = {.fd = e->fd, .events = POLLOUT};
    if (poll(&pfd, 1, 0) != 1 || (pfd.revents & POLLOUT) == 0)
        return 0;
    ssize_t written;
    do
        written = write(e->fd, p, n);
    while (written < 0 && errno == EINTR);
    return written > 0 ? (size_t)written : 0;
}

static void count_dropped(struct echo *e, const char *p, const char *end)
{
    while (p < end) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        e->stats->echo_dropped++;
        p = newline != NULL ? newline + 1 : end;
    }
}

/* Escapes DEL and C1, which JSON leaves as they are: a terminal may take U+009B for the start of a
 * command. */
static void add_shown(struct buf *out, const char *p, const char *end)
{
    while (p < end) {
        unsigned char c = (unsigned char)*p;
        unsigned char next = p + 1 < end ? (unsigned char)p[1] : 0;
        if (c == 0x7f) {
            buf_add_lit(out, "\\u007f");
            p++;
        } else if (c == 0xc2 && next >= 0x80 && next < 0xa0) {
            buf_printf(out, "\\u%04x", (unsigned)next);
            p += 2;
        } else {
            buf_add_char(out, *p++);
        }
    }
}

static void write_lines(struct echo *e, const char *lines, size_t n)
{
    const char *p = lines, *end = lines + n;
    if (e->mid_line && n > 0) {
        if (write_now(e, "\n", 1) == 0) {
            count_dropped(e, p, end);
            return;
        }
        e->mid_line = false;
    }
    while (p < end) {
        size_t written = write_now(e, p, next_piece(p, (size_t)(end - p)));
        if (written == 0)
            break;
        p += written;
    }
    count_dropped(e, p, end);
    e->mid_line = p > lines && p < end && p[-1] != '\n';
}

void echo_write(struct echo *e, const char *lines, size_t n)
{
    if (!e->terminal) {
        write_lines(e, lines, n);
        return;
    }
    buf_clear(&e->shown);
    add_shown(&e->shown, lines, lines + n);
    if (e->shown.failed)
        count_dropped(e, lines, lines + n);
    else
        write_lines(e, e->shown.data, e->shown.len);
}

void echo_free(struct echo *e)
{
    if (e == NULL)
        return;
    if (e->owned)
        close(e->fd);
    buf_free(&e->shown);
    free(e);
}
