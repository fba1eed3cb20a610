/* ring-check-internal.h: the check word of a record (doc/protocol.md, section 6.4). The part that
 * each call computes is here, to be inlined. */
#ifndef LC_RING_CHECK_INTERNAL_H
#define LC_RING_CHECK_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#define LC_CHECK_ODD UINT64_C(0x9e3779b97f4a7c15)

/* The two halves of the product, one over the other. */
static inline uint64_t lc_fold(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
    __extension__ typedef unsigned __int128 product;
    product p = (product)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
#else
    uint64_t al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32;
    uint64_t low = al * bl, mid = ah * bl + (low >> 32), other = al * bh + (uint32_t)mid;
    return (other << 32 | (uint32_t)low) ^ (ah * bh + (mid >> 32) + (other >> 32));
#endif
}

/* Of all but the text. `offset` is the slot's place in the data area. */
static inline uint64_t lc_hash_fields(const uint64_t key[2], uint64_t offset, uint64_t header,
                                      int64_t timestamp_ms, uint32_t sizes)
{
    return lc_fold(key[0] ^ header, key[1] ^ (uint64_t)timestamp_ms) ^
           lc_fold(key[1] ^ ((uint64_t)sizes << 32 | offset >> 3), key[0] ^ LC_CHECK_ODD);
}

/* Goes on with a text. */
uint64_t lc_hash_text(const uint64_t key[2], uint64_t hash, const char *text, size_t n);

static inline uint32_t lc_hash_end(uint64_t hash)
{
    return (uint32_t)(hash ^ hash >> 32);
}

#endif
