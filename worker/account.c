/* account.c: compares what was added with what became of it. */
#include "worker/account.h"

#include <inttypes.h>

#include "common/diag.h"
#include "common/redis/reply.h"

#define NUMBERS 5

bool account_take(struct account *a, const struct redis_reply *reply, size_t at)
{
    int64_t *const to[NUMBERS] = {&a->length, &a->added, &a->written, &a->filtered, &a->dead};
    if (reply_count(reply) < at + NUMBERS)
        return false;
    for (size_t i = 0; i < NUMBERS; i++)
        if (reply_type(reply_at(reply, at + i)) != REPLY_INTEGER)
            return false;
    for (size_t i = 0; i < NUMBERS; i++)
        *to[i] = reply_integer(reply_at(reply, at + i));
    return true;
}

bool account_check(struct account *a, const char *stream)
{
    int64_t removed = a->added - a->length - (a->written + a->filtered + a->dead);
    if (removed < 0) {
        a->removed = 0;
        return false;
    }
    if (removed > a->removed)
        diag_warn("somebody else has removed %" PRId64 " entries from %s: they are in no log of "
                  "this worker",
                  removed - a->removed, stream);
    a->removed = removed;
    return true;
}
