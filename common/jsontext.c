/* jsontext.c: writes JSON strings. logd, logworker and the library use it. */
#include "common/jsontext.h"

#include "common/words.h"

/* What follows the backslash of each character that is escaped. 'u' means \u00xx, 0 no escape. */
static const char escapes[256] = {
    'u',         'u',           'u', 'u', 'u', 'u', 'u', 'u',
    'b',         't',           'n', 'u', 'f', 'r', 'u', 'u', /* 00 */
    'u',         'u',           'u', 'u', 'u', 'u', 'u', 'u',
    'u',         'u',           'u', 'u', 'u', 'u', 'u', 'u', /* 10 */
    ['"'] = '"', ['\\'] = '\\',
};

/* The top bits of the bytes that are escaped; above the first of them, others may be set, too. */
static uint64_t special_bytes(uint64_t word)
{
    /* A subtraction borrows at a byte below 0x20, or at the character itself. A borrow from a byte
     * goes on into the next one. Bytes of 0x80 and more are masked out. */
    uint64_t quote = word ^ WORD_EACH('"'), backslash = word ^ WORD_EACH('\\');
    uint64_t borrowed =
        (word - WORD_EACH(0x20)) | (quote - WORD_EACH(1)) | (backslash - WORD_EACH(1));
    return borrowed & ~word & WORD_TOPS;
}

static block_part special_part(const char *s, size_t i)
{
    block_part bytes = block_part_at(s, i);
    return (block_part)((bytes < 0x20) | (bytes == '"') | (bytes == '\\'));
}

static bool is_plain_block(const char *s)
{
    return !block_part_has(
        special_part(s, 0) | special_part(s, 1) | special_part(s, 2) | special_part(s, 3), 0xff);
}

static size_t plain_words(const char *s, size_t n)
{
    size_t i = 0;
    for (; n - i >= WORD_BYTES; i += WORD_BYTES) {
        uint64_t special = special_bytes(word_at(s + i));
        if (special != 0)
            return i + word_first_top(special);
    }
    while (i < n && escapes[(unsigned char)s[i]] == 0)
        i++;
    return i;
}

size_t jsontext_plain(const char *s, size_t n)
{
    size_t i = plain_words(s, n < WORDS_FIRST ? n : WORDS_FIRST);
    if (i < WORDS_FIRST)
        return i;
    while (n - i >= BLOCK_BYTES && is_plain_block(s + i))
        i += BLOCK_BYTES;
    return i + plain_words(s + i, n - i);
}

static void add_escape(struct buf *out, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    char escape[6] = {'\\', escapes[c], '0', '0', hex[c >> 4], hex[c & 15]};
    buf_add(out, escape, escapes[c] == 'u' ? 6 : 2);
}

void jsontext_string(struct buf *out, const char *s, size_t n)
{
    const char *end = s + n;
    buf_add_char(out, '"');
    for (;;) {
        size_t plain = jsontext_plain(s, (size_t)(end - s));
        buf_add(out, s, plain);
        s += plain;
        if (s == end)
            break;
        add_escape(out, (unsigned char)*s++);
    }
    buf_add_char(out, '"');
}
