#include "common/redis/eviction.h"

#include "common/diag.h"

/* Pairs of names and values; an error when the account may not ask. */
static void on_memory_settings(const struct redis_reply *reply, void *arg)
{
    static struct diag_limit limit;
    bool limited = false, evicts = false;
    (void)arg;
    for (size_t i = 0; reply != NULL && i + 1 < reply_count(reply); i += 2) {
        struct span name = reply_span(reply_at(reply, i));
        struct span value = reply_span(reply_at(reply, i + 1));
        if (span_is(name, "maxmemory"))
            limited = !span_is(value, "0");
        else if (span_is(name, "maxmemory-policy"))
            evicts = !span_is(value, "noeviction");
    }
    if (limited && evicts)
        diag_warn_limited(
            &limit, "Redis may evict the whole stream when memory is used up: set maxmemory-policy "
                    "to noeviction");
}

bool eviction_check(struct redis_link *link)
{
    static const char ask[] = "*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$10\r\nmaxmemory*\r\n";
    return redis_link_send(link, ask, sizeof(ask) - 1, on_memory_settings, NULL);
}
