/* fence.c: ends what is left of this worker's earlier connections. */
#include "worker/fence.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/util.h>

#include "common/diag.h"
#include "common/redis/resp.h"

/* Once a connection: the errors differ by the command. */
static void warn_refused(struct fence *f, const struct redis_reply *reply)
{
    static struct diag_limit limit;
    if (f->refused || reply == NULL || reply_type(reply) != REPLY_ERROR)
        return;
    f->refused = true;
    diag_warn_limited(
        &limit,
        "Redis does not let earlier connections of this worker be closed (%.*s): should "
        "the network delay one, entries can be lost; see REDIS in logworker(8)",
        (int)reply_span(reply).n, reply_span(reply).p);
}

/* Redis takes no spaces in a name. So it is a hash of stream, group and consumer (FNV-1a, 64 bits),
 * and then a random number of this process. */
static void make_name(struct fence *f)
{
    const char *parts[] = {f->config->stream, f->config->group, f->config->consumer};
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        for (const char *c = parts[i];; c++) {
            hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
            if (*c == '\0')
                break;
        }
    while (f->instance == 0)
        evutil_secure_rng_get_bytes(&f->instance, sizeof(f->instance));
    f->shared = (size_t)snprintf(f->name, sizeof(f->name), "logworker-%016" PRIx64 "-", hash);
    snprintf(f->name + f->shared, sizeof(f->name) - f->shared, "%08" PRIx32, f->instance);
}

static void on_checked(const struct redis_reply *reply, void *arg)
{
    warn_refused(arg, reply);
}

static void on_id(const struct redis_reply *reply, void *arg)
{
    struct fence *f = arg;
    f->own = reply == NULL ? 0 : reply_integer(reply);
    warn_refused(f, reply);
}

/* What follows " key=" in a line of CLIENT LIST, such as "id=7 addr=… name=… …". */
static struct span field(const char *line, size_t n, const char *key)
{
    size_t length = strlen(key);
    const char *at = memmem(line, n, key, length), *end;
    if (at == NULL)
        return (struct span){NULL, 0};
    at += length;
    end = memchr(at, ' ', (size_t)(line + n - at));
    return (struct span){at, (size_t)((end != NULL ? end : line + n) - at)};
}

/* Another process of the same consumer lives. */
static void warn_rival(const struct fence *f, const char *line, size_t n)
{
    static struct diag_limit limit;
    struct span addr = field(line, n, " addr=");
    diag_warn_limited(&limit,
                      "another logworker, connected from %.*s, is consumer \"%.100s\" of group "
                      "\"%.100s\" too: each takes the other's entries, and lines stand twice; give "
                      "one of them another --consumer",
                      (int)addr.n, addr.p, f->config->consumer, f->config->group);
}

/* Whether the line is of another connection of this consumer. */
static bool is_other(const struct fence *f, const char *line, size_t n, int64_t *id)
{
    struct span name = field(line, n, " name=");
    if (n < 4 || memcmp(line, "id=", 3) != 0 || name.n < f->shared ||
        memcmp(name.p, f->name, f->shared) != 0)
        return false;
    *id = strtoll(line + 3, NULL, 10);
    if (*id == f->own)
        return false;
    if (f->again && (name.n != strlen(f->name) || memcmp(name.p, f->name, name.n) != 0))
        warn_rival(f, line, n);
    return true;
}

static bool close_others(struct fence *f, struct span list)
{
    const char *at = list.p, *end = list.p + list.n;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        int64_t id;
        if (newline == NULL)
            break;
        if (is_other(f, at, (size_t)(newline - at), &id)) {
            char text[24];
            snprintf(text, sizeof(text), "%" PRId64, id);
            if (!redis_link_send_words(f->link, RESP_WORDS("CLIENT", "KILL", "ID", text),
                                       on_checked, f))
                return false;
        }
        at = newline + 1;
    }
    return true;
}

static void on_list(const struct redis_reply *reply, void *arg)
{
    struct fence *f = arg;
    bool ok = reply != NULL;
    warn_refused(f, reply);
    if (ok && f->own > 0 && reply_type(reply) == REPLY_STRING)
        ok = close_others(f, reply_span(reply));
    f->again = f->again || ok;
    f->done(ok, f->arg);
}

bool fence_send(struct fence *f, struct redis_link *link, const struct config *config,
                void (*done)(bool ok, void *arg), void *arg)
{
    f->link = link;
    f->config = config;
    f->done = done;
    f->arg = arg;
    f->own = 0;
    f->refused = false;
    make_name(f);
    return redis_link_send_words(link, RESP_WORDS("CLIENT", "SETNAME", f->name), on_checked, f) &&
           redis_link_send_words(link, RESP_WORDS("CLIENT", "ID"), on_id, f) &&
           redis_link_send_words(link, RESP_WORDS("CLIENT", "LIST", "TYPE", "normal"), on_list, f);
}
