/* utf8.c: checks, cuts and repairs UTF-8. All programs and the library use it. */
#include "common/utf8.h"

#include <stdint.h>

/* Length of the ASCII prefix. */
static size_t ascii_prefix(const char *s, size_t n)
{
    size_t i = 0;
    for (; n - i >= 8; i += 8) {
        uint64_t word;
        memcpy(&word, s + i, 8);
        if (word & 0x8080808080808080u)
            break;
    }
    while (i < n && (unsigned char)s[i] < 0x80)
        i++;
    return i;
}

/* The length of the multi-byte character at s (n > 0), or 0 when it is ill-formed. Then *bad is the
 * length of the maximal ill-formed part. Unicode 15, table 3-7, has the ranges of second bytes. */
static size_t sequence(const unsigned char *s, size_t n, size_t *bad)
{
    unsigned char first = s[0];
    unsigned char low = 0x80, high = 0xbf; /* of the second byte */
    size_t want;
    if (first >= 0xc2 && first <= 0xdf) {
        want = 2;
    } else if (first >= 0xe0 && first <= 0xef) {
        want = 3;
        low = first == 0xe0 ? 0xa0 : 0x80;
        high = first == 0xed ? 0x9f : 0xbf;
    } else if (first >= 0xf0 && first <= 0xf4) {
        want = 4;
        low = first == 0xf0 ? 0x90 : 0x80;
        high = first == 0xf4 ? 0x8f : 0xbf;
    } else {
        *bad = 1;
        return 0;
    }
    size_t i = 1;
    for (; i < want && i < n; i++, low = 0x80, high = 0xbf)
        if (s[i] < low || s[i] > high)
            break;
    *bad = i;
    return i == want ? want : 0;
}

size_t utf8_valid_prefix(const char *s, size_t n)
{
    size_t i = ascii_prefix(s, n);
    while (i < n) {
        size_t bad;
        size_t length = sequence((const unsigned char *)s + i, n - i, &bad);
        if (length == 0)
            return i;
        i += length;
        i += ascii_prefix(s + i, n - i);
    }
    return n;
}

size_t utf8_cut(const char *s, size_t n, size_t max)
{
    if (n <= max)
        return n;
    /* s[i] is the first byte left out. A continuation byte there means a split character. */
    size_t i = max;
    while (i > 0 && max - i < 3 && ((unsigned char)s[i] & 0xc0) == 0x80)
        i--;
    return i;
}

void utf8_repair(struct buf *out, const char *s, size_t n)
{
    while (n > 0) {
        size_t valid = utf8_valid_prefix(s, n);
        buf_add(out, s, valid);
        s += valid;
        n -= valid;
        if (n == 0)
            break;
        size_t bad;
        sequence((const unsigned char *)s, n, &bad);
        buf_add_lit(out, "\xef\xbf\xbd");
        s += bad;
        n -= bad;
    }
}
