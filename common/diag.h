/* diag.h: diagnostics of the programs, on standard error: "logd: warning: text".
 *
 * One line each; control characters in the text are written as \xNN, so that data from outside
 * cannot forge lines. A full standard error (a pipe that nobody reads) never stops the program:
 * what it does not take at once is lost, and a line says how much when it takes some again. Lines
 * may come from any thread; the limits below are for one. Not async-signal-safe. */
#ifndef COMMON_DIAG_H
#define COMMON_DIAG_H

#include <stdbool.h>
#include <stdint.h>

/* Exit codes of all programs (sysexits.h has the idea). */
enum exit_code {
    EXIT_OK = 0,
    EXIT_UNDELIVERED = 1,  /* logsend: not everything was delivered */
    EXIT_USAGE = 64,       /* wrong option or value */
    EXIT_ENVIRONMENT = 69, /* cannot listen, open, lock, write: the message says what */
    EXIT_BUG = 70,         /* an internal check failed */
};

/* Sets the name before each line; borrowed for ever. Before this call it is "log". And opens
 * /dev/null as those of the descriptors 0, 1 and 2 that are closed, so that no file or socket gets
 * their numbers, and with them the diagnostics. */
void diag_init(const char *program);

/* From which severity on lines are printed; DIAG_INFO until it is set. */
enum diag_level {
    DIAG_DEBUG,
    DIAG_INFO,
    DIAG_WARN,
    DIAG_ERROR,
};
void diag_set_level(enum diag_level level);

/* For each change of state of a machine, such as a connection. The arguments are evaluated even
 * while nothing is printed: keep them cheap. */
void diag_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
void diag_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void diag_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void diag_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints an error, for which it waits up to a second, and exits with `code`. */
_Noreturn void diag_die(enum exit_code code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A limit of one line in ten seconds for messages that may come in floods: zero-initialised, static
 * beside its message. A line says how many were not printed since the last. */
struct diag_limit {
    int64_t next_ms;     /* monotonic time from which the next line may be printed */
    uint64_t suppressed; /* since the last printed line */
};
void diag_warn_limited(struct diag_limit *limit, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void diag_error_limited(struct diag_limit *limit, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
