/* options.c: reads the option table's values from defaults, environment and command line. --help
 * and the man page are in options-help.c. */
#include "common/options-internal.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPECS_MAX 64 /* bits in `seen` */

struct parse {
    const struct options_program *prog;
    char *err;
    size_t errlen;
    uint64_t seen; /* bit i: list i has got an item from the present source */
};

/* A value and how its source is to be named in a message: "--max-body" or "environment variable
 * LOGD_MAX_BODY". */
struct given {
    const char *source;
    const char *value;
};

struct unit {
    const char *suffix;
    int64_t factor;
};

/* Largest first; the one of factor 1 comes last and may be left out. */
static const struct unit byte_units[] = {{"g", 1 << 30}, {"m", 1 << 20}, {"k", 1 << 10}, {"", 1}};
static const struct unit ms_units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000},
                                       {"s", 1000},     {"ms", 1},      {"", 1}};
static const struct unit plain_units[] = {{"", 1}};

#define UNITS(array)                                                                               \
    (struct units)                                                                                 \
    {                                                                                              \
        (array), sizeof(array) / sizeof((array)[0])                                                \
    }

struct units {
    const struct unit *unit;
    size_t count;
};

__attribute__((format(printf, 2, 3))) static bool fail(struct parse *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(p->err, p->errlen, format, args);
    va_end(args);
    return false;
}

static bool bad_value(struct parse *p, const struct given *g, const char *remedy)
{
    return fail(p, "%s: \"%s\" is not valid: %s", g->source, g->value, remedy);
}

/* ---- Numbers ---- */

static struct units units_of(enum option_type type)
{
    if (type == OPTION_BYTES)
        return UNITS(byte_units);
    return type == OPTION_MS ? UNITS(ms_units) : UNITS(plain_units);
}

static const char *number_form(enum option_type type)
{
    if (type == OPTION_BYTES)
        return "a number of bytes, optionally with k, m or g behind it";
    return type == OPTION_MS ? "a time, a number with ms, s, m, h or d behind it (none means ms)"
                             : "a whole number";
}

/* The number in the largest unit that divides it: 65536 of bytes is "64k". */
static void format_number(char *out, size_t size, enum option_type type, int64_t n)
{
    struct units units = units_of(type);
    size_t i = 0;
    while (i + 1 < units.count && (n == 0 || n % units.unit[i].factor != 0))
        i++;
    snprintf(out, size, "%" PRId64 "%s", n / units.unit[i].factor, units.unit[i].suffix);
}

/* Reads digits and a unit. False when it is no such number, or one too large for int64_t. */
static bool read_number(enum option_type type, const char *text, int64_t *out)
{
    struct units units = units_of(type);
    bool negative = type == OPTION_NUMBER && *text == '-';
    char *end;
    int64_t n;
    if (!isdigit((unsigned char)text[negative]))
        return false;
    errno = 0;
    n = strtoll(text, &end, 10);
    if (errno != 0)
        return false;
    for (size_t i = 0; i < units.count; i++)
        if (strcasecmp(end, units.unit[i].suffix) == 0)
            return !__builtin_mul_overflow(n, units.unit[i].factor, out);
    return false;
}

static bool set_number(struct parse *p, const struct option_spec *spec, const struct given *g)
{
    bool limited = spec->min != 0 || spec->max != 0;
    char low[32], high[32], remedy[160];
    int64_t n;
    format_number(low, sizeof(low), spec->type, spec->min);
    format_number(high, sizeof(high), spec->type, spec->max);
    if (!read_number(spec->type, g->value, &n) || (limited && (n < spec->min || n > spec->max))) {
        if (limited)
            snprintf(remedy, sizeof(remedy), "give %s, from %s to %s", number_form(spec->type), low,
                     high);
        else
            snprintf(remedy, sizeof(remedy), "give %s", number_form(spec->type));
        return bad_value(p, g, remedy);
    }
    *(int64_t *)spec->target = n;
    return true;
}

/* ---- Other values ---- */

static bool set_bool(struct parse *p, const struct option_spec *spec, const struct given *g)
{
    static const char *const words[2][4] = {{"false", "no", "off", "0"},
                                            {"true", "yes", "on", "1"}};
    for (int on = 0; on < 2; on++)
        for (int i = 0; i < 4; i++)
            if (strcasecmp(g->value, words[on][i]) == 0) {
                *(bool *)spec->target = on;
                return true;
            }
    return bad_value(p, g, "give true or false (or yes, no, on, off, 1, 0)");
}

static bool check_string(struct parse *p, const struct option_spec *spec, const struct given *g)
{
    const char *wrong = spec->check != NULL ? spec->check(g->value) : NULL;
    return wrong == NULL || bad_value(p, g, wrong);
}

void options_list_free(struct option_list *list)
{
    while (list->count > 0)
        free(list->item[--list->count]);
}

