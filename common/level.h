/* level.h: the severity levels of doc/protocol.md, section 1. */
#ifndef COMMON_LEVEL_H
#define COMMON_LEVEL_H

#include <stddef.h>

enum level {
    LEVEL_INVALID = -1,
    LEVEL_TRACE,
    LEVEL_DEBUG,
    LEVEL_INFO,
    LEVEL_WARN,
    LEVEL_ERROR,
    LEVEL_FATAL,
};

/* For messages about a wrong name. */
#define LEVEL_NAMES "trace, debug, info, warn, error, fatal"

/* The level that `name` (n bytes, any case, aliases included) stands for, or LEVEL_INVALID.
 * Async-signal-safe. */
enum level level_parse(const char *name, size_t n);

/* The canonical name, NUL-terminated, static. `level` is valid. */
const char *level_name(enum level level);

#endif
