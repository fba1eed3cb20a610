/* report.c: the error callback, or a line on standard error. */
#include "report-internal.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Prints one line, if standard error takes it at once. A terminal that is stopped, or a pipe that
 * nobody reads, must not stop the sender. A pipe without a reader would raise SIGPIPE. */
static void print(const char *status, const char *text)
{
    struct pollfd error = {.fd = STDERR_FILENO, .events = POLLOUT};
    char line[PIPE_BUF];
    int saved = errno;
    snprintf(line, sizeof(line) - 1, "liblogclient: %s: %s", status, text);
    size_t n = strlen(line);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = ' ';
    line[n++] = '\n';
    if (poll(&error, 1, 0) == 1 && error.revents == POLLOUT) {
        ssize_t written = write(STDERR_FILENO, line, n);
        (void)written;
    }
    errno = saved;
}

void lc_report(logclient_t *c, logclient_status_t status, const char *text)
{
    if (c->options->error_cb != NULL)
        c->options->error_cb(c, status, text, c->options->error_arg);
    else if (c->options->report == LC_STDERR)
        print(logclient_strerror(status), text);
}

void lc_report_bad_environment(const char *text)
{
    static atomic_flag reported = ATOMIC_FLAG_INIT;
    const char *report = secure_getenv("LOGCLIENT_REPORT");
    if (report != NULL && strcmp(report, "stderr") == 0 && !atomic_flag_test_and_set(&reported))
        print("no client could be made", text);
}