/* Appends a copy of the n bytes at s. */
static bool add_item(struct parse *p, const struct option_spec *spec, const char *source,
                     const char *s, size_t n)
{
    struct option_list *list = spec->target;
    char *copy;
    if (list->count == OPTION_LIST_MAX)
        return fail(p, "%s: more than %d values; give fewer", source, OPTION_LIST_MAX);
    copy = strndup(s, n);
    if (copy == NULL)
        return fail(p, "%s: out of memory", source);
    list->item[list->count++] = copy;
    if (n == 0)
        return bad_value(p, &(struct given){source, copy}, "an item is empty; leave it out");
    return check_string(p, spec, &(struct given){source, copy});
}

/* `split`: the value is a list with commas. The first item from a source replaces those of the
 * source before. */
static bool set_list(struct parse *p, const struct option_spec *spec, const struct given *g,
                     bool split)
{
    uint64_t bit = UINT64_C(1) << (spec - p->prog->specs);
    const char *s = g->value;
    if (!(p->seen & bit))
        options_list_free(spec->target);
    p->seen |= bit;
    for (;;) {
        size_t n = split ? strcspn(s, ",") : strlen(s);
        if (!add_item(p, spec, g->source, s, n))
            return false;
        if (s[n] == '\0')
            return true;
        s += n + 1;
    }
}

static bool set_value(struct parse *p, const struct option_spec *spec, const struct given *g,
                      bool split)
{
    switch (spec->type) {
    case OPTION_STRING:
        *(const char **)spec->target = g->value;
        return check_string(p, spec, g);
    case OPTION_LIST:
        return set_list(p, spec, g, split);
    case OPTION_BOOL:
        return set_bool(p, spec, g);
    default:
        return set_number(p, spec, g);
    }
}

/* ---- Defaults and environment ---- */

static bool read_defaults(struct parse *p)
{
    char source[80];
    p->seen = 0;
    for (size_t i = 0; i < p->prog->count; i++) {
        const struct option_spec *spec = &p->prog->specs[i];
        snprintf(source, sizeof(source), "default of --%s", spec->name);
        if (spec->default_text != NULL &&
            !set_value(p, spec, &(struct given){source, spec->default_text}, true))
            return false;
    }
    return true;
}

void options_env_name(char *out, size_t size, const struct options_program *prog,
                      const struct option_spec *spec)
{
    snprintf(out, size, "%s_%s", prog->name, spec->name);
    for (; *out != '\0'; out++)
        *out = *out == '-' ? '_' : (char)toupper((unsigned char)*out);
}

static bool read_environment(struct parse *p)
{
    char name[80], source[120];
    p->seen = 0;
    for (size_t i = 0; i < p->prog->count; i++) {
        const struct option_spec *spec = &p->prog->specs[i];
        const char *value;
        options_env_name(name, sizeof(name), p->prog, spec);
        value = getenv(name);
        snprintf(source, sizeof(source), "environment variable %s", name);
        if (value != NULL && !set_value(p, spec, &(struct given){source, value}, true))
            return false;
    }
    return true;
}

/* ---- Command line ---- */

/* The number of insertions, deletions and changes between two short names; 99 when they are long.
 */
static size_t distance(const char *a, const char *b)
{
    size_t row[48], la = strlen(a), lb = strlen(b);
    if (lb >= sizeof(row) / sizeof(row[0]))
        return 99;
    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[lb];
}

/* The option name nearest to `name`, if it is near enough to be what was meant. */
static const char *nearest(const struct options_program *prog, const char *name)
{
    const char *best = NULL;
    size_t least = 1 + (strlen(name) < 4 ? 1 : strlen(name) < 8 ? 2 : 3);
    for (size_t i = 0; i < prog->count; i++) {
        size_t d = distance(name, prog->specs[i].name);
        if (d < least) {
            least = d;
            best = prog->specs[i].name;
        }
    }
    return best;
}

static const struct option_spec *find_name(const struct options_program *prog, const char *name,
                                           size_t n)
{
    for (size_t i = 0; i < prog->count; i++)
        if (strlen(prog->specs[i].name) == n && memcmp(prog->specs[i].name, name, n) == 0)
            return &prog->specs[i];
    return NULL;
}

static const struct option_spec *find_letter(const struct options_program *prog, char letter)
{
    for (size_t i = 0; i < prog->count; i++)
        if (prog->specs[i].letter == letter)
            return &prog->specs[i];
    return NULL;
}

static bool unknown(struct parse *p, const char *name, size_t n)
{
    char copy[64];
    const char *near;
    snprintf(copy, sizeof(copy), "%.*s", (int)(n < sizeof(copy) ? n : sizeof(copy)), name);
    near = nearest(p->prog, copy);
    if (near != NULL)
        return fail(p, "unknown option --%s; did you mean --%s?", copy, near);
    return fail(p, "unknown option --%s; \"%s --help\" lists the options", copy, p->prog->name);
}

