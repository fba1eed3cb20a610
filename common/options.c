/* options.c: reads the values of a table of options from the three places where they may stand. */
#include "common/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/diag.h"
#include "common/options-help.h"

#define SPECS_MAX 64 /* bits in `seen` */

struct parse {
    const struct options_program *prog;
    void *settings;
    char *err;
    size_t errlen;
    uint64_t seen; /* bit i: list i has got an item from the present source */
};

__attribute__((format(printf, 2, 3))) static bool fail(struct parse *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(p->err, p->errlen, format, args);
    va_end(args);
    return false;
}

static bool set_one(struct parse *p, const struct option_spec *spec, const char *source,
                    const char *value)
{
    return option_set(spec, p->settings, source, value, p->err, p->errlen);
}

/* Sets a list from a text with commas. */
static bool set_items(struct parse *p, const struct option_spec *spec, const char *source,
                      const char *value)
{
    char *copy = strdup(value), *rest = copy, *item;
    bool good = true;
    if (copy == NULL)
        return fail(p, "%s: out of memory", source);
    while (good && (item = strsep(&rest, ",")) != NULL)
        good = set_one(p, spec, source, item);
    free(copy);
    return good;
}

/* `split`: a list has commas. The first item of a list from one source replaces the items of the
 * source before. */
static bool set_value(struct parse *p, const struct option_spec *spec, const char *source,
                      const char *value, bool split)
{
    uint64_t bit = UINT64_C(1) << (spec - p->prog->specs);
    if (spec->type != OPTION_LIST)
        return set_one(p, spec, source, value);
    if (!(p->seen & bit))
        option_list_free(option_member(spec, p->settings));
    p->seen |= bit;
    return split ? set_items(p, spec, source, value) : set_one(p, spec, source, value);
}

/* ---- Defaults and environment ---- */

static bool read_defaults(struct parse *p)
{
    char source[80];
    p->seen = 0;
    for (size_t i = 0; i < p->prog->count; i++) {
        const struct option_spec *spec = &p->prog->specs[i];
        snprintf(source, sizeof(source), "default of --%s", spec->name);
        if (spec->default_text != NULL && !set_value(p, spec, source, spec->default_text, true))
            return false;
    }
    return true;
}

static bool read_environment(struct parse *p)
{
    char name[80], source[120];
    p->seen = 0;
    for (size_t i = 0; i < p->prog->count; i++) {
        const struct option_spec *spec = &p->prog->specs[i];
        option_env_name(name, sizeof(name), p->prog->name, spec->name);
        snprintf(source, sizeof(source), "environment variable %s", name);
        const char *value = getenv(name);
        if (value != NULL && !set_value(p, spec, source, value, true))
            return false;
    }
    return true;
}

/* ---- Command line ---- */

/* How many insertions, deletions and changes lie between two names; 99 when one is long. */
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

/* The option's name that `name` was probably meant to be, or NULL. */
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
                option_metavar(spec));
}

/* "--name", "--name=value", "--name value", "--no-name". Moves *i on when the value is a word of
 * its own. */
static bool long_option(struct parse *p, int argc, char **argv, int *i)
{
    const char *name = argv[*i] + 2, *equals = strchrnul(name, '=');
    size_t n = (size_t)(equals - name);
    const struct option_spec *spec = find_name(p->prog, name, n);
    const char *value = *equals == '=' ? equals + 1 : NULL;
    char source[80];
    if (spec == NULL && n > 3 && memcmp(name, "no-", 3) == 0) {
        const struct option_spec *off = find_name(p->prog, name + 3, n - 3);
        if (off != NULL && off->type == OPTION_BOOL)
            return value == NULL ? set_one(p, off, off->name, "false")
                                 : fail(p, "--no-%s takes no value; got \"%s\"", off->name, value);
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
    return set_value(p, spec, source, value, false);
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
            *(bool *)option_member(spec, p->settings) = true;
            continue;
        }
        if (value == NULL && *i + 1 < argc)
            value = argv[++*i];
        if (value == NULL)
            return missing_value(p, spec);
        snprintf(source, sizeof(source), "-%c", *letter);
        return set_value(p, spec, source, value, false);
    }
    return true;
}

/* Whether `word` was --help, --version or --man-options; if so, it has been printed. */
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

enum options_result options_parse(const struct options_program *prog, void *settings, int argc,
                                  char **argv, int *first, char *err, size_t errlen)
{
    struct parse p = {.prog = prog, .settings = settings, .err = err, .errlen = errlen};
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

int options_parse_or_exit(const struct options_program *prog, void *settings, int argc, char **argv)
{
    char err[512];
    int first;
    enum options_result result =
        options_parse(prog, settings, argc, argv, &first, err, sizeof(err));
    if (result == OPTIONS_ERROR)
        diag_die(EXIT_USAGE, "%s", err);
    if (result == OPTIONS_EXIT)
        exit(EXIT_OK);
    return first;
}
