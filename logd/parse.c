/* parse.c: reads one record for ingest.c: with quick.c, else with jansson. Words what is wrong. */
#include "logd/parse.h"

#include <stdbool.h>
#include <stdio.h>

#include "common/jsontext.h"
#include "logd/quick.h"

/* Integers are read as reals so that none is too large; other members are kept as text anyway. */
#define LOAD_FLAGS                                                                                 \
    (JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL | JSON_DISABLE_EOF_CHECK)

/* From an opening quote to behind the closing one, or to end. */
static const char *skip_string(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\')
            at++;
    return at < end ? at + 1 : end;
}

/* jansson recurses to a depth of 2048, so this looks first. The answer means nothing for text that
 * is no JSON: jansson refuses it afterwards. */
static bool is_too_deep(const char *text, size_t n)
{
    const char *end = text + n;
    int depth = 0;
    for (const char *at = text; at < end;) {
        if (*at == '"') {
            at = skip_string(at, end);
            continue;
        }
        if ((*at == '{' || *at == '[') && ++depth > PARSE_DEPTH_MAX)
            return true;
        if ((*at == '}' || *at == ']') && --depth <= 0)
            return false;
        at++;
    }
    return false;
}

/* ---- Members that are kept as they are ---- */

static bool is_known(const char *name)
{
    return record_find((struct span){name, strlen(name)}) < FIELD_MEMBERS;
}

/* Appends one valid JSON value without insignificant white space; returns what is behind it. */
static const char *copy_value(struct buf *out, const char *at, const char *end)
{
    int depth = 0;
    do {
        const char *from = at;
        if (*at == '"') {
            at = skip_string(at, end);
        } else if (*at == '{' || *at == '[') {
            depth++;
            at++;
        } else if (*at == '}' || *at == ']') {
            depth--;
            at++;
        } else if (jsontext_is_space(*at) || *at == ',' || *at == ':') {
            at++;
        } else {
            do
                at++;
            while (at < end && !jsontext_is_space(*at) && strchr(",:{}[]\"", *at) == NULL);
        }
        if (!jsontext_is_space(*from))
            buf_add(out, from, (size_t)(at - from));
    } while (depth > 0 && at < end);
    return at;
}

/* Collects the text of all members that have no rule. The text is valid, and the tree holds its
 * members in the order of the text. So the two are walked in step: the tree knows the names without
 * escapes. */
static void copy_other_members(struct parser *p, const char *text, size_t n)
{
    const char *end = text + n;
    const char *at = text + 1;
    buf_clear(&p->fields);
    buf_add_char(&p->fields, '{');
    for (void *i = json_object_iter(p->tree); i != NULL; i = json_object_iter_next(p->tree, i)) {
        size_t before = p->fields.len;
        if (before > 1)
            buf_add_char(&p->fields, ',');
        at = copy_value(&p->fields, jsontext_skip_space(at, end), end); /* the name */
        at = jsontext_skip_space(at, end) + 1;                          /* the colon */
        buf_add_char(&p->fields, ':');
        at = copy_value(&p->fields, jsontext_skip_space(at, end), end);
        at = jsontext_skip_space(at, end) + 1; /* the comma, or the closing brace */
        if (is_known(json_object_iter_key(i)) && !p->fields.failed)
            p->fields.len = before;
    }
    buf_add_char(&p->fields, '}');
}

/* ---- The members that have a rule ---- */

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "null";
    }
}

/* What follows "service is empty" and the like. */
static const char *const advice[FIELD_MEMBERS] = {
    [FIELD_SERVICE] = "; it must be 1 to 128 bytes without control characters",
    [FIELD_TIMESTAMP] = " such as 2026-11-24T02:35:02.123Z",
};

static bool take_member(struct parser *p, enum record_field member, const json_t *value,
                        size_t index, struct record *r, struct failure *f)
{
    const char *name = record_rules[member].name.p, *form = record_rules[member].form;
    if (value == NULL) {
        failure_set_record(f, index, name, "%s is missing; it must be %s", name, form);
        return false;
    }
    if (!json_is_string(value)) {
        failure_set_record(f, index, name, "%s must be %s; got %s", name, form, type_name(value));
        return false;
    }
    struct span text = {json_string_value(value), json_string_length(value)};
    const char *wrong = record_set(r, member, text);
    if (wrong != NULL) {
        char shown[FAILURE_SHOWN_MAX];
        failure_set_record(f, index, name, "%s %s%s; got %s", name, wrong,
                           advice[member] != NULL ? advice[member] : "",
                           failure_show(shown, text.p, text.n));
        return false;
    }
    if (member == FIELD_MESSAGE && text.n > p->max_message) {
        failure_set_record(f, index, name,
                           "message is %zu bytes long; at most %zu are taken (--max-message): "
                           "shorten it",
                           text.n, p->max_message);
        return false;
    }
    return true;
}

