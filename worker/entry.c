/* entry.c: reads and checks the fields of a stream entry. */
#include "worker/entry.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "common/jsontext.h"
#include "common/utf8.h"

#define QUOTED_MAX 64 /* bytes of a wrong value in the reason */

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
        enum record_field f = record_find(spans[i]);
        if (f == FIELD_COUNT)
            return refuse(reason, "unknown field \"%.*s\"", (int)shown(spans[i]).n,
                          shown(spans[i]).p);
        if (values[f].p != NULL)
            return refuse(reason, "%s is repeated", record_rules[f].name.p);
        values[f] = spans[i + 1];
    }
    for (int f = 0; f < FIELD_MEMBERS; f++)
        if (values[f].p == NULL)
            return refuse(reason, "%s is missing", record_rules[f].name.p);
    return true;
}

/* Copies JSON text without the white space between its tokens. A line break in it would end the
 * log's line. */
static void compact(struct buf *out, struct span json)
{
    bool in_string = false;
    for (size_t i = 0; i < json.n; i++) {
        char c = json.p[i];
        if (c == '"')
            in_string = !in_string;
        else if (in_string && c == '\\')
            buf_add_char(out, json.p[i++]); /* valid JSON: something follows */
        else if (!in_string && jsontext_is_space(c))
            continue;
        buf_add_char(out, json.p[i]);
    }
}

static bool has_reserved_name(const json_t *object, char reason[ENTRY_REASON_MAX])
{
    for (int f = 0; f < FIELD_MEMBERS; f++)
        if (json_object_get(object, record_rules[f].name.p) != NULL) {
            refuse(reason, "fields has a member \"%s\"", record_rules[f].name.p);
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

bool entry_read(struct record *r, const struct span *spans, size_t count, struct buf *scratch,
                char reason[ENTRY_REASON_MAX])
{
    struct span values[FIELD_COUNT] = {0};
    *r = (struct record){0};
    if (!sort_fields(values, spans, count, reason))
        return false;
    for (enum record_field m = 0; m < FIELD_MEMBERS; m++) {
        const char *wrong = record_set(r, m, values[m]);
        if (wrong != NULL)
            return refuse(reason, "%s %s; got \"%.*s\"", record_rules[m].name.p, wrong,
                          (int)shown(values[m]).n, shown(values[m]).p);
    }
    if (!utf8_valid(r->message.p, r->message.n))
        return refuse(reason, "message is not UTF-8");
    return values[FIELD_FIELDS].p == NULL || read_members(r, values[FIELD_FIELDS], scratch, reason);
}
