/* jsontext.c: writes JSON strings. logd, logworker and the library use it. */
#include "common/jsontext.h"

#include <stdint.h>

/* What follows the backslash of each character that is escaped. 'u' means \u00xx, 0 no escape. */
static const char escapes[256] = {
    'u',         'u',           'u', 'u', 'u', 'u', 'u', 'u',
    'b',         't',           'n', 'u', 'f', 'r', 'u', 'u', /* 00 */
    'u',         'u',           'u', 'u', 'u', 'u', 'u', 'u',
    'u',         'u',           'u', 'u', 'u', 'u', 'u', 'u', /* 10 */
    ['"'] = '"', ['\\'] = '\\',
};

#define EACH(byte) ((uint64_t)(byte)*0x0101010101010101u)

size_t jsontext_plain(const char *s, size_t n)
{
    size_t i = 0;
    for (; n - i >= 8; i += 8) {
        uint64_t word;
        memcpy(&word, s + i, 8);
        /* The top bit of a byte is set where the subtraction borrows: below 0x20, or at the
         * character. A borrow from the byte before may set it too often, never too rarely. Bytes of
         * 0x80 and more are masked out. */
        uint64_t quote = word ^ EACH('"'), backslash = word ^ EACH('\\');
        uint64_t special = (word - EACH(0x20)) & ~word;
        special |= (quote - EACH(1)) & ~quote;
        special |= (backslash - EACH(1)) & ~backslash;
        if (special & EACH(0x80))
            break;
    }
    return i;
}

void jsontext_string(struct buf *out, const char *s, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    buf_add_char(out, '"');
    size_t start = 0;
    for (size_t i = jsontext_plain(s, n); i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (escapes[c] == 0)
            continue;
        buf_add(out, s + start, i - start);
        start = i + 1;
        char escape[6] = {'\\', escapes[c], '0', '0', hex[c >> 4], hex[c & 15]};
        buf_add(out, escape, escapes[c] == 'u' ? 6 : 2);
        i += jsontext_plain(s + start, n - start);
    }
    buf_add(out, s + start, n - start);
    buf_add_char(out, '"');
}