static bool take_members(struct parser *p, const char *text, size_t n, size_t index,
                         struct record *r, struct failure *f)
{
    size_t taken = 0;
    *r = (struct record){.timestamp_ms = p->now_ms};
    for (enum record_field m = 0; m < FIELD_MEMBERS; m++) {
        const json_t *value = json_object_get(p->tree, record_rules[m].name.p);
        if (value == NULL && m == FIELD_TIMESTAMP)
            continue;
        if (!take_member(p, m, value, index, r, f))
            return false;
        taken++;
    }
    if (json_object_size(p->tree) == taken)
        return true;
    copy_other_members(p, text, n);
    if (p->fields.failed) {
        failure_set_unavailable(f, STORED_NOTHING, "logd is out of memory; try again later");
        return false;
    }
    r->fields = (struct span){p->fields.data, p->fields.len};
    return true;
}

/* ---- Syntax ---- */

/* jansson ends its text with: near '"name"'. */
static void set_duplicate(const json_error_t *error, size_t index, struct failure *f)
{
    char name[sizeof(f->field)] = "";
    const char *from = strstr(error->text, "near '\"");
    const char *to = from != NULL ? strrchr(error->text, '"') : NULL;
    if (to != NULL && to >= from + 7)
        snprintf(name, sizeof(name), "%.*s", (int)(to - from - 7), from + 7);
    failure_set_record(f, index, name, "member \"%s\" appears twice in one object; send it once",
                       name);
}

static void set_syntax(const struct parser *p, const char *text, const json_error_t *error,
                       size_t index, struct failure *f)
{
    size_t offset = (size_t)(text - p->body) + (size_t)error->position;
    switch (json_error_code(error)) {
    case json_error_duplicate_key:
        set_duplicate(error, index, f);
        break;
    case json_error_out_of_memory:
        failure_set_unavailable(f, STORED_NOTHING, "logd is out of memory; try again later");
        break;
    case json_error_numeric_overflow:
        failure_set_record(f, index, "",
                           "a number near byte %zu of the body is too large for a double; send it "
                           "as a string",
                           offset);
        break;
    default:
        failure_set_record(f, index, "", "not valid JSON near byte %zu of the body: %s", offset,
                           error->text);
    }
}

size_t parse_by_jansson(struct parser *p, const char *text, size_t n, size_t index,
                        struct record *r, struct failure *f)
{
    if (is_too_deep(text, n)) {
        failure_set_record(f, index, "", "the record is nested deeper than %d levels: flatten it",
                           PARSE_DEPTH_MAX);
        return 0;
    }
    json_error_t error;
    json_decref(p->tree);
    p->tree = json_loadb(text, n, LOAD_FLAGS, &error);
    if (p->tree == NULL) {
        set_syntax(p, text, &error, index, f);
        return 0;
    }
    /* jansson skips a NUL behind a number or a word, and does not count it. The first one lies
     * within what it counts. */
    size_t length = (size_t)error.position;
    const char *nul = memchr(text, '\0', length);
    if (nul != NULL) {
        failure_set_record(f, index, "",
                           "not valid JSON at byte %zu of the body: a NUL byte; in a string write "
                           "\\u0000",
                           (size_t)(nul - p->body));
        return 0;
    }
    return take_members(p, text, length, index, r, f) ? length : 0;
}

size_t parse_object(struct parser *p, const char *text, size_t n, size_t index, struct record *r,
                    struct failure *f)
{
    size_t quick = quick_object(text, n, p->max_message, p->now_ms, &p->fields, r);
    return quick > 0 ? quick : parse_by_jansson(p, text, n, index, r, f);
}

void parser_free(struct parser *p)
{
    json_decref(p->tree);
    buf_free(&p->fields);
}
