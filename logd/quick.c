/* quick.c: reads flat objects of the four members; parse.c asks it first. */
#include "logd/quick.h"

#include <stdbool.h>

#include "common/jsontext.h"
#include "common/utf8.h"

struct cursor {
    const char *at, *end;
    struct buf *scratch; /* strings that had escapes */
};

static bool take(struct cursor *c, char wanted)
{
    c->at = jsontext_skip_space(c->at, c->end);
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

/* The value of four hexadecimal digits, or -1. */
static int hex4(const char *s)
{
    int value = 0;
    for (int i = 0; i < 4; i++) {
        char c = (char)(s[i] | 0x20);
        int digit = s[i] >= '0' && s[i] <= '9' ? s[i] - '0'
                    : c >= 'a' && c <= 'f'     ? c - 'a' + 10
                                               : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* Decodes \uXXXX at c->at, which is behind the 'u'. Surrogates are left to jansson. */
static bool take_unicode(struct cursor *c)
{
    int u = c->end - c->at >= 4 ? hex4(c->at) : -1;
    if (u < 0 || (u >= 0xd800 && u <= 0xdfff))
        return false;
    c->at += 4;
    if (u < 0x80) {
        buf_add_char(c->scratch, (char)u);
    } else if (u < 0x800) {
        buf_add_char(c->scratch, (char)(0xc0 | u >> 6));
        buf_add_char(c->scratch, (char)(0x80 | (u & 0x3f)));
    } else {
        buf_add_char(c->scratch, (char)(0xe0 | u >> 12));
        buf_add_char(c->scratch, (char)(0x80 | (u >> 6 & 0x3f)));
        buf_add_char(c->scratch, (char)(0x80 | (u & 0x3f)));
    }
    return true;
}

/* Decodes the escape at c->at, which is behind the backslash. */
static bool take_escape(struct cursor *c)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (c->at == c->end)
        return false;
    char escape = *c->at++;
    if (escape == 'u')
        return take_unicode(c);
    const char *found = escape == '\0' ? NULL : strchr(from, escape);
    if (found == NULL)
        return false;
    buf_add_char(c->scratch, to[found - from]);
    return true;
}

/* Moves to the quote or backslash that ends a run. False: there is none. */
static bool pass_plain(struct cursor *c)
{
    c->at += jsontext_plain(c->at, (size_t)(c->end - c->at));
    return c->at < c->end && (unsigned char)*c->at >= 0x20;
}

/* Takes a string with escapes, whose first one is at c->at. */
static bool take_escaped(struct cursor *c, const char *start, struct span *out)
{
    /* Decoding makes strings shorter. Take room for all that is to come: spans point into it, and
     * must not move. */
    if (c->scratch->len == 0 && !buf_reserve(c->scratch, (size_t)(c->end - start)))
        return false;
    size_t decoded = c->scratch->len;
    for (;;) {
        buf_add(c->scratch, start, (size_t)(c->at - start));
        if (*c->at++ == '"')
            break;
        if (!take_escape(c))
            return false;
        start = c->at;
        if (!pass_plain(c))
            return false;
    }
    *out = (struct span){c->scratch->data + decoded, c->scratch->len - decoded};
    return true;
}

/* Takes a string, which may not be UTF-8; *out points into the text, or into the scratch buffer
 * when it has escapes. */
static bool take_string(struct cursor *c, struct span *out)
{
    if (!take(c, '"'))
        return false;
    const char *start = c->at;
    if (!pass_plain(c))
        return false;
    if (*c->at == '\\')
        return take_escaped(c, start, out);
    *out = (struct span){start, (size_t)(c->at++ - start)};
    return true;
}

/* Takes the members up to the closing brace, each at most once and no others. Of the message only,
 * record_set() does not see whether it is UTF-8. */
static bool take_members(struct cursor *c, struct span values[FIELD_MEMBERS])
{
    do {
        struct span name;
        if (!take_string(c, &name))
            return false;
        enum record_field m = record_find(name);
        if (m >= FIELD_MEMBERS || values[m].p != NULL || !take(c, ':'))
            return false;
        if (!take_string(c, &values[m]))
            return false;
    } while (take(c, ','));
    return take(c, '}') && utf8_valid(values[FIELD_MESSAGE].p, values[FIELD_MESSAGE].n);
}

size_t quick_object(const char *text, size_t n, size_t max_message, int64_t now_ms,
                    struct buf *scratch, struct record *r)
{
    struct cursor c = {text + 1, text + n, scratch};
    struct span values[FIELD_MEMBERS] = {{0}};
    buf_clear(scratch);
    if (!take_members(&c, values) || values[FIELD_MESSAGE].n > max_message)
        return 0;
    *r = (struct record){.timestamp_ms = now_ms};
    for (enum record_field f = 0; f < FIELD_MEMBERS; f++) {
        if (values[f].p == NULL && f == FIELD_TIMESTAMP)
            continue;
        if (values[f].p == NULL || record_set(r, f, values[f]) != NULL)
            return 0;
    }
    return (size_t)(c.at - text);
}
