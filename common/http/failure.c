/* failure.c: error answers as text. */
#include "common/http/failure.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/jsontext.h"
#include "common/utf8.h"

#define SHOWN_BYTES 40

static void __attribute__((format(printf, 3, 0)))
set(struct failure *f, int status, const char *format, va_list args)
{
    f->status = status;
    f->retry_after = 0;
    f->allow = NULL;
    f->stored = STORED_UNSAID;
    f->index = -1;
    f->field[0] = '\0';
    vsnprintf(f->text, sizeof(f->text), format, args);
}

void failure_set(struct failure *f, int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set(f, status, format, args);
    va_end(args);
}

void failure_set_record(struct failure *f, size_t index, const char *field, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set(f, 400, format, args);
    va_end(args);
    f->index = (long)index;
    snprintf(f->field, sizeof(f->field), "%s", field);
}

void failure_set_unavailable(struct failure *f, enum failure_stored stored, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set(f, 503, format, args);
    va_end(args);
    f->retry_after = 1;
    f->stored = stored;
}

/* The text may be cut in the middle of a character. */
void failure_add_string(struct buf *out, const char *s)
{
    struct buf repaired = {0};
    utf8_repair(&repaired, s, strlen(s));
    if (repaired.failed)
        out->failed = true;
    else
        jsontext_string(out, repaired.data, repaired.len);
    buf_free(&repaired);
}

void failure_write(const struct failure *f, struct buf *out)
{
    buf_add_lit(out, "{\"error\":");
    failure_add_string(out, f->text);
    if (f->index >= 0) {
        buf_printf(out, ",\"index\":%ld,\"field\":", f->index);
        failure_add_string(out, f->field);
    }
    if (f->stored == STORED_NOTHING)
        buf_add_lit(out, ",\"stored\":false");
    else if (f->stored == STORED_UNKNOWN)
        buf_add_lit(out, ",\"stored\":null");
    buf_add_char(out, '}');
}

const char *failure_show(char out[FAILURE_SHOWN_MAX], const char *value, size_t n)
{
    size_t shown = utf8_cut(value, n, SHOWN_BYTES);
    char *p = out;
    *p++ = '"';
    for (size_t i = 0; i < shown; i++) {
        unsigned char c = (unsigned char)value[i];
        *p++ = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    snprintf(p, (size_t)(out + FAILURE_SHOWN_MAX - p), "%s\"", shown < n ? "…" : "");
    return out;
}
