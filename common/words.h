/* words.h: looks at many bytes at once. jsontext.c and utf8.c use it.
 *
 * A run is looked at in words, which tell exactly where it ends; a long one in blocks, which only
 * tell whether it ends there, and are several times as fast. */
#ifndef COMMON_WORDS_H
#define COMMON_WORDS_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WORD_BYTES      sizeof(uint64_t)
#define WORD_EACH(byte) ((uint64_t)(byte)*0x0101010101010101u)
#define WORD_TOPS       WORD_EACH(0x80) /* the top bit of each byte */

/* A quarter of a block; the compiler makes a register of it. */
typedef uint8_t block_part __attribute__((vector_size(16)));
#define BLOCK_BYTES (4 * sizeof(block_part))

/* A run that ends within so many bytes is not worth a block. */
#define WORDS_FIRST 32

/* The first byte of a word is its lowest, on each machine. */
static inline uint64_t word_at(const char *s)
{
    uint64_t word;
    memcpy(&word, s, sizeof(word));
    return le64toh(word);
}

/* The index of the first byte whose top bit is set; there is one. */
static inline size_t word_first_top(uint64_t tops)
{
    return (size_t)__builtin_ctzll(tops) / 8;
}

static inline block_part block_part_at(const char *s, size_t i)
{
    block_part part;
    memcpy(&part, s + i * sizeof(part), sizeof(part));
    return part;
}

/* Whether any of these bits is set in any byte. */
static inline bool block_part_has(block_part part, uint8_t bits)
{
    uint64_t words[2];
    memcpy(words, &part, sizeof(words));
    return ((words[0] | words[1]) & WORD_EACH(bits)) != 0;
}

#endif
