/* util.h: what the measuring programs share. */
#ifndef BENCH_UTIL_H
#define BENCH_UTIL_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Says "PROGRAM: what: detail" and exits with 70. */
void die(const char *what, const char *detail) __attribute__((noreturn));

int64_t now_ns(clockid_t clock);

/* CPU seconds of this process so far, all threads. */
double cpu_seconds(void);

/* A whole number of at least 1, or die(). */
long number(const char *option, const char *text);

/* A message of `bytes` bytes; to be freed. */
char *filler(size_t bytes);

/* Sorts. */
void sort_values(uint32_t *values, size_t count);
void sort_doubles(double *values, size_t count);

/* The value below which `share` (0 to 1) of the sorted ones lie; 0 of none. */
uint32_t quantile(const uint32_t *sorted, size_t count, double share);

/* Prints a line at once, for whoever waits for it. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Waits for a line on standard input, or its end. */
void wait_for_line(void);

#endif
