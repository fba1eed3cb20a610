/* options-help.c: prints a table of options for --help and for the man page. */
#include "common/options-help.h"

#include <stdio.h>
#include <string.h>

#define WIDTH  100 /* columns of a terminal that --help must fit */
#define INDENT 6   /* of the text below an option's form */

/* Columns of UTF-8 text: its characters. */
static int columns(const char *s, size_t n)
{
    int count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)s[i] & 0xc0) != 0x80;
    return count;
}

/* Prints words, broken before WIDTH, from *column on; a '\n' in the text begins a new line. */
static void wrap(const char *text, int *column)
{
    while (*text != '\0') {
        size_t n = strcspn(text, " \n");
        int wide = columns(text, n);
        if (*column > INDENT && *column + 1 + wide > WIDTH) {
            printf("\n");
            *column = 0;
        }
        if (*column < INDENT)
            *column += printf("%*s", INDENT - *column, "");
        else if (*column > INDENT)
            *column += printf(" ");
        printf("%.*s", (int)n, text);
        *column += wide;
        text += n;
        if (*text == '\n') {
            printf("\n");
            *column = 0;
        }
        if (*text != '\0')
            text++;
    }
}

static void print_form(const struct option_spec *spec)
{
    printf("  ");
    if (spec->letter != 0)
        printf("-%c, ", spec->letter);
    if (spec->type == OPTION_BOOL)
        printf("--%s, --no-%s\n", spec->name, spec->name);
    else
        printf("--%s=%s%s\n", spec->name, option_metavar(spec),
               spec->type == OPTION_LIST ? " (may be repeated)" : "");
}

static void print_option(const struct options_program *prog, const struct option_spec *spec)
{
    char text[256], name[80];
    int column = 0;
    print_form(spec);
    wrap(spec->help, &column);
    option_env_name(name, sizeof(name), prog->name, spec->name);
    if (spec->default_text != NULL)
        snprintf(text, sizeof(text), "[default: %s; environment: %s]",
                 spec->default_text[0] != '\0' ? spec->default_text : "\"\"", name);
    else
        snprintf(text, sizeof(text), "[environment: %s]", name);
    wrap(text, &column);
    printf("\n");
}

void options_print_help(const struct options_program *prog)
{
    printf("Usage: %s\n%s\n\nOptions:\n", prog->usage, prog->summary);
    for (size_t i = 0; i < prog->count; i++)
        print_option(prog, &prog->specs[i]);
    printf("  --help\n      print this and exit\n  --version\n      print the version and exit\n");
}

/* ---- Troff ---- */

static void troff(const char *text)
{
    bool line_start = true;
    for (; *text != '\0'; text++) {
        if (line_start && (*text == '.' || *text == '\''))
            printf("\\&");
        if (*text == '-')
            printf("\\-");
        else if (*text == '\\')
            printf("\\e");
        else
            putchar(*text);
        line_start = *text == '\n';
    }
}

static void man_form(const struct option_spec *spec)
{
    printf(".TP\n");
    if (spec->letter != 0)
        printf("\\fB\\-%c\\fR, ", spec->letter);
    printf("\\fB\\-\\-");
    troff(spec->name);
    printf("\\fR");
    if (spec->type == OPTION_BOOL) {
        printf(", \\fB\\-\\-no\\-");
        troff(spec->name);
        printf("\\fR\n");
        return;
    }
    printf("=\\fI");
    troff(option_metavar(spec));
    printf("\\fR\n");
}

static void man_option(const struct options_program *prog, const struct option_spec *spec)
{
    char name[80];
    man_form(spec);
    troff(spec->help);
    printf(".\n");
    if (spec->type == OPTION_LIST)
        printf("May be repeated; in the environment a comma separates the items.\n");
    if (spec->default_text != NULL) {
        printf("Default: \\fB");
        troff(spec->default_text[0] != '\0' ? spec->default_text : "\"\"");
        printf("\\fR.\n");
    }
    option_env_name(name, sizeof(name), prog->name, spec->name);
    printf("Environment: \\fB%s\\fR.\n", name);
}

void options_print_man(const struct options_program *prog)
{
    for (size_t i = 0; i < prog->count; i++)
        man_option(prog, &prog->specs[i]);
    printf(".TP\n\\fB\\-\\-help\\fR\nPrint the options and exit.\n");
    printf(".TP\n\\fB\\-\\-version\\fR\nPrint the version and exit.\n");
}
