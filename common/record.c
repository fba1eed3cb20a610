/* record.c: what is known of the fields of a record, and its line in app.log. */
#include "common/record.h"

#include "common/jsontext.h"
#include "common/timestamp.h"
#include "common/utf8.h"

const struct record_rule record_rules[FIELD_COUNT] = {
    [FIELD_SERVICE] = {SPAN_LIT("service"), "a string of 1 to 128 bytes"},
    [FIELD_LEVEL] = {SPAN_LIT("level"), "one of " LEVEL_NAMES},
    [FIELD_MESSAGE] = {SPAN_LIT("message"), "a string"},
    [FIELD_TIMESTAMP] = {SPAN_LIT("timestamp"), "a string with an RFC 3339 date-time"},
    [FIELD_FIELDS] = {SPAN_LIT("fields"), "a JSON object"},
};

enum record_field record_find(struct span name)
{
    enum record_field f = 0;
    /* memcmp(3) is dear for so few bytes. */
    for (; f < FIELD_COUNT; f++) {
        struct span known = record_rules[f].name;
        if (name.n == known.n && name.p[0] == known.p[0] && span_equal(name, known))
            break;
    }
    return f;
}

const char *record_service_form_error(const char *s, size_t n)
{
    if (n == 0)
        return "is empty";
    if (n > RECORD_SERVICE_MAX)
        return "is longer than 128 bytes";
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
            return "holds a control character";
    return NULL;
}

const char *record_service_error(const char *s, size_t n)
{
    const char *error = record_service_form_error(s, n);
    return error != NULL || utf8_valid(s, n) ? error : "is not UTF-8";
}

const char *record_set(struct record *r, enum record_field member, struct span value)
{
    switch (member) {
    case FIELD_SERVICE:
        r->service = value;
        return record_service_error(value.p, value.n);
    case FIELD_LEVEL:
        r->level = level_parse(value.p, value.n);
        return r->level == LEVEL_INVALID ? "must be one of " LEVEL_NAMES : NULL;
    case FIELD_TIMESTAMP:
        return timestamp_parse(value.p, value.n, &r->timestamp_ms)
                   ? NULL
                   : "must be an RFC 3339 date-time";
    default:
        r->message = value;
        return NULL;
    }
}

void record_write_line(struct buf *out, const struct record *r)
{
    char timestamp[TIMESTAMP_LEN];
    const char *level = level_name(r->level);
    timestamp_format(r->timestamp_ms, timestamp);
    buf_add_lit(out, "{\"level\":\"");
    buf_add(out, level, strlen(level));
    buf_add_lit(out, "\",\"message\":");
    jsontext_string(out, r->message.p, r->message.n);
    buf_add_lit(out, ",\"service\":");
    jsontext_string(out, r->service.p, r->service.n);
    buf_add_lit(out, ",\"timestamp\":\"");
    buf_add(out, timestamp, TIMESTAMP_LEN);
    buf_add_char(out, '"');
    /* The members of a non-empty object, without its braces. */
    if (r->fields.n > 2) {
        buf_add_char(out, ',');
        buf_add(out, r->fields.p + 1, r->fields.n - 2);
    }
    buf_add_lit(out, "}\n");
}
