/* batch.c: sorts the entries of one read into lines, dead letters and ids. */
#include "worker/batch.h"

#include <stdio.h>
#include <string.h>

#include "common/redis/link.h"
#include "common/redis/resp.h"
#include "worker/entry.h"

/* Lua's unpack() takes about 8,000 values. */
#define DEAD_SPANS_MAX 7000

/* Moves an entry. PERSIST changes nothing, but it is a first write that needs no memory: after it
 * Redis lets the script go on at its memory limit, when only reading and deleting entries can free
 * any. A script, unlike MULTI, stops at the first error. An entry that is gone was moved before, by
 * the same command on an earlier connection. */
static const char move_script[] = "redis.call('PERSIST', KEYS[1]) "
                                  "if #redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2]) == 0 then "
                                  "redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) return 0 end "
                                  "redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3)) "
                                  "redis.call('XDEL', KEYS[1], ARGV[2]) "
                                  "redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) "
                                  "return 1";

/* Where a dead letter lies in `dead`. */
struct place {
    size_t begin, end;          /* of the command */
    size_t reason, reason_size; /* in it */
    struct stream_id id;
};

static void add_dead(struct stream_batch *b, const struct config *config, struct span id,
                     const struct redis_reply *fields, const char *reason)
{
    size_t spans = reply_count(fields), kept = spans < DEAD_SPANS_MAX ? spans : DEAD_SPANS_MAX;
    char text[ENTRY_REASON_MAX + 64];
    struct place place = {.begin = b->dead.len, .id = b->last};
    snprintf(text, sizeof(text), kept == spans ? "%s" : "%s (only the first %zu fields are here)",
             reason, kept / 2);
    resp_begin(&b->dead, 7 + 4 + kept);
    resp_words(&b->dead, RESP_WORDS("EVAL", move_script, "2", config->stream, config->dead_key,
                                    config->group));
    resp_arg(&b->dead, id.p, id.n);
    resp_words(&b->dead, RESP_WORDS("reason", text));
    place.reason_size = strlen(text);
    place.reason = b->dead.len - place.reason_size - 2; /* before its CR LF */
    resp_arg_str(&b->dead, "id");
    resp_arg(&b->dead, id.p, id.n);
    for (size_t i = 0; i < kept; i++) {
        struct span s = reply_span(reply_at(fields, i));
        resp_arg(&b->dead, s.p, s.n);
    }
    place.end = b->dead.len;
    buf_add(&b->places, &place, sizeof(place));
    b->dead_count++;
}

static void add_entry(struct stream_batch *b, const struct config *config, struct span id,
                      const struct redis_reply *fields)
{
    struct span spans[ENTRY_SPANS_MAX];
    size_t count = reply_count(fields);
    char reason[ENTRY_REASON_MAX];
    struct record r;
    for (size_t i = 0; i < count && i < ENTRY_SPANS_MAX; i++)
        spans[i] = reply_span(reply_at(fields, i));
    if (!entry_read(&r, spans, count, &b->scratch, reason)) {
        add_dead(b, config, id, fields, reason);
        return;
    }
    if (r.level < config->level) {
        b->filtered++;
    } else {
        record_write_line(&b->lines, &r);
        b->written++;
    }
    resp_arg(&b->ids, id.p, id.n);
    b->id_count++;
}

static void clear(struct stream_batch *b)
{
    buf_clear(&b->lines);
    buf_clear(&b->ids);
    buf_clear(&b->dead);
    buf_clear(&b->places);
    buf_clear(&b->scratch);
    b->id_count = b->dead_count = b->dead_moved = 0;
    b->read = b->written = b->filtered = b->skipped = 0;
    b->fresh = b->replayed = false;
    b->last = b->last_fresh = (struct stream_id){0, 0};
}

bool batch_read(struct stream_batch *b, const struct config *config,
                const struct redis_reply *entries, struct stream_id committed, const char **why)
{
    clear(b);
    for (size_t i = 0; i < reply_count(entries); i++) {
        const struct redis_reply *entry = reply_at(entries, i);
        struct span id;
        *why = "a reply to XREADGROUP is not what Redis sends";
        if (reply_count(entry) != 2)
            return false;
        id = reply_span(reply_at(entry, 0));
        if (!stream_id_parse(&b->last, id.p, id.n))
            return false;
        b->read++;
        /* A pending entry that somebody deleted has no fields. */
        if (reply_type(reply_at(entry, 1)) != REPLY_ARRAY || !stream_id_after(b->last, committed)) {
            resp_arg(&b->ids, id.p, id.n);
            b->id_count++;
            b->skipped++;
            continue;
        }
        b->fresh = true;
        b->last_fresh = b->last;
        add_entry(b, config, id, reply_at(entry, 1));
    }
    *why = "out of memory";
    return !b->lines.failed && !b->ids.failed && !b->dead.failed && !b->places.failed &&
           !b->scratch.failed;
}

struct dead_letter batch_next_dead(const struct stream_batch *b)
{
    struct place p;
    memcpy(&p, b->places.data + b->dead_moved * sizeof(p), sizeof(p));
    return (struct dead_letter){.command = {b->dead.data + p.begin, p.end - p.begin},
                                .reason = {b->dead.data + p.reason, p.reason_size},
                                .id = p.id};
}

void batch_free(struct stream_batch *b)
{
    buf_free(&b->lines);
    buf_free(&b->ids);
    buf_free(&b->dead);
    buf_free(&b->places);
    buf_free(&b->scratch);
}
