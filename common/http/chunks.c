/* chunks.c: a state machine over the bytes of one request. */
#include "common/http/chunks.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DIGITS_MAX 15 /* of a chunk's size */

static void add(struct chunks *c, const char *p, size_t n)
{
    if (c->line_len < sizeof(c->line)) {
        size_t room = sizeof(c->line) - c->line_len;
        memcpy(c->line + c->line_len, p, n < room ? n : room);
    }
    c->line_len += n;
}

/* Lines of the head may end with a bare LF (RFC 9112, 2.2). For evhttp a NUL ends a line, too. */
static void end_head_line(struct chunks *c)
{
    static const char name[] = "transfer-encoding:";
    char first = c->line[0] == '\r' && c->line_len == 2 ? '\n' : c->line[0];
    if (first != '\n' && first != '\0')
        c->begun = true;
    else if (c->begun)
        c->state = c->chunked ? CHUNKS_SIZE : CHUNKS_DONE;
    /* Any other value than "chunked" is refused when the head is looked at. */
    if (c->line_len >= sizeof(name) && strncasecmp(c->line, name, sizeof(name) - 1) == 0)
        c->chunked = true;
}

static bool end_size(struct chunks *c)
{
    size_t digits = 0;
    while (digits < DIGITS_MAX && digits < c->line_len && isxdigit((unsigned char)c->line[digits]))
        digits++;
    if (digits == 0 || c->line_len != digits + 2 || c->line[digits] != '\r')
        return false;
    c->left = strtoull(c->line, NULL, 16);
    c->state = c->left > 0 ? CHUNKS_DATA : CHUNKS_DONE;
    return true;
}

static bool end_line(struct chunks *c)
{
    bool ok = true;
    if (c->state == CHUNKS_HEAD) {
        end_head_line(c);
    } else if (c->state == CHUNKS_SIZE) {
        ok = end_size(c);
    } else {
        ok = c->line_len == 2 && c->line[0] == '\r';
        c->state = CHUNKS_SIZE;
    }
    c->line_len = 0;
    return ok;
}

static size_t skip(struct chunks *c, size_t n)
{
    size_t taken = c->left < n ? (size_t)c->left : n;
    c->left -= taken;
    if (c->left == 0)
        c->state = CHUNKS_DATA_END;
    return taken;
}

bool chunks_feed(struct chunks *c, const char *p, size_t n)
{
    const char *end = p + n;
    while (p < end && c->state != CHUNKS_DONE) {
        if (c->state == CHUNKS_DATA) {
            p += skip(c, (size_t)(end - p));
            continue;
        }
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        const char *stop = newline != NULL ? newline + 1 : end;
        add(c, p, (size_t)(stop - p));
        p = stop;
        if (newline != NULL && !end_line(c))
            return false;
    }
    return true;
}
