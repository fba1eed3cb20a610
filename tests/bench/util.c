/* util.c: what the measuring programs share. */
#include "util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

void die(const char *what, const char *detail)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, detail);
    exit(70);
}

int64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

double cpu_seconds(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0)
        die("getrusage", strerror(errno));
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

long number(const char *option, const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (end == text || *end != '\0' || n < 1)
        die(option, "give a whole number of at least 1");
    return n;
}

char *filler(size_t bytes)
{
    char *text = malloc(bytes + 1);
    if (text == NULL)
        die("malloc", strerror(errno));
    memset(text, 'x', bytes);
    text[bytes] = '\0';
    return text;
}

static int compare_values(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void sort_values(uint32_t *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare_values);
}

void sort_doubles(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare_doubles);
}

uint32_t quantile(const uint32_t *sorted, size_t count, double share)
{
    size_t i = (size_t)(share * (double)count);
    if (count == 0)
        return 0;
    return sorted[i < count ? i : count - 1];
}

void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    if (fflush(stdout) != 0)
        die("standard output", strerror(errno));
}

void wait_for_line(void)
{
    char c;
    ssize_t n;
    do
        n = read(STDIN_FILENO, &c, 1);
    while ((n > 0 && c != '\n') || (n < 0 && errno == EINTR));
}
