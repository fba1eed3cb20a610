/* settings.c: warns of settings of Redis that lose records. */
#include "common/redis/settings.h"

#include "common/diag.h"
#include "common/redis/resp.h"

/* The value of a setting in a reply to CONFIG GET, which is pairs of names and values. Empty when
 * it is not there, or the account may not ask. */
static struct span value_of(const struct redis_reply *reply, const char *name)
{
    for (size_t i = 0; reply != NULL && i + 1 < reply_count(reply); i += 2)
        if (span_is(reply_span(reply_at(reply, i)), name))
            return reply_span(reply_at(reply, i + 1));
    return (struct span){0};
}

static void on_settings(const struct redis_reply *reply, void *arg)
{
    static struct diag_limit evicts, off, every_second;
    struct span max = value_of(reply, "maxmemory"), policy = value_of(reply, "maxmemory-policy");
    (void)arg;
    if (max.n > 0 && !span_is(max, "0") && policy.n > 0 && !span_is(policy, "noeviction"))
        diag_warn_limited(&evicts, "Redis may evict the whole stream when memory is used up: set "
                                   "maxmemory-policy to noeviction");
    if (span_is(value_of(reply, "appendonly"), "no"))
        diag_warn_limited(&off, "Redis runs with appendonly no: records are lost when redis-server "
                                "dies; set appendonly to yes");
    /* Redis puts off the write itself, for up to 2 s, while an fsync is under way. */
    if (span_is(value_of(reply, "appendfsync"), "everysec"))
        diag_warn_limited(&every_second,
                          "Redis runs with appendfsync everysec: a killed redis-server may lose up "
                          "to 2 s of confirmed records; set appendfsync to always, or to no if "
                          "only the death of the process matters");
}

bool settings_check(struct redis_link *link, const char *pattern)
{
    return redis_link_send_words(link, RESP_WORDS("CONFIG", "GET", pattern), on_settings, NULL);
}
