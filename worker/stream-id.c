/* stream-id.c: reads and writes ids. */
#include "worker/stream-id.h"

#include <inttypes.h>
#include <stdio.h>

static bool take_number(const char **p, const char *end, uint64_t *value)
{
    const char *start = *p;
    uint64_t v = 0;
    for (; *p < end && **p >= '0' && **p <= '9'; ++*p) {
        uint64_t digit = (uint64_t)(**p - '0');
        if (v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *value = v;
    return *p > start;
}

bool stream_id_parse(struct stream_id *id, const char *s, size_t n)
{
    const char *end = s + n;
    return take_number(&s, end, &id->ms) && s < end && *s++ == '-' &&
           take_number(&s, end, &id->seq) && s == end;
}

size_t stream_id_format(struct stream_id id, char out[STREAM_ID_TEXT_MAX])
{
    return (size_t)snprintf(out, STREAM_ID_TEXT_MAX, "%" PRIu64 "-%" PRIu64, id.ms, id.seq);
}
