/* command.c: the Redis command that stores records. */
#include "logd/command.h"

#include "common/redis/keys.h"
#include "common/redis/resp.h"
#include "logd/ingest.h"
#include "logd/script.h"

#define PREFIX_KEPT_MAX 65536 /* bytes of scratch memory that are kept for the next command */

void command_init(struct command *c, const char *stream, int64_t producer_ttl_ms)
{
    *c = (struct command){
        .stream = stream,
        .producer_ttl_ms = producer_ttl_ms,
        .room = 2 * strlen(stream) + 320, /* two keys, and the rest with the largest numbers */
    };
}

static void on_loaded(const struct redis_reply *reply, void *arg)
{
    struct command *c = arg;
    if (reply == NULL || reply_type(reply) != REPLY_STRING ||
        reply_span(reply).n != COMMAND_SHA_LEN)
        return; /* the whole script is sent each time */
    memcpy(c->sha, reply_span(reply).p, COMMAND_SHA_LEN);
}

void command_load(struct command *c)
{
    (void)redis_link_send_words(c->link, RESP_WORDS("SCRIPT", "LOAD", store_script), on_loaded, c);
}

/* All of the command that stands before the records. */
static void write_prefix(struct command *c, const struct producer *p, size_t count,
                         bool whole_script)
{
    struct buf *out = &c->prefix;
    bool has_producer = p->id[0] != '\0';
    buf_clear(out);
    resp_begin(out, (has_producer ? 8U : 7U) + INGEST_ARGS * count);
    resp_words(out,
               RESP_WORDS(whole_script ? "EVAL" : "EVALSHA", whole_script ? store_script : c->sha,
                          has_producer ? "2" : "1", c->stream));
    if (has_producer) {
        buf_clear(&c->key);
        key_add_producer(&c->key, c->stream, p->id);
        resp_arg(out, c->key.data, c->key.len);
        out->failed |= c->key.failed;
    }
    resp_arg_int(out, p->first);
    resp_arg_int(out, p->skip);
    resp_arg_int(out, c->producer_ttl_ms / 1000);
}

bool command_send(struct command *c, const struct producer *p, size_t count, struct buf *args,
                  bool whole_script, redis_reply_cb *cb, void *arg)
{
    struct buf *prefix = &c->prefix;
    char *records = args->data + c->room;
    size_t n = args->len - c->room;
    bool sent;
    write_prefix(c, p, count, whole_script || c->sha[0] == '\0');
    if (prefix->failed)
        return false;
    if (prefix->len <= c->room) {
        char *start = memcpy(records - prefix->len, prefix->data, prefix->len);
        return redis_link_send(c->link, start, prefix->len + n, cb, arg);
    }
    buf_add(prefix, records, n);
    sent = redis_link_send_buf(c->link, prefix, cb, arg);
    if (prefix->cap > PREFIX_KEPT_MAX)
        buf_free(prefix);
    return sent;
}

bool command_read(const struct redis_reply *reply, size_t count, size_t *fresh, int64_t *gap)
{
    if (reply_type(reply) != REPLY_ARRAY || reply_count(reply) != 2 ||
        reply_type(reply_at(reply, 0)) != REPLY_INTEGER ||
        reply_type(reply_at(reply, 1)) != REPLY_INTEGER)
        return false;
    int64_t n = reply_integer(reply_at(reply, 0));
    *fresh = (size_t)n;
    *gap = reply_integer(reply_at(reply, 1));
    return n >= 0 && *fresh <= count && *gap >= 0;
}

struct span command_error(const struct redis_reply *reply)
{
    struct span text = reply_span(reply);
    const char *tail = memmem(text.p, text.n, " script: ", 9);
    return (struct span){text.p, tail != NULL ? (size_t)(tail - text.p) : text.n};
}

void command_free(struct command *c)
{
    buf_free(&c->prefix);
    buf_free(&c->key);
}
