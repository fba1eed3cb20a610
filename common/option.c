/* option.c: parses the value of one row of a table of settings; see option.h. */
#include "common/option.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/level.h"
#include "common/utf8.h"

#define SHOWN_MAX  100 /* bytes of a bad value in a message */
#define REMEDY_MAX 256

/* A value, and where to complain about it. */
struct given {
    const char *source, *value;
    char *err;
    size_t errlen;
};

static bool bad_value(const struct given *g, const char *remedy)
{
    size_t shown = utf8_cut(g->value, strlen(g->value), SHOWN_MAX);
    snprintf(g->err, g->errlen, "%s: \"%.*s%s\" is not valid: %s", g->source, (int)shown, g->value,
             g->value[shown] != '\0' ? "..." : "", remedy);
    return false;
}

__attribute__((format(printf, 2, 3))) static void append(char out[REMEDY_MAX], const char *format,
                                                         ...)
{
    size_t n = strlen(out);
    va_list args;
    va_start(args, format);
    vsnprintf(out + n, REMEDY_MAX - n, format, args);
    va_end(args);
}

/* ---- Numbers and choices ---- */

struct unit {
    const char *suffix;
    int64_t factor;
};

/* How a type of number is written. The largest unit comes first, and no suffix last. */
struct form {
    const char *text;
    struct unit units[6];
};

static const struct form forms[] = {
    [OPTION_NUMBER] = {"a whole number", {{"", 1}}},
    [OPTION_BYTES] = {"a number of bytes, optionally with k, m or g behind it",
                      {{"g", 1 << 30}, {"m", 1 << 20}, {"k", 1 << 10}, {"", 1}}},
    [OPTION_MS] =
        {"a time, a number with ms, s, m, h or d behind it (none means ms)",
         {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {"", 1}}},
    [OPTION_SECONDS] = {"a time, a number with s, m, h or d behind it (none means s)",
                        {{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}, {"", 1}}},
};

/* Appends a number in the largest unit that divides it: 65536 bytes are "64k". */
static void append_number(char out[REMEDY_MAX], enum option_type type, int64_t n)
{
    const struct unit *unit = forms[type].units;
    while (unit->suffix[0] != '\0' && (n == 0 || n % unit->factor != 0))
        unit++;
    append(out, "%" PRId64 "%s", n / unit->factor, unit->suffix);
}

static bool is_limited(const struct option_spec *spec)
{
    return spec->min != 0 || spec->max != 0;
}

/* Names all values that the row takes: "give never, batch or a whole number, from 1 to 10". */
static bool bad_choice(const struct option_spec *spec, const struct given *g)
{
    bool number = spec->type != OPTION_CHOICE;
    char remedy[REMEDY_MAX] = "give ";
    for (const struct option_choice *c = spec->choices; c != NULL && c->name != NULL; c++) {
        bool last = c[1].name == NULL;
        append(remedy, c == spec->choices ? "%s" : last && !number ? " or %s" : ", %s", c->name);
    }
    if (number)
        append(remedy, "%s%s", spec->choices != NULL ? " or " : "", forms[spec->type].text);
    if (number && is_limited(spec)) {
        append(remedy, ", from ");
        append_number(remedy, spec->type, spec->min);
        append(remedy, " to ");
        append_number(remedy, spec->type, spec->max);
    }
    return bad_value(g, remedy);
}

static const struct option_choice *find_choice(const struct option_spec *spec, const char *word)
{
    for (const struct option_choice *c = spec->choices; c != NULL && c->name != NULL; c++)
        if (strcmp(c->name, word) == 0)
            return c;
    return NULL;
}

static bool set_choice(const struct option_spec *spec, int *out, const struct given *g)
{
    const struct option_choice *choice = find_choice(spec, g->value);
    if (choice == NULL)
        return bad_choice(spec, g);
    *out = choice->value;
    return true;
}

