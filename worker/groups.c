/* groups.c: destroys the group of version 0.1.0, and warns of others. */
#include "worker/groups.h"

#include "common/diag.h"
#include "common/redis/resp.h"

#define OLD_GROUP "logworkers"

static void on_destroyed(const struct redis_reply *reply, void *arg)
{
    struct groups *g = arg;
    if (reply != NULL && reply_type(reply) == REPLY_INTEGER && reply_integer(reply) == 1)
        diag_info("destroyed the consumer group \"%s\" of version 0.1.0 on %s: all that was "
                  "pending in it is committed",
                  OLD_GROUP, g->config->stream);
}

/* XPENDING's summary is the count, the smallest and the largest id, and the consumers. */
static void on_pending(const struct redis_reply *reply, void *arg)
{
    struct groups *g = arg;
    struct stream_id largest = {0, 0};
    if (reply == NULL || reply_count(reply) < 3)
        return;
    struct span text = reply_span(reply_at(reply, 2));
    bool some = reply_integer(reply_at(reply, 0)) > 0;
    if (some && !stream_id_parse(&largest, text.p, text.n))
        return;
    bool empty = g->first.ms == 0 && g->first.seq == 0;
    if (!some || empty || stream_id_after(g->first, largest))
        (void)redis_link_send_words(g->link,
                                    RESP_WORDS("XGROUP", "DESTROY", g->config->stream, OLD_GROUP),
                                    on_destroyed, g);
}

static void warn_of(struct groups *g, struct span name)
{
    if (g->warned)
        return;
    g->warned = true;
    diag_warn("%s has the consumer group \"%.*s\" of another program: this worker removes entries "
              "that the group may not have read",
              g->config->stream, (int)name.n, name.p);
}

/* Each group is a list of names and values; the first is its name. */
static void on_groups(const struct redis_reply *reply, void *arg)
{
    struct groups *g = arg;
    g->asking = false;
    for (size_t i = 0; reply != NULL && i < reply_count(reply); i++) {
        const struct redis_reply *group = reply_at(reply, i);
        if (reply_count(group) < 2)
            continue;
        struct span name = reply_span(reply_at(group, 1));
        if (span_is(name, OLD_GROUP))
            (void)redis_link_send_words(
                g->link, RESP_WORDS("XPENDING", g->config->stream, OLD_GROUP), on_pending, g);
        else
            warn_of(g, name);
    }
}

void groups_look(struct groups *g, struct redis_link *link, const struct config *config,
                 const struct account *account)
{
    if (account->groups == 0 || g->asking)
        return;
    g->link = link;
    g->config = config;
    g->first = account->first;
    g->asking =
        redis_link_send_words(link, RESP_WORDS("XINFO", "GROUPS", config->stream), on_groups, g);
}
