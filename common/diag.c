/* diag.c: one line a message, written with one write(2). */
#include "common/diag.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/timestamp.h"

#define TEXT_MAX    2048 /* bytes of one message; the rest is cut and marked */
#define LIMIT_MS    10000
#define PREFIX_ROOM 128

static const char *program_name = "log";

void diag_init(const char *program)
{
    program_name = program;
}

static void write_all(const char *p, size_t n)
{
    while (n > 0) {
        ssize_t wrote = write(STDERR_FILENO, p, n);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return; /* nowhere left to report it */
        p += wrote;
        n -= (size_t)wrote;
    }
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

__attribute__((format(printf, 2, 0))) static void say(const char *severity, const char *format,
                                                      va_list args)
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
    write_all(line, len);
    errno = saved;
}

void diag_info(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say("", format, args);
    va_end(args);
}

void diag_warn(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say("warning: ", format, args);
    va_end(args);
}

void diag_error(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say("error: ", format, args);
    va_end(args);
}

void diag_die(enum exit_code code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say("error: ", format, args);
    va_end(args);
    exit((int)code);
}

bool diag_allow(struct diag_limit *limit, uint64_t *suppressed)
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
