#include "logd/parse.h"

#include <stdbool.h>
#include <stdio.h>

#include "common/timestamp.h"
#include "logd/quick.h"

/* Integers are read as reals so that none is too large; other members are kept as text anyway. */
#define LOAD_FLAGS                                                                                 \
    (JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL | JSON_DISABLE_EOF_CHECK)

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* From an opening quote to behind the closing one, or to end. */
static const char *skip_string(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\')
            at++;
    return at < end ? at + 1 : end;
}

/* jansson recurses to a depth of 2048; this looks first. Of text that is no JSON it may think
 * anything: jansson refuses that afterwards. */
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
    return strcmp(name, "service") == 0 || strcmp(name, "level") == 0 ||
           strcmp(name, "message") == 0 || strcmp(name, "timestamp") == 0;
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
        } else if (is_space(*at) || *at == ',' || *at == ':') {
            at++;
        } else {
            do
                at++;
            while (at < end && !is_space(*at) && strchr(",:{}[]\"", *at) == NULL);
        }
        if (!is_space(*from))
            buf_add(out, from, (size_t)(at - from));
    } while (depth > 0 && at < end);
    return at;
}

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && is_space(*at))
        at++;
    return at;
}

/* Collects the text of all members but the four. The text is valid, and the tree holds its members
 * in the order of the text, so the two are walked in step: the tree knows the names without
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
        at = copy_value(&p->fields, skip_space(at, end), end); /* the name */
        at = skip_space(at, end) + 1;                          /* the colon */
        buf_add_char(&p->fields, ':');
        at = copy_value(&p->fields, skip_space(at, end), end);
        at = skip_space(at, end) + 1; /* the comma, or the closing brace */
        if (is_known(json_object_iter_key(i)) && !p->fields.failed)
            p->fields.len = before;
    }
    buf_add_char(&p->fields, '}');
}

/* ---- The four ---- */

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

static bool take_string(const json_t *value, size_t index, const char *field, const char *rule,
                        struct span *out, struct failure *f)
{
    if (value == NULL) {
        failure_set_record(f, index, field, "%s is missing; it must be %s", field, rule);
        return false;
    }
    if (!json_is_string(value)) {
        failure_set_record(f, index, field, "%s must be %s; got %s", field, rule, type_name(value));
        return false;
    }
    *out = (struct span){json_string_value(value), json_string_length(value)};
    return true;
}

static bool take_service(const json_t *value, size_t index, struct record *r, struct failure *f)
{
    if (!take_string(value, index, "service", "a string of 1 to 128 bytes", &r->service, f))
        return false;
    const char *wrong = record_service_error(r->service.p, r->service.n);
    if (wrong == NULL)
        return true;
    char shown[FAILURE_SHOWN_MAX];
    failure_set_record(f, index, "service",
                       "service %s; it must be 1 to 128 bytes without control characters; got %s",
                       wrong, failure_show(shown, r->service.p, r->service.n));
    return false;
}

static bool take_level(const json_t *value, size_t index, struct record *r, struct failure *f)
{
    struct span level;
    if (!take_string(value, index, "level", "one of " LEVEL_NAMES, &level, f))
        return false;
    r->level = level_parse(level.p, level.n);
    if (r->level != LEVEL_INVALID)
        return true;
    char shown[FAILURE_SHOWN_MAX];
    failure_set_record(f, index, "level", "level must be one of " LEVEL_NAMES "; got %s",
                       failure_show(shown, level.p, level.n));
    return false;
}

static bool take_message(const json_t *value, size_t index, size_t max, struct record *r,
                         struct failure *f)
{
    if (!take_string(value, index, "message", "a string", &r->message, f))
        return false;
    if (r->message.n <= max)
        return true;
    failure_set_record(f, index, "message",
                       "message is %zu bytes long; at most %zu are taken (--max-message): "
                       "shorten it",
                       r->message.n, max);
    return false;
}

static bool take_timestamp(const json_t *value, size_t index, int64_t now_ms, struct record *r,
                           struct failure *f)
{
    r->timestamp_ms = now_ms;
    if (value == NULL)
        return true;
    struct span text;
    if (!take_string(value, index, "timestamp", "a string with an RFC 3339 date-time", &text, f))
        return false;
    if (timestamp_parse(text.p, text.n, &r->timestamp_ms))
        return true;
    char shown[FAILURE_SHOWN_MAX];
    failure_set_record(f, index, "timestamp",
                       "timestamp must be an RFC 3339 date-time such as 2026-11-24T02:35:02.123Z; "
                       "got %s",
                       failure_show(shown, text.p, text.n));
    return false;
}

static bool take_members(struct parser *p, const char *text, size_t n, size_t index,
                         struct record *r, struct failure *f)
{
    json_t *service = json_object_get(p->tree, "service");
    json_t *level = json_object_get(p->tree, "level");
    json_t *message = json_object_get(p->tree, "message");
    json_t *timestamp = json_object_get(p->tree, "timestamp");
    if (!take_service(service, index, r, f) || !take_level(level, index, r, f) ||
        !take_message(message, index, p->max_message, r, f) ||
        !take_timestamp(timestamp, index, p->now_ms, r, f))
        return false;
    r->fields = (struct span){0};
    if (json_object_size(p->tree) == (timestamp != NULL ? 4 : 3))
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
    /* jansson passes over a NUL behind a number or a word, and does not count it; the first one
     * lies within what it counts. */
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
