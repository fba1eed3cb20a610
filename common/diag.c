/* diag.c: one line a message, written only as far as standard error takes it at once. */
#include "common/diag.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/timestamp.h"

#define TEXT_MAX     2048 /* bytes of one message; the rest is cut and marked */
#define LIMIT_MS     10000
#define PREFIX_ROOM  128
#define LAST_WORD_MS 1000 /* how long diag_die() waits for a full standard error */

static const char *program_name = "log";

void diag_init(const char *program)
{
    program_name = program;
    /* open(2) takes the lowest number that is free. */
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            return;
}

static uint64_t dropped; /* messages, whole or in part, since the last that was written */
static bool mid_line;    /* the last write ended within a line whose rest was dropped */

/* A descriptor that is ready takes PIPE_BUF bytes; O_NONBLOCK would change it for other processes
 * too. Returns whether all was written. */
static bool write_ready(const char *p, size_t n, int wait_ms)
{
    struct pollfd pfd = {.fd = STDERR_FILENO, .events = POLLOUT};
    while (n > 0) {
        ssize_t wrote;
        if (poll(&pfd, 1, wait_ms) != 1 || (pfd.revents & POLLOUT) == 0)
            return false;
        wrote = write(STDERR_FILENO, p, n < PIPE_BUF ? n : PIPE_BUF);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return false;
        p += wrote;
        n -= (size_t)wrote;
        mid_line = p[-1] != '\n';
    }
    return true;
}

/* Ends a line that was cut, and says what is missing before the first line that fits again. */
static bool confess(int wait_ms)
{
    char line[PREFIX_ROOM + 80];
    int n;
    if (mid_line && !write_ready("\n", 1, wait_ms))
        return false;
    if (dropped == 0)
        return true;
    n = snprintf(line, sizeof(line),
                 "%.100s: warning: messages lost while standard error took none: %" PRIu64 "\n",
                 program_name, dropped);
    if (!write_ready(line, (size_t)n, wait_ms))
        return false;
    dropped = 0;
    return true;
}

static void write_line(const char *line, size_t n, int wait_ms)
{
    if (!confess(wait_ms) || !write_ready(line, n, wait_ms))
        dropped++;
}

/* The length of the control character at p (C0, DEL, or C1 in UTF-8), or 0. */
static size_t control_length(const char *p)
{
    unsigned char c = (unsigned char)p[0];
    if (c < 0x20 || c == 0x7f)
        return 1;
    if (c == 0xc2 && (unsigned char)p[1] >= 0x80 && (unsigned char)p[1] <= 0x9f)
        return 2;
    return 0;
}

/* Copies the text, its control characters as \xNN. `out` has room for four times the text. */
static size_t escape(char *out, const char *text)
{
    char *to = out;
    while (*text != '\0') {
        size_t n = control_length(text);
        if (n == 0)
            *to++ = *text++;
        for (; n > 0; n--)
            to += sprintf(to, "\\x%02x", (unsigned)(unsigned char)*text++);
    }
    return (size_t)(to - out);
}

/* logsend reports from the sender's thread, too. */
static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;

__attribute__((format(printf, 3, 0))) static void say(int wait_ms, const char *severity,
                                                      const char *format, va_list args)
{
    static const char cut[] = " [cut]";
    int saved = errno;
    char text[TEXT_MAX + sizeof(cut)];
    char line[PREFIX_ROOM + 4 * sizeof(text) + 1];
    int n = vsnprintf(text, TEXT_MAX, format, args);
    int prefix = snprintf(line, PREFIX_ROOM, "%.100s: %s", program_name, severity);
    size_t len = (size_t)prefix;
    if (n < 0)
        strcpy(text, "a message could not be formatted");
    else if (n >= TEXT_MAX)
        strcat(text, cut);
    len += escape(line + len, text);
    line[len++] = '\n';
    pthread_mutex_lock(&output);
    write_line(line, len, wait_ms);
    pthread_mutex_unlock(&output);
    errno = saved;
}

__attribute__((format(printf, 2, 3))) static void say_text(const char *severity, const char *format,
                                                           ...)
{
    va_list args;
    va_start(args, format);
    say(0, severity, format, args);
    va_end(args);
}

static enum diag_level least = DIAG_INFO;

void diag_set_level(enum diag_level level)
{
    least = level;
}

void diag_debug(const char *format, ...)
{
    va_list args;
    if (least > DIAG_DEBUG)
        return;
    va_start(args, format);
    say(0, "debug: ", format, args);
    va_end(args);
}

void diag_info(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(0, "", format, args);
    va_end(args);
}

void diag_warn(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(0, "warning: ", format, args);
    va_end(args);
}

void diag_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(0, "error: ", format, args);
    va_end(args);
}

void diag_die(enum exit_code code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(LAST_WORD_MS, "error: ", format, args);
    va_end(args);
    exit((int)code);
}

/* Whether to print now; *suppressed is how many were not printed since the last. */
static bool allow(struct diag_limit *limit, uint64_t *suppressed)
{
    int64_t now = monotonic_now_ms();
    if (now < limit->next_ms) {
        limit->suppressed++;
        return false;
    }
    *suppressed = limit->suppressed;
    limit->suppressed = 0;
    limit->next_ms = now + LIMIT_MS;
    return true;
}

__attribute__((format(printf, 3, 0))) static void
say_limited(struct diag_limit *limit, const char *severity, const char *format, va_list args)
{
    char text[TEXT_MAX];
    uint64_t suppressed;
    int saved = errno;
    if (!allow(limit, &suppressed))
        return;
    if (suppressed == 0) {
        say(0, severity, format, args);
        return;
    }
    errno = saved;
    if (vsnprintf(text, sizeof(text), format, args) < 0)
        text[0] = '\0';
    say_text(severity, "%s (%" PRIu64 " more since the last such line)", text, suppressed);
}

void diag_warn_limited(struct diag_limit *limit, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_limited(limit, "warning: ", format, args);
    va_end(args);
}

void diag_error_limited(struct diag_limit *limit, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_limited(limit, "error: ", format, args);
    va_end(args);
}
