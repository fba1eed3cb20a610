/* level.c: reads and names the severity levels. All programs and the library use it. */
#include "common/level.h"

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define LONGEST 8 /* "critical": a name fits into one word; its first byte is the lowest */

#define WORD4(a, b, c, d)                                                                          \
    ((uint64_t)(a) | (uint64_t)(b) << 8 | (uint64_t)(c) << 16 | (uint64_t)(d) << 24)
#define WORD(a, b, c, d, e, f, g, h) (WORD4(a, b, c, d) | WORD4(e, f, g, h) << 32)

static uint64_t half_word(const char *s)
{
    uint32_t half;
    memcpy(&half, s, sizeof(half));
    return le32toh(half);
}

/* The name as one word, in small letters. The two halves may overlap: they hold the same bytes
 * there, in the same place. */
static uint64_t word_of(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    uint64_t word;
    if (n >= 4)
        word = half_word(s) | half_word(s + n - 4) << 8 * (n - 4);
    else
        word = u[0] | (uint64_t)u[n / 2] << 8 * (n / 2) | (uint64_t)u[n - 1] << 8 * (n - 1);
    /* This makes letters small, and no other byte a letter. */
    return word | 0x2020202020202020u >> 8 * (LONGEST - n);
}

enum level level_parse(const char *name, size_t n)
{
    if (n == 0 || n > LONGEST)
        return LEVEL_INVALID;
    switch (word_of(name, n)) {
    case WORD('t', 'r', 'a', 'c', 'e', 0, 0, 0):
    case WORD('s', 'i', 'l', 'l', 'y', 0, 0, 0):
        return LEVEL_TRACE;
    case WORD('d', 'e', 'b', 'u', 'g', 0, 0, 0):
    case WORD('v', 'e', 'r', 'b', 'o', 's', 'e', 0):
    case WORD('h', 't', 't', 'p', 0, 0, 0, 0):
        return LEVEL_DEBUG;
    case WORD('i', 'n', 'f', 'o', 0, 0, 0, 0):
    case WORD('n', 'o', 't', 'i', 'c', 'e', 0, 0):
        return LEVEL_INFO;
    case WORD('w', 'a', 'r', 'n', 0, 0, 0, 0):
    case WORD('w', 'a', 'r', 'n', 'i', 'n', 'g', 0):
        return LEVEL_WARN;
    case WORD('e', 'r', 'r', 'o', 'r', 0, 0, 0):
    case WORD('e', 'r', 'r', 0, 0, 0, 0, 0):
        return LEVEL_ERROR;
    case WORD('f', 'a', 't', 'a', 'l', 0, 0, 0):
    case WORD('c', 'r', 'i', 't', 0, 0, 0, 0):
    case WORD('c', 'r', 'i', 't', 'i', 'c', 'a', 'l'):
    case WORD('a', 'l', 'e', 'r', 't', 0, 0, 0):
    case WORD('e', 'm', 'e', 'r', 'g', 0, 0, 0):
    case WORD('p', 'a', 'n', 'i', 'c', 0, 0, 0):
        return LEVEL_FATAL;
    default:
        return LEVEL_INVALID;
    }
}

const char *level_name(enum level level)
{
    static const char *const names[] = {"trace", "debug", "info", "warn", "error", "fatal"};
    return names[level];
}
