#include "worker/setup.h"

#include <event2/util.h>
#include <stdio.h>
#include <string.h>

#include "common/diag.h"
#include "common/resp.h"
#include "worker/state.h"

/* One round trip. PERSIST changes nothing; but as the script's first write it makes Redis let the
 * rest pass when it is at its memory limit; else a worker could not start to empty a full Redis. */
static const char script[] =
    "redis.call('PERSIST', KEYS[2]) "
    "local lineage = redis.call('GET', KEYS[2]) "
    "if not lineage then lineage = ARGV[2] redis.call('SET', KEYS[2], lineage) end "
    "local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM') "
    "if made.err and string.sub(made.err, 1, 9) ~= 'BUSYGROUP' then return made end "
    "return lineage";

static void make_token(char out[STATE_TOKEN_LEN + 1])
{
    unsigned char random[STATE_TOKEN_LEN / 2];

    evutil_secure_rng_get_bytes(random, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++)
        sprintf(out + 2 * i, "%02x", random[i]);
}

static bool is(struct span s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

/* Pairs of names and values; an error when the account may not ask. */
static void on_memory_settings(const struct redis_reply *reply, void *arg)
{
    static struct diag_limit limit;
    bool limited = false, evicts = false;
    uint64_t more;

    (void)arg;
    for (size_t i = 0; reply != NULL && i + 1 < reply_count(reply); i += 2) {
        struct span name = reply_span(reply_at(reply, i));
        struct span value = reply_span(reply_at(reply, i + 1));

        if (is(name, "maxmemory"))
            limited = !is(value, "0");
        else if (is(name, "maxmemory-policy"))
            evicts = !is(value, "noeviction");
    }
    if (limited && evicts && diag_allow(&limit, &more))
        diag_warn("Redis may evict the whole stream when memory is used up: set maxmemory-policy "
                  "to noeviction");
}

bool setup_send(struct redis_link *link, const struct config *config, redis_reply_cb *cb, void *arg)
{
    static const char ask[] = "*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$10\r\nmaxmemory*\r\n";
    char token[STATE_TOKEN_LEN + 1];
    struct buf command = {0};
    bool sent;

    make_token(token);
    resp_begin(&command, 7);
    resp_arg_str(&command, "EVAL");
    resp_arg(&command, script, sizeof(script) - 1);
    resp_arg_int(&command, 2);
    resp_arg_str(&command, config->stream);
    resp_arg_str(&command, config->lineage_key);
    resp_arg_str(&command, config->group);
    resp_arg_str(&command, token);
    sent = !command.failed &&
           redis_link_send(link, ask, sizeof(ask) - 1, on_memory_settings, NULL) &&
           redis_link_send(link, command.data, command.len, cb, arg);
    buf_free(&command);
    return sent;
}
