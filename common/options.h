/* options.h: reads a program's settings from the defaults, the environment and the command line.
 * One table (option.h) says what there is; --help, the man page and the errors come from it, too.
 *
 * For an option "max-body" of the program "logd" the command line takes --max-body=VALUE and
 * --max-body VALUE, and the environment LOGD_MAX_BODY=VALUE; the command line wins. A bool takes
 * --echo and --no-echo. A list option may be repeated, and is separated by commas in the
 * environment and in its default; items of the command line replace those of the environment, and
 * these the default. With a letter, -s VALUE and -sVALUE are taken too. --help, --version and
 * --man-options (the man page's OPTIONS section in troff; not shown in --help) are always there. */
#ifndef COMMON_OPTIONS_H
#define COMMON_OPTIONS_H

#include "common/option.h"

enum options_result {
    OPTIONS_RUN,   /* go on */
    OPTIONS_EXIT,  /* --help, --version or --man-options was printed: exit 0 */
    OPTIONS_ERROR, /* err holds a sentence that names option, value and remedy: exit EXIT_USAGE */
};

/* Fills `settings`, the struct that the table's offsets belong to, up to the first error. Strings
 * are borrowed from argv, the environment or the table; lists are freed with option_list_free(),
 * and must be empty before. A wrong value in the environment is told only when the command line is
 * right, so that --help always works. With prog->operands, *first becomes the index of the first
 * word after the options ("--" ends them); without, any such word is an error, and first may be
 * NULL. On OPTIONS_ERROR err is NUL-terminated, and settings hold any mixture of values. */
enum options_result options_parse(const struct options_program *prog, void *settings, int argc,
                                  char **argv, int *first, char *err, size_t errlen);

/* The same, but exits when options_parse() says so, and returns *first. */
int options_parse_or_exit(const struct options_program *prog, void *settings, int argc,
                          char **argv);

#endif
