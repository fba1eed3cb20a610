/* options-internal.h: what options.c and options-help.c share. */
#ifndef COMMON_OPTIONS_INTERNAL_H
#define COMMON_OPTIONS_INTERNAL_H

#include "common/options.h"

/* The environment variable of an option: "logd", "max-body" → "LOGD_MAX_BODY". Cut to `size`. */
void options_env_name(char *out, size_t size, const struct options_program *prog,
                      const struct option_spec *spec);

/* Writes what --help prints to standard output. */
void options_print_help(const struct options_program *prog);

#endif
