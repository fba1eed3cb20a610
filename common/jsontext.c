#include "common/jsontext.h"

/* What follows the backslash for each character that is escaped: 'u' stands for \u00xx, 0 for no
 * escape. */
static const char escapes[256] = {
    'u',         'u',           'u', 'u', 'u', 'u', 'u', 'u',
    'b',         't',           'n', 'u', 'f', 'r', 'u', 'u', /* 00 */
    'u',         'u',           'u', 'u', 'u', 'u', 'u', 'u',
    'u',         'u',           'u', 'u', 'u', 'u', 'u', 'u', /* 10 */
    ['"'] = '"', ['\\'] = '\\',
};

void jsontext_string(struct buf *out, const char *s, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    buf_add_char(out, '"');
    size_t start = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (escapes[c] == 0)
            continue;
        buf_add(out, s + start, i - start);
        start = i + 1;
        char escape[6] = {'\\', escapes[c], '0', '0', hex[c >> 4], hex[c & 15]};
        buf_add(out, escape, escapes[c] == 'u' ? 6 : 2);
    }
    buf_add(out, s + start, n - start);
    buf_add_char(out, '"');
}
