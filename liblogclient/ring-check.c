/* ring-check.c: the check word of a record: folded products, as in wyhash. It tells a record from
 * what is left of one; it is no secret. */
#include "ring-check-internal.h"

#include <string.h>

#include "ring-internal.h"

static uint64_t word_at(const char *text)
{
    uint64_t word;
    memcpy(&word, text, sizeof(word));
    return word;
}

static uint64_t half_at(const char *text)
{
    uint32_t half;
    memcpy(&half, text, sizeof(half));
    return half;
}

static uint64_t fold_16(uint64_t hash, const char *text, uint64_t key)
{
    return lc_fold(word_at(text) ^ hash, word_at(text + 8) ^ key);
}

/* Up to 16 bytes. The second word, or half, may overlap the first. */
static uint64_t fold_short(uint64_t hash, const char *text, size_t n, uint64_t key)
{
    uint64_t first = 0, last = 0;
    if (n >= 8) {
        first = word_at(text);
        last = word_at(text + n - 8);
    } else if (n >= 4) {
        first = half_at(text);
        last = half_at(text + n - 4);
    } else if (n > 0) {
        first = (unsigned char)text[0];
        last = (uint64_t)(unsigned char)text[n / 2] << 8 | (unsigned char)text[n - 1];
    }
    return lc_fold(first ^ hash, last ^ key);
}

/* Four lanes, so that the processor need not wait for one of them. */
uint64_t lc_hash_text(const uint64_t key[2], uint64_t seed, const char *text, size_t n)
{
    if (n <= 16)
        return fold_short(seed, text, n, key[1]);
    uint64_t lane[4] = {seed, ~seed, seed ^ LC_CHECK_ODD, ~seed ^ LC_CHECK_ODD};
    const char *end = text + n;
    for (; end - text > 64; text += 64)
        for (int i = 0; i < 4; i++)
            lane[i] = fold_16(lane[i], text + 16 * i, key[1]);
    for (int i = 0; end - text > 16; text += 16, i++)
        lane[i] = fold_16(lane[i], text, key[1]);
    return lc_fold(fold_16(lane[0], end - 16, key[1]) ^ lane[1], lane[2] ^ lane[3] ^ key[1]);
}

uint32_t lc_slot_check(const uint64_t key[2], uint64_t offset, uint64_t header,
                       const struct lc_slot *slot, const char *text, size_t n)
{
    uint64_t hash = lc_hash_fields(key, offset, header, slot->timestamp_ms, slot->sizes);
    size_t service = slot->sizes & LC_SIZES_SERVICE;
    if (service > n)
        service = n;
    if ((slot->sizes & LC_SIZES_TEXT) != 0) {
        hash = lc_hash_text(key, hash, text, service);
        hash = lc_hash_text(key, hash, text + service, n - service);
    }
    return lc_hash_end(hash);
}