static bool missing_value(struct parse *p, const struct option_spec *spec)
{
    return fail(p, "--%s: the value is missing; write --%s=%s", spec->name, spec->name,
                spec->metavar != NULL ? spec->metavar : "VALUE");
}

/* "--name", "--name=value", "--name value", "--no-name". *i is argv's index, and moves on when the
 * value is a word of its own. */
static bool long_option(struct parse *p, int argc, char **argv, int *i)
{
    const char *name = argv[*i] + 2, *equals = strchrnul(name, '=');
    size_t n = (size_t)(equals - name);
    const struct option_spec *spec = find_name(p->prog, name, n);
    const char *value = *equals == '=' ? equals + 1 : NULL;
    char source[80];
    if (spec == NULL && n > 3 && memcmp(name, "no-", 3) == 0) {
        spec = find_name(p->prog, name + 3, n - 3);
        if (spec != NULL && spec->type == OPTION_BOOL && value == NULL) {
            *(bool *)spec->target = false;
            return true;
        }
        if (spec != NULL && spec->type == OPTION_BOOL)
            return fail(p, "--no-%s takes no value; got \"%s\"", spec->name, value);
        spec = NULL;
    }
    if (spec == NULL)
        return unknown(p, name, n);
    if (value == NULL && spec->type == OPTION_BOOL)
        value = "true";
    else if (value == NULL && *i + 1 < argc)
        value = argv[++*i];
    if (value == NULL)
        return missing_value(p, spec);
    snprintf(source, sizeof(source), "--%s", spec->name);
    return set_value(p, spec, &(struct given){source, value}, false);
}

/* "-s value", "-svalue", and several bools as "-ab". */
static bool short_options(struct parse *p, int argc, char **argv, int *i)
{
    for (const char *letter = argv[*i] + 1; *letter != '\0'; letter++) {
        const struct option_spec *spec = find_letter(p->prog, *letter);
        const char *value = letter[1] != '\0' ? letter + 1 : NULL;
        char source[80];
        if (spec == NULL)
            return fail(p, "unknown option -%c; \"%s --help\" lists the options", *letter,
                        p->prog->name);
        if (spec->type == OPTION_BOOL) {
            *(bool *)spec->target = true;
            continue;
        }
        if (value == NULL && *i + 1 < argc)
            value = argv[++*i];
        if (value == NULL)
            return missing_value(p, spec);
        snprintf(source, sizeof(source), "-%c", *letter);
        return set_value(p, spec, &(struct given){source, value}, false);
    }
    return true;
}

/* --help, --version, --man-options: whether `word` was one of them and has been printed. */
static bool print_and_exit(const struct options_program *prog, const char *word)
{
    if (strcmp(word, "--help") == 0)
        options_print_help(prog);
    else if (strcmp(word, "--version") == 0)
        printf("%s %s\n", prog->name, prog->version);
    else if (strcmp(word, "--man-options") == 0)
        options_print_man(prog);
    else
        return false;
    return true;
}

static enum options_result printed(struct parse *p)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return OPTIONS_EXIT;
    fail(p, "cannot write to standard output: %s", strerror(errno));
    return OPTIONS_ERROR;
}

static enum options_result read_command_line(struct parse *p, int argc, char **argv, int *first)
{
    int i;
    p->seen = 0;
    for (i = 1; i < argc; i++) {
        const char *word = argv[i];
        bool is_long = strncmp(word, "--", 2) == 0;
        if (word[0] != '-' || word[1] == '\0')
            break;
        if (strcmp(word, "--") == 0) {
            i++;
            break;
        }
        if (print_and_exit(p->prog, word))
            return printed(p);
        if (is_long ? !long_option(p, argc, argv, &i) : !short_options(p, argc, argv, &i))
            return OPTIONS_ERROR;
    }
    if (i < argc && !p->prog->operands) {
        fail(p, "unexpected word \"%s\"; options begin with --, and \"%s --help\" lists them",
             argv[i], p->prog->name);
        return OPTIONS_ERROR;
    }
    if (first != NULL)
        *first = i;
    return OPTIONS_RUN;
}

enum options_result options_parse(const struct options_program *prog, int argc, char **argv,
                                  int *first, char *err, size_t errlen)
{
    struct parse p = {.prog = prog, .err = err, .errlen = errlen};
    enum options_result result;
    bool env_good;
    if (prog->count > SPECS_MAX) {
        fail(&p, "%s: more than %d options in the table", prog->name, SPECS_MAX);
        return OPTIONS_ERROR;
    }
    if (!read_defaults(&p))
        return OPTIONS_ERROR;
    env_good = read_environment(&p);
    result = read_command_line(&p, argc, argv, first);
    if (result == OPTIONS_RUN && !env_good)
        return OPTIONS_ERROR;
    return result;
}