/* Reads digits and a unit. False when it is no such number, or one too large for int64_t. */
static bool read_number(enum option_type type, const char *text, int64_t *out)
{
    const struct unit *unit = forms[type].units;
    bool negative = type == OPTION_NUMBER && *text == '-';
    char *end;
    if (!isdigit((unsigned char)text[negative]))
        return false;
    errno = 0;
    int64_t n = strtoll(text, &end, 10);
    if (errno != 0)
        return false;
    while (strcasecmp(end, unit->suffix) != 0)
        if ((unit++)->suffix[0] == '\0')
            return false;
    return !__builtin_mul_overflow(n, unit->factor, out);
}

static bool set_number(const struct option_spec *spec, int64_t *out, const struct given *g)
{
    const struct option_choice *word = find_choice(spec, g->value);
    int64_t n;
    if (word != NULL)
        n = word->value;
    else if (!read_number(spec->type, g->value, &n) ||
             (is_limited(spec) && (n < spec->min || n > spec->max)))
        return bad_choice(spec, g);
    *out = n;
    return true;
}

/* ---- Other values ---- */

static bool set_bool(bool *out, const struct given *g)
{
    static const char *const words[2][4] = {{"false", "no", "off", "0"},
                                            {"true", "yes", "on", "1"}};
    for (int on = 0; on < 2; on++)
        for (int i = 0; i < 4; i++)
            if (strcasecmp(g->value, words[on][i]) == 0) {
                *out = on;
                return true;
            }
    return bad_value(g, "give true or false (or yes, no, on, off, 1, 0)");
}

static bool set_level(enum level *out, const struct given *g)
{
    enum level level = level_parse(g->value, strlen(g->value));
    if (level == LEVEL_INVALID)
        return bad_value(g, "give one of " LEVEL_NAMES);
    *out = level;
    return true;
}

const char *option_check_name(const char *value)
{
    return *value == '\0' ? "give a name" : NULL;
}

static bool is_checked(const struct option_spec *spec, const struct given *g)
{
    const char *remedy = spec->check != NULL ? spec->check(g->value) : NULL;
    return remedy == NULL || bad_value(g, remedy);
}

static bool set_string(const struct option_spec *spec, const char **out, const struct given *g)
{
    if (!is_checked(spec, g))
        return false;
    *out = g->value;
    return true;
}

static bool add_item(const struct option_spec *spec, struct option_list *list,
                     const struct given *g)
{
    if (list->count == OPTION_LIST_MAX) {
        snprintf(g->err, g->errlen, "%s: more than %d values; give fewer", g->source,
                 OPTION_LIST_MAX);
        return false;
    }
    if (*g->value == '\0')
        return bad_value(g, "an item is empty; leave it out");
    if (!is_checked(spec, g))
        return false;
    char *copy = strdup(g->value);
    if (copy == NULL) {
        snprintf(g->err, g->errlen, "%s: out of memory", g->source);
        return false;
    }
    list->item[list->count++] = copy;
    return true;
}

void option_list_free(struct option_list *list)
{
    while (list->count > 0)
        free(list->item[--list->count]);
}

bool option_set(const struct option_spec *spec, void *settings, const char *source,
                const char *value, char *err, size_t errlen)
{
    const struct given g = {source, value, err, err != NULL ? errlen : 0};
    void *member = option_member(spec, settings);
    switch (spec->type) {
    case OPTION_STRING:
        return set_string(spec, member, &g);
    case OPTION_LIST:
        return add_item(spec, member, &g);
    case OPTION_BOOL:
        return set_bool(member, &g);
    case OPTION_LEVEL:
        return set_level(member, &g);
    case OPTION_CHOICE:
        return set_choice(spec, member, &g);
    default:
        return set_number(spec, member, &g);
    }
}

void option_env_name(char *out, size_t size, const char *program, const char *name)
{
    snprintf(out, size, "%s_%s", program, name);
    for (; *out != '\0'; out++)
        *out = *out == '-' ? '_' : (char)toupper((unsigned char)*out);
}
