/* options.h: one table of options drives the command line, the environment, --help, the man page
 * and the errors.
 *
 * For an option "max-body" of the program "logd" the command line takes --max-body=VALUE and
 * --max-body VALUE, and the environment LOGD_MAX_BODY=VALUE; the command line wins. A bool takes
 * --echo and --no-echo, and true/false, yes/no, on/off, 1/0 as a value. A list option may be
 * repeated, and is separated by commas in the environment and in its default; items of the command
 * line replace those of the environment, and these the default. With a letter, -s VALUE and -sVALUE
 * are taken too. */
#ifndef COMMON_OPTIONS_H
#define COMMON_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {
    OPTION_STRING, /* const char *; borrowed from argv, the environment or the table */
    OPTION_LIST,   /* struct option_list */
    OPTION_BOOL,   /* bool */
    OPTION_NUMBER, /* int64_t, decimal */
    OPTION_BYTES,  /* int64_t; decimal with an optional suffix k, m, g (powers of 1024) */
    OPTION_MS, /* int64_t milliseconds; decimal with an optional suffix ms, s, m, h, d; none means
                  ms */
};

#define OPTION_LIST_MAX 16

struct option_list {
    char *item[OPTION_LIST_MAX]; /* copies, owned by the list; zeroed before options_parse() */
    size_t count;
};

struct option_spec {
    const char *name; /* without dashes */
    char letter;      /* short form, or 0 */
    enum option_type type;
    void *target; /* where the value goes, of the type's C type */
    /* Parsed like a given value, before anything else; NULL: the target keeps what it holds. */
    const char *default_text;
    int64_t min, max;    /* for numbers; both 0: no limits */
    const char *metavar; /* for --help: "ADDR:PORT"; NULL: "VALUE" */
    const char *help;    /* one sentence, no full stop; '\n' begins a new line */
    /* Optional, for strings and list items: NULL, or what is to be done about it ("give a name
     * without spaces"). */
    const char *(*check)(const char *value);
};

enum options_result {
    OPTIONS_RUN,   /* go on */
    OPTIONS_EXIT,  /* --help, --version or --man-options was printed: exit 0 */
    OPTIONS_ERROR, /* err holds a sentence that names option, value and remedy: exit EXIT_USAGE */
};

struct options_program {
    const char *name; /* "logd": the environment prefix is its upper case */
    const char *version;
    const char *usage;   /* "logd [OPTION…]" */
    const char *summary; /* one sentence for --help */
    const struct option_spec *specs;
    size_t count;
    bool operands; /* whether words that are no options are taken: see options_parse */
};

/* Parses defaults, environment and command line, in this order, up to the first error; a wrong
 * value in the environment is told only when the command line is right, so that --help always
 * works. With prog->operands, *first is set to the index of the first word after the options ("--"
 * ends them); without, any such word is an error, and first may be NULL. --help, --version and
 * --man-options are always there. On OPTIONS_ERROR err is NUL-terminated, and targets hold any
 * mixture of values. */
enum options_result options_parse(const struct options_program *prog, int argc, char **argv,
                                  int *first, char *err, size_t errlen);

/* Frees the items of a list option and leaves it empty. */
void options_list_free(struct option_list *list);

/* Writes the table as troff for the man page's OPTIONS section to standard output: what
 * --man-options prints (not shown in --help). */
void options_print_man(const struct options_program *prog);

#endif
