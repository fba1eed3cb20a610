/* process.h: what the scenarios of process.c share. */
#ifndef TESTS_E2E_PROCESS_H
#define TESTS_E2E_PROCESS_H

#include <stdbool.h>

/* Ends the process with errno's text. */
_Noreturn void die(const char *what);

/* Logs "TAG-NUMBER" and lists it if it was accepted. Async-signal-safe but for the first call. */
bool log_one(const char *tag, long number);

/* Logs TAG-0 to TAG-(count - 1), all of which must be accepted. */
void log_many(const char *tag, long count);

/* Waits until all is delivered. */
void flush(void);

/* A thread: logs with the tag `arg` until stop_logging(). */
void *log_until_stopped(void *arg);
void stop_logging(void);

/* Opens the list again, when the program has closed it. */
void open_list(void);

void run_forks(char **arg);
void run_orphan(char **arg);
void run_fork_in_handler(char **arg);
void run_fork_in_fork(char **arg);
void run_fork_beside_first(char **arg);

void run_close_all(char **arg);
void run_bare_fork(char **arg);
void run_prefork(char **arg);
void run_setuid(char **arg);
void run_wake(char **arg);
void run_callback(char **arg);

#endif
