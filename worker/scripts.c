/* scripts.c: calls the scripts of script.h. */
#include "worker/scripts.h"

#include "common/redis/resp.h"
#include "worker/script.h"

static const char *const texts[SCRIPTS] = {
    [SCRIPT_OPEN] = open_script,
    [SCRIPT_COMMIT] = commit_script,
    [SCRIPT_LOOK] = look_script,
};

static void on_loaded(struct scripts *s, enum script which, const struct redis_reply *reply)
{
    if (reply != NULL && reply_type(reply) == REPLY_STRING &&
        reply_span(reply).n == SCRIPTS_SHA_LEN)
        memcpy(s->sha[which], reply_span(reply).p, SCRIPTS_SHA_LEN);
}

static void on_commit_loaded(const struct redis_reply *reply, void *arg)
{
    on_loaded(arg, SCRIPT_COMMIT, reply);
}

static void on_look_loaded(const struct redis_reply *reply, void *arg)
{
    on_loaded(arg, SCRIPT_LOOK, reply);
}

static bool load(struct scripts *s, enum script which, struct redis_link *link, redis_reply_cb *cb)
{
    s->sha[which][0] = '\0';
    return redis_link_send_words(link, RESP_WORDS("SCRIPT", "LOAD", texts[which]), cb, s);
}

bool scripts_load(struct scripts *s, struct redis_link *link)
{
    return load(s, SCRIPT_COMMIT, link, on_commit_loaded) &&
           load(s, SCRIPT_LOOK, link, on_look_loaded);
}

void scripts_begin(const struct scripts *s, enum script which, const struct config *config,
                   size_t count, struct buf *out)
{
    bool known = s->sha[which][0] != '\0';
    buf_clear(out);
    resp_begin(out, 7 + count);
    resp_words(out, RESP_WORDS(known ? "EVALSHA" : "EVAL", known ? s->sha[which] : texts[which],
                               "4", config->stream, config->owner_key, config->account_key,
                               config->dead_key));
}
