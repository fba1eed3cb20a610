#include "worker/setup.h"

#include <event2/util.h>
#include <stdio.h>
#include <string.h>

#include "common/redis/eviction.h"
#include "common/redis/resp.h"
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

bool setup_send(struct redis_link *link, const struct config *config, redis_reply_cb *cb, void *arg)
{
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
    sent = !command.failed && eviction_check(link) &&
           redis_link_send(link, command.data, command.len, cb, arg);
    buf_free(&command);
    return sent;
}
