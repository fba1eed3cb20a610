/* utf8.c: checks, cuts and repairs UTF-8. All programs and the library use it. */
#include "common/utf8.h"

#include "common/words.h"

static bool is_ascii_block(const char *s)
{
    return !block_part_has(block_part_at(s, 0) | block_part_at(s, 1) | block_part_at(s, 2) |
                               block_part_at(s, 3),
                           0x80);
}

static size_t ascii_words(const char *s, size_t n)
{
    size_t i = 0;
    for (; n - i >= WORD_BYTES; i += WORD_BYTES) {
        uint64_t tops = word_at(s + i) & WORD_TOPS;
        if (tops != 0)
            return i + word_first_top(tops);
    }
    while (i < n && (unsigned char)s[i] < 0x80)
        i++;
    return i;
}

/* Length of the ASCII prefix. */
static size_t ascii_prefix(const char *s, size_t n)
{
    size_t i = ascii_words(s, n < WORDS_FIRST ? n : WORDS_FIRST);
    if (i < WORDS_FIRST)
        return i;
    while (n - i >= BLOCK_BYTES && is_ascii_block(s + i))
        i += BLOCK_BYTES;
    return i + ascii_words(s + i, n - i);
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
