/* options-help.h: a table of options as text on standard output, for options.c. */
#ifndef COMMON_OPTIONS_HELP_H
#define COMMON_OPTIONS_HELP_H

#include "common/option.h"

/* What --help prints. */
void options_print_help(const struct options_program *prog);

/* What --man-options prints. */
void options_print_man(const struct options_program *prog);

#endif
