/* diag.h: diagnostics of the programs, on standard error: "logd: warning: text".
 *
 * One line each. Control characters in the text are written as \xNN: data from outside cannot forge
 * lines. A full standard error (a pipe that nobody reads) never stops the program: what it does not
 * take at once is lost, and a later line says how much. Lines may come from any thread, those of
 * one limit from one thread. Not async-signal-safe. */
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

/* Sets the name before each line; borrowed for ever. Before this call it is "log". Opens /dev/null
 * for each of the descriptors 0, 1 and 2 that is closed: a file or socket that got such a number
 * would get the diagnostics, too. */
void diag_init(const char *program);

enum diag_level {
    DIAG_DEBUG, /* each change of state of a machine, such as a connection */
    DIAG_INFO,
    DIAG_WARN,
    DIAG_ERROR,
};

/* Lines below this level are not printed. DIAG_INFO until it is set. */
void diag_set_level(enum diag_level level);

/* Limits a message that may come in floods. Zero-initialised, static beside the message.
 *
 * A text is printed once in ten seconds; texts that differ only in their digits are one text. A
 * text that was not printed lately is printed at once, so that a new cause is seen behind an old
 * one. Of texts that change all the time, four are printed in ten seconds. A line says how often
 * its text was not printed since it was last, and how many lines of other texts were left out. */
#define DIAG_RECENT_MAX 4
struct diag_limit {
    struct diag_recent {
        uint64_t hash;       /* of the text */
        int64_t next_ms;     /* monotonic time from which it may be printed again */
        uint64_t suppressed; /* times since it was printed */
    } recent[DIAG_RECENT_MAX];
    uint64_t others; /* lines of texts that have no place above, since the last line */
};

/* Prints a line. `limit` may be NULL. Keeps errno, which the format may show with %m. */
void diag_say(enum diag_level level, struct diag_limit *limit, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The arguments are evaluated also when the level is not printed: keep them cheap. */
#define diag_debug(...)                diag_say(DIAG_DEBUG, NULL, __VA_ARGS__)
#define diag_info(...)                 diag_say(DIAG_INFO, NULL, __VA_ARGS__)
#define diag_warn(...)                 diag_say(DIAG_WARN, NULL, __VA_ARGS__)
#define diag_error(...)                diag_say(DIAG_ERROR, NULL, __VA_ARGS__)
#define diag_warn_limited(limit, ...)  diag_say(DIAG_WARN, limit, __VA_ARGS__)
#define diag_error_limited(limit, ...) diag_say(DIAG_ERROR, limit, __VA_ARGS__)

/* Prints an error, whatever the level, waits up to a second for standard error to take it, and
 * exits with `code`. */
_Noreturn void diag_die(enum exit_code code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
