/* child.h: runs a function that may end the process, and catches how that ends and what it prints.
 * Also makes the words of a command line. Needs cmocka's headers before it. */
#ifndef TESTS_UNIT_COMMON_CHILD_H
#define TESTS_UNIT_COMMON_CHILD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs run(arg) in a child. Returns its exit code: 200 when run() returned. `text` gets what the
 * child printed on standard output and standard error. */
static inline int run_child(void (*run)(const void *arg), const void *arg, char *text, size_t size)
{
    int file = memfd_create("printed", MFD_CLOEXEC), status;
    assert_true(file >= 0);
    fflush(stdout);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (dup2(file, STDOUT_FILENO) < 0 || dup2(file, STDERR_FILENO) < 0)
            _exit(201);
        run(arg);
        fflush(stdout);
        _exit(200);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    ssize_t n = pread(file, text, size - 1, 0);
    close(file);
    assert_true(n >= 0 && WIFEXITED(status));
    text[n] = '\0';
    return WEXITSTATUS(status);
}

#define WORDS_MAX 16

/* Splits a line at its spaces into the words behind `program`, as main() gets them; argv[0] is
 * `program`. Returns how many there are. The words last until the next call. */
static inline int split_words(char *argv[WORDS_MAX], char *program, const char *line)
{
    static char copy[256];
    int argc = 0;
    argv[argc++] = program;
    snprintf(copy, sizeof(copy), "%s", line);
    for (char *word = strtok(copy, " "); word != NULL && argc < WORDS_MAX; word = strtok(NULL, " "))
        argv[argc++] = word;
    return argc;
}

#endif
