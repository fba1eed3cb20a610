/* diag.c: one line a message, written only as far as standard error takes it at once. All programs
 * use it. */
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
#define TEXT_ROOM    (TEXT_MAX + sizeof(" [cut]"))
#define PREFIX_ROOM  128
#define SUFFIX_ROOM  128
#define LIMIT_MS     10000
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

/* Returns whether all was written. A descriptor that is ready takes PIPE_BUF bytes. O_NONBLOCK
 * would change it for other processes, too. */
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

/* Ends a line that was cut, and tells how many lines are missing. */
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

static const char *const prefixes[] = {
    [DIAG_DEBUG] = "debug: ",
    [DIAG_INFO] = "",
    [DIAG_WARN] = "warning: ",
    [DIAG_ERROR] = "error: ",
};

/* logsend reports from the sender's thread, too. */
static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;

static void print(enum diag_level level, const char *text, const char *suffix, int wait_ms)
{
    char line[PREFIX_ROOM + 4 * TEXT_ROOM + SUFFIX_ROOM];
    size_t n = (size_t)sprintf(line, "%.100s: %s", program_name, prefixes[level]);
    n += escape(line + n, text);
    n += (size_t)sprintf(line + n, "%s\n", suffix);
    pthread_mutex_lock(&output);
    write_line(line, n, wait_ms);
    pthread_mutex_unlock(&output);
}

__attribute__((format(printf, 2, 0))) static void format_text(char text[TEXT_ROOM],
                                                              const char *format, va_list args)
{
    int n = vsnprintf(text, TEXT_MAX, format, args);
    if (n < 0)
        strcpy(text, "a message could not be formatted");
    else if (n >= TEXT_MAX)
        strcat(text, " [cut]");
}

/* ---- Limits ---- */

/* FNV-1a. Any run of digits counts as one 0: lines that differ only in numbers are alike. */
static uint64_t hash_of(const char *text)
{
    uint64_t hash = 14695981039346656037u;
    while (*text != '\0') {
        size_t digits = strspn(text, "0123456789");
        unsigned char c = digits > 0 ? '0' : (unsigned char)*text;
        text += digits > 0 ? digits : 1;
        hash = (hash ^ c) * 1099511628211u;
    }
    return hash;
}

/* The entry of this text. For a new text it is one whose time is over; NULL when there is none. */
static struct diag_recent *find_recent(struct diag_limit *limit, uint64_t hash, int64_t now)
{
    struct diag_recent *oldest = limit->recent;
    for (struct diag_recent *r = limit->recent; r < limit->recent + DIAG_RECENT_MAX; r++) {
        if (r->hash == hash)
            return r;
        if (r->next_ms < oldest->next_ms)
            oldest = r;
    }
    if (now < oldest->next_ms)
        return NULL;
    limit->others += oldest->suppressed;
    *oldest = (struct diag_recent){.hash = hash};
    return oldest;
}

/* Whether to print the text now; then the suffix says what was not printed. */
static bool allow(struct diag_limit *limit, const char *text, char suffix[SUFFIX_ROOM])
{
    int64_t now = monotonic_now_ms();
    struct diag_recent *recent = find_recent(limit, hash_of(text), now);
    uint64_t *suppressed = recent != NULL ? &recent->suppressed : &limit->others;
    if (recent == NULL || now < recent->next_ms) {
        ++*suppressed;
        return false;
    }
    int n = 0;
    if (recent->suppressed > 0)
        n = sprintf(suffix, " (%" PRIu64 " more since the last such line)", recent->suppressed);
    if (limit->others > 0)
        sprintf(suffix + n, " (other lines left out: %" PRIu64 ")", limit->others);
    limit->others = recent->suppressed = 0;
    recent->next_ms = now + LIMIT_MS;
    return true;
}

/* ---- What is said ---- */

static enum diag_level least = DIAG_INFO;

void diag_set_level(enum diag_level level)
{
    least = level;
}

void diag_say(enum diag_level level, struct diag_limit *limit, const char *format, ...)
{
    char text[TEXT_ROOM], suffix[SUFFIX_ROOM] = "";
    int saved = errno;
    va_list args;
    if (level < least)
        return;
    va_start(args, format);
    format_text(text, format, args);
    va_end(args);
    if (limit == NULL || allow(limit, text, suffix))
        print(level, text, suffix, 0);
    errno = saved;
}

void diag_die(enum exit_code code, const char *format, ...)
{
    char text[TEXT_ROOM];
    va_list args;
    va_start(args, format);
    format_text(text, format, args);
    va_end(args);
    print(DIAG_ERROR, text, "", LAST_WORD_MS);
    exit((int)code);
}
