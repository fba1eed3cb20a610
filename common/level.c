#include "common/level.h"

#include <string.h>

#define LONGEST 8 /* "critical" */

static const struct {
    char name[LONGEST + 1];
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
    char lower[LONGEST + 1] = "";
    if (n == 0 || n > LONGEST)
        return LEVEL_INVALID;
    if (memchr(name, '\0', n) != NULL)
        return LEVEL_INVALID; /* it would look like the end of a name */
    for (size_t i = 0; i < n; i++)
        lower[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + ('a' - 'A') : name[i]);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (memcmp(lower, names[i].name, n + 1) == 0)
            return (enum level)names[i].level;
    return LEVEL_INVALID;
}

const char *level_name(enum level level)
{
    return names[level].name;
}
