#include "common/record.h"

#include "common/jsontext.h"
#include "common/timestamp.h"
#include "common/utf8.h"

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
