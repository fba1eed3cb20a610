/* setup.c: makes the stream, its group and its lineage. */
#include "worker/setup.h"

#include <event2/util.h>
#include <stdio.h>
#include <string.h>

#include "common/redis/resp.h"
#include "common/redis/settings.h"
#include "worker/state.h"

/* One round trip. PERSIST changes nothing. But it is the script's first write, and Redis at its
 * memory limit takes it, and then the rest too. Without it no worker could start on a full Redis,
 * and empty it. */
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
    make_token(token);
    return settings_check(link, SETTINGS_EVICTION) &&
           redis_link_send_words(link,
                                 RESP_WORDS("EVAL", script, "2", config->stream,
                                            config->lineage_key, config->group, token),
                                 cb, arg);
}
