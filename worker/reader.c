/* reader.c: reads the stream by position. */
#include "worker/reader.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/redis/resp.h"

#define BLOCK_MS      2000
#define REPLY_BATCHES 4 /* a reply may be as large as so many batches should be */

struct reader {
    const struct config *config; /* borrowed */
    struct reader_events events;
    void *arg;
    struct redis_link *link;
    bool busy;
    struct buf command;
};

/* The entries of a reply to XREAD, which is nil, or an array of one stream: its key and its
 * entries. */
static const struct redis_reply *entries_of_stream(const struct redis_reply *reply)
{
    const struct redis_reply *stream = reply_count(reply) == 1 ? reply_at(reply, 0) : NULL;
    return stream != NULL && reply_count(stream) == 2 ? reply_at(stream, 1) : NULL;
}

static void tell_refused(struct reader *r, const struct redis_reply *reply)
{
    char why[256];
    snprintf(why, sizeof(why), "%.*s", (int)reply_span(reply).n, reply_span(reply).p);
    r->events.refused(why, r->arg);
}

static void on_reply(struct reader *r, const struct redis_reply *reply, bool range)
{
    const struct redis_reply *entries = NULL;
    r->busy = false;
    if (reply != NULL && reply_type(reply) == REPLY_ERROR) {
        tell_refused(r, reply);
        return;
    }
    if (reply != NULL)
        entries = range ? reply : entries_of_stream(reply);
    if (entries != NULL && reply_count(entries) > 0)
        r->events.entries(entries, r->arg);
    else
        r->events.none(r->arg);
}

static void on_read(const struct redis_reply *reply, void *arg)
{
    on_reply(arg, reply, false);
}

static void on_range(const struct redis_reply *reply, void *arg)
{
    on_reply(arg, reply, true);
}

static void on_ready(void *arg)
{
    struct reader *r = arg;
    r->events.ready(r->arg);
}

/* The other connection says why, or it was said before. */
static void on_down(const char *why, void *arg)
{
    struct reader *r = arg;
    (void)why;
    r->events.down(r->arg);
}

struct reader *reader_new(struct event_base *base, const struct config *config,
                          const struct reader_events *events, void *arg)
{
    const struct redis_link_config link = {.name = "reader",
                                           .url = &config->redis,
                                           .connect_timeout_ms = config->redis_timeout_ms,
                                           .reply_timeout_ms = BLOCK_MS + config->redis_timeout_ms,
                                           .backoff_min_ms = REDIS_BACKOFF_MIN_MS,
                                           .backoff_max_ms = REDIS_BACKOFF_MAX_MS};
    static const struct redis_link_events link_events = {.ready = on_ready, .down = on_down};
    struct reader *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return NULL;
    r->config = config;
    r->events = *events;
    r->arg = arg;
    r->link = redis_link_new(base, &link, &link_events, r);
    if (r->link != NULL)
        return r;
    reader_free(r);
    return NULL;
}

bool reader_ready(const struct reader *r)
{
    return redis_link_ready(r->link);
}

bool reader_busy(const struct reader *r)
{
    return r->busy;
}

bool reader_read(struct reader *r, struct stream_id after, int64_t count)
{
    char id[STREAM_ID_TEXT_MAX];
    size_t limit = (size_t)r->config->batch_bytes * REPLY_BATCHES;
    stream_id_format(after, id);
    buf_clear(&r->command);
    resp_begin(&r->command, 8);
    resp_words(&r->command, RESP_WORDS("XREAD", "COUNT"));
    resp_arg_int(&r->command, count);
    resp_arg_str(&r->command, "BLOCK");
    resp_arg_int(&r->command, BLOCK_MS);
    resp_words(&r->command, RESP_WORDS("STREAMS", r->config->stream, id));
    redis_link_limit_reply(r->link, count == 1 ? 0 : limit);
    r->busy = redis_link_send_buf(r->link, &r->command, on_read, r);
    return r->busy;
}

bool reader_range(struct reader *r, struct stream_id from, struct stream_id to)
{
    char first[STREAM_ID_TEXT_MAX], last[STREAM_ID_TEXT_MAX];
    stream_id_format(from, first);
    stream_id_format(to, last);
    redis_link_limit_reply(r->link, 0);
    r->busy = redis_link_send_words(r->link, RESP_WORDS("XRANGE", r->config->stream, first, last),
                                    on_range, r);
    return r->busy;
}

void reader_renew(struct reader *r)
{
    redis_link_renew(r->link);
}

void reader_free(struct reader *r)
{
    if (r == NULL)
        return;
    redis_link_free(r->link);
    buf_free(&r->command);
    free(r);
}
