/* option.h: one row of a table of settings, and how a text becomes the row's value. The daemons and
 * logsend have a table of options, liblogclient has one of properties.
 *
 * Tables are const: a row names the offset of its member in a struct of settings. Nothing here
 * prints, ends the process or keeps state, so that the library may use it. */
#ifndef COMMON_OPTION_H
#define COMMON_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {
    OPTION_STRING,  /* const char *; borrowed from the text that is given */
    OPTION_LIST,    /* struct option_list */
    OPTION_BOOL,    /* bool; true/false, yes/no, on/off, 1/0 */
    OPTION_NUMBER,  /* int64_t; decimal */
    OPTION_BYTES,   /* int64_t; may end in k, m or g (powers of 1024) */
    OPTION_MS,      /* int64_t milliseconds; may end in ms, s, m, h or d; none means ms */
    OPTION_SECONDS, /* int64_t seconds; may end in s, m, h or d; none means s */
    OPTION_CHOICE,  /* an enum or int: the value of one of the choices */
    OPTION_LEVEL,   /* enum level; any name that level_parse() knows */
};

#define OPTION_LIST_MAX 16

struct option_list {
    char *item[OPTION_LIST_MAX]; /* copies, owned by the list */
    size_t count;
};

struct option_choice {
    const char *name; /* matched exactly */
    int value;
};

/* The choices of a row: OPTION_CHOICES({"drop", DROP}, {"block", BLOCK}). */
#define OPTION_CHOICES(...) ((const struct option_choice[]){__VA_ARGS__, {NULL, 0}})

struct option_spec {
    const char *name; /* without dashes */
    char letter;      /* short form on the command line, or 0 */
    enum option_type type;
    size_t offset; /* of the member that takes the value; it has the type's C type */
    /* Parsed like a given value, before anything else; NULL: the member keeps what it holds. */
    const char *default_text;
    int64_t min, max; /* of a number; both 0: no limits */
    /* Of OPTION_CHOICE. Before a number: words that stand for numbers, which min and max do not
     * limit. */
    const struct option_choice *choices;
    const char *metavar; /* "ADDR:PORT"; NULL: "VALUE" */
    const char *help;    /* one sentence, no full stop; '\n' begins a new line */
    /* Optional, for strings and list items. Returns NULL, or what is to be done about the value, as
     * static text ("give a name without spaces"). */
    const char *(*check)(const char *value);
};

/* Begins a row: name, type and the member of a struct that takes the value. */
#define OPTION_ROW(option, kind, settings, member)                                                 \
    .name = (option), .type = (kind), .offset = offsetof(settings, member)

/* A program's table. */
struct options_program {
    const char *name; /* "logd": the environment's prefix is its upper case */
    const char *version;
    const char *usage;   /* "logd [OPTION…]" */
    const char *summary; /* one sentence for --help */
    const struct option_spec *specs;
    size_t count;
    bool operands; /* whether words that are no options are taken: see options_parse() */
};

/* Where the row's value lies. */
static inline void *option_member(const struct option_spec *spec, void *settings)
{
    return (char *)settings + spec->offset;
}

static inline const char *option_metavar(const struct option_spec *spec)
{
    return spec->metavar != NULL ? spec->metavar : "VALUE";
}

/* Parses `value` and stores it; a list gets it as one more item. False: nothing is stored, and err
 * holds a sentence that names `source`, value and remedy. `source` is what the user wrote, such as
 * "--max-body" or "environment variable LOGD_MAX_BODY"; err may be NULL. */
bool option_set(const struct option_spec *spec, void *settings, const char *source,
                const char *value, char *err, size_t errlen);

/* Frees the items of a list and leaves it empty. */
void option_list_free(struct option_list *list);

/* The name of an environment variable: "logd", "max-body" → "LOGD_MAX_BODY". Cut to `size`. */
void option_env_name(char *out, size_t size, const char *program, const char *name);

/* A check for names and paths: they must not be empty. */
const char *option_check_name(const char *value);

#endif
