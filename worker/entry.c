#include "worker/entry.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "common/timestamp.h"
#include "common/utf8.h"

#define QUOTED_MAX 64 /* bytes of a wrong value in the reason */

enum field {
    FIELD_SERVICE,
    FIELD_LEVEL,
    FIELD_MESSAGE,
    FIELD_TIMESTAMP,
    FIELD_FIELDS,
    FIELD_COUNT,
};

#define FIELD_REQUIRED FIELD_FIELDS /* those before it */

static const struct span names[FIELD_COUNT] = {
    SPAN_LIT("service"),   SPAN_LIT("level"),  SPAN_LIT("message"),
    SPAN_LIT("timestamp"), SPAN_LIT("fields"),
};

static enum field find_name(struct span name)
{
    int f = 0;
    while (f < FIELD_COUNT && (names[f].n != name.n || memcmp(names[f].p, name.p, name.n) != 0))
        f++;
    return (enum field)f;
}

__attribute__((format(printf, 2, 3))) static bool refuse(char reason[ENTRY_REASON_MAX],
                                                         const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(reason, ENTRY_REASON_MAX, format, args);
    va_end(args);
    return false;
}

/* The start of a value, for a reason: text that is not UTF-8 is not shown. */
static struct span shown(struct span value)
{
    struct span s = {value.p, utf8_cut(value.p, value.n, QUOTED_MAX)};
    return utf8_valid(s.p, s.n) ? s : SPAN_LIT("(not UTF-8)");
}

/* Puts each value into its place. */
static bool sort_fields(struct span values[FIELD_COUNT], const struct span *spans, size_t count,
                        char reason[ENTRY_REASON_MAX])
{
    if (count > ENTRY_SPANS_MAX || count % 2 != 0)
        return refuse(reason, "the entry has %zu fields; at most 5 are known", count / 2);
    for (size_t i = 0; i < count; i += 2) {
        enum field f = find_name(spans[i]);
        if (f == FIELD_COUNT)
            return refuse(reason, "unknown field \"%.*s\"", (int)shown(spans[i]).n,
                          shown(spans[i]).p);
        if (values[f].p != NULL)
            return refuse(reason, "%s is repeated", names[f].p);
        values[f] = spans[i + 1];
    }
    for (int f = 0; f < FIELD_REQUIRED; f++)
        if (values[f].p == NULL)
            return refuse(reason, "%s is missing", names[f].p);
    return true;
}

/* Copies JSON text without the white space between its tokens, line breaks above all. */
static void compact(struct buf *out, struct span json)
{
    bool in_string = false;
    for (size_t i = 0; i < json.n; i++) {
        char c = json.p[i];
        if (c == '"')
            in_string = !in_string;
        else if (in_string && c == '\\')
            buf_add_char(out, json.p[i++]); /* valid JSON: something follows */
        else if (!in_string && (c == ' ' || c == '\t' || c == '\n' || c == '\r'))
            continue;
        buf_add_char(out, json.p[i]);
    }
}

static bool has_reserved_name(const json_t *object, char reason[ENTRY_REASON_MAX])
{
    for (int f = 0; f < FIELD_REQUIRED; f++)
        if (json_object_get(object, names[f].p) != NULL) {
            refuse(reason, "fields has a member \"%s\"", names[f].p);
            return true;
        }
    return false;
}

/* Validates the members; their text is kept as it was sent. */
static bool read_members(struct record *r, struct span json, struct buf *scratch,
                         char reason[ENTRY_REASON_MAX])
{
    json_error_t error;
    /* jansson passes over a NUL byte behind a number or a word. */
    bool nul = memchr(json.p, '\0', json.n) != NULL, good = false;
    json_t *object =
        nul ? NULL
            : json_loadb(json.p, json.n,
                         JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL | JSON_REJECT_DUPLICATES, &error);
    if (nul)
        refuse(reason, "fields holds a NUL byte");
    else if (object == NULL)
        refuse(reason, "fields is not a JSON object: %s", error.text);
    else if (!json_is_object(object))
        refuse(reason, "fields is not a JSON object");
    else if (!has_reserved_name(object, reason))
        good = true;
    json_decref(object);
    if (!good)
        return false;
    buf_clear(scratch);
    compact(scratch, json);
    r->fields = (struct span){scratch->data, scratch->len};
    return true;
}

static bool read_message(struct record *r, struct span value, size_t max,
                         char reason[ENTRY_REASON_MAX])
{
    r->message = value;
    if (value.n > max)
        return refuse(reason, "message has %zu bytes; --max-message allows %zu", value.n, max);
    if (!utf8_valid(value.p, value.n))
        return refuse(reason, "message is not UTF-8");
    return true;
}

bool entry_read(struct record *r, const struct span *spans, size_t count, size_t message_max,
                struct buf *scratch, char reason[ENTRY_REASON_MAX])
{
    struct span values[FIELD_COUNT] = {0};
    *r = (struct record){0};
    if (!sort_fields(values, spans, count, reason))
        return false;
    r->service = values[FIELD_SERVICE];
    const char *wrong = record_service_error(r->service.p, r->service.n);
    if (wrong != NULL)
        return refuse(reason, "service %s", wrong);
    struct span level = values[FIELD_LEVEL], time = values[FIELD_TIMESTAMP];
    r->level = level_parse(level.p, level.n);
    if (r->level == LEVEL_INVALID)
        return refuse(reason, "level must be one of " LEVEL_NAMES "; got \"%.*s\"",
                      (int)shown(level).n, shown(level).p);
    if (!timestamp_parse(time.p, time.n, &r->timestamp_ms))
        return refuse(reason, "timestamp must be an RFC 3339 date-time; got \"%.*s\"",
                      (int)shown(time).n, shown(time).p);
    return read_message(r, values[FIELD_MESSAGE], message_max, reason) &&
           (values[FIELD_FIELDS].p == NULL ||
            read_members(r, values[FIELD_FIELDS], scratch, reason));
}
