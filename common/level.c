#include "common/level.h"

#include <string.h>

#define LONGEST 8 /* "critical"; compared as one word */

static const struct {
    char name[LONGEST]; /* padded with NULs */
    signed char level;
} names[] = {
    {"trace", LEVEL_TRACE}, {"debug", LEVEL_DEBUG},    {"info", LEVEL_INFO},
    {"warn", LEVEL_WARN},   {"error", LEVEL_ERROR},    {"fatal", LEVEL_FATAL},
    {"silly", LEVEL_TRACE}, {"verbose", LEVEL_DEBUG},  {"http", LEVEL_DEBUG},
    {"notice", LEVEL_INFO}, {"warning", LEVEL_WARN},   {"err", LEVEL_ERROR},
    {"crit", LEVEL_FATAL},  {"critical", LEVEL_FATAL}, {"alert", LEVEL_FATAL},
    {"emerg", LEVEL_FATAL}, {"panic", LEVEL_FATAL},
};

enum level level_parse(const char *name, size_t n)
{
    char lower[LONGEST] = "";
    if (n == 0 || n > LONGEST)
        return LEVEL_INVALID;
    /* This makes letters small, and makes no other byte a letter. */
    for (size_t i = 0; i < n; i++)
        lower[i] = (char)(name[i] | 0x20);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (memcmp(lower, names[i].name, LONGEST) == 0)
            return (enum level)names[i].level;
    return LEVEL_INVALID;
}

const char *level_name(enum level level)
{
    return names[level].name;
}
