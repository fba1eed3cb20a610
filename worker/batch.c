/* batch.c: sorts the entries of one read into lines and dead letters. */
#include "worker/batch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/redis/reply.h"
#include "common/redis/resp.h"
#include "worker/entry.h"
#include "worker/prints.h"

#define DEAD_FIELDS_MAX 3500      /* that the commit script copies */
#define KEPT_BYTES_MAX  (4 << 20) /* of lines, for the next batch */
#define ENTRY_OVERHEAD  64        /* bytes of an entry in a reply, besides its fields */

/* ---- One entry ---- */

static void add_dead(struct stream_batch *b, size_t spans, const char *reason)
{
    char text[ENTRY_REASON_MAX + 64], id[STREAM_ID_TEXT_MAX];
    bool whole = spans <= 2 * DEAD_FIELDS_MAX;
    stream_id_format(b->last, id);
    snprintf(text, sizeof(text), whole ? "%s" : "%s (only the first %d fields are here)", reason,
             DEAD_FIELDS_MAX);
    resp_arg_str(&b->dead, id);
    resp_arg_str(&b->dead, text);
    buf_printf(&b->told, "entry %s is malformed: %s", id, text);
    buf_add_char(&b->told, '\0');
    b->dead_count++;
}

/* Writes the record's line, and takes it back when it stands in the log. False: errno. */
static bool add_line(struct stream_batch *b, struct sink *sink, const struct record *r)
{
    size_t start = b->lines.len;
    record_write_line(&b->lines, r);
    if (b->noting && !b->lines.failed)
        prints_add(&b->notes, b->last, b->lines.data + start, b->lines.len - start);
    if (b->class != ENTRY_NEW && !b->lines.failed) {
        switch (sink_find(sink, b->class, b->lines.data + start, b->lines.len - start)) {
        case LINE_ERROR:
            return false;
        case LINE_FOUND:
            b->lines.len = start;
            b->found++;
            return true;
        case LINE_UNPLACED:
            b->unplaced++;
            break;
        case LINE_MISSING:
            break;
        }
    }
    b->lined++;
    return true;
}

static bool add_entry(struct stream_batch *b, const struct config *config, struct sink *sink,
                      const struct redis_reply *fields)
{
    struct span spans[ENTRY_SPANS_MAX];
    size_t count = reply_count(fields), weight = ENTRY_OVERHEAD;
    char reason[ENTRY_REASON_MAX];
    struct record r;
    for (size_t i = 0; i < count; i++) {
        struct span s = reply_span(reply_at(fields, i));
        weight += s.n;
        if (i < ENTRY_SPANS_MAX)
            spans[i] = s;
    }
    if (weight > b->heaviest)
        b->heaviest = weight;
    if (!entry_read(&r, spans, count, &b->scratch, reason))
        add_dead(b, count, reason);
    else if (r.level < config->level)
        b->filtered++;
    else
        return add_line(b, sink, &r);
    return true;
}

/* ---- The batch ---- */

/* A large buffer is given back. */
static void clear_large(struct buf *b)
{
    if (b->cap > KEPT_BYTES_MAX)
        buf_free(b);
    buf_clear(b);
}

static void clear(struct stream_batch *b)
{
    clear_large(&b->lines);
    buf_clear(&b->dead);
    buf_clear(&b->told);
    clear_large(&b->notes);
    clear_large(&b->scratch);
    b->dead_count = b->heaviest = 0;
    b->read = b->lined = b->found = b->unplaced = b->filtered = 0;
    b->first = b->last = (struct stream_id){0, 0};
}

/* What an entry of a reply looks like: its id and its fields. */
static bool take_id(const struct redis_reply *entry, struct stream_id *id)
{
    if (reply_count(entry) != 2 || reply_type(reply_at(entry, 1)) != REPLY_ARRAY)
        return false;
    struct span s = reply_span(reply_at(entry, 0));
    return stream_id_parse(id, s.p, s.n);
}

static const char *log_error(void)
{
    static char text[128];
    snprintf(text, sizeof(text), "the log cannot be compared with Redis: %s", strerror(errno));
    return text;
}

bool batch_read(struct stream_batch *b, const struct config *config, struct sink *sink,
                const struct redis_reply *entries, const char **why)
{
    clear(b);
    for (size_t i = 0; i < reply_count(entries); i++) {
        const struct redis_reply *entry = reply_at(entries, i);
        struct stream_id id;
        *why = "a reply with entries is not what Redis sends";
        if (!take_id(entry, &id) || (i > 0 && !stream_id_after(id, b->last)))
            return false;
        if (i == 0) {
            b->class = sink_class(sink, id);
            b->first = id;
        } else if (sink_class(sink, id) != b->class) {
            break;
        }
        b->last = id;
        b->read++;
        if (!add_entry(b, config, sink, reply_at(entry, 1))) {
            *why = log_error();
            return false;
        }
    }
    *why = "out of memory";
    return !b->lines.failed && !b->dead.failed && !b->told.failed && !b->notes.failed &&
           !b->scratch.failed;
}

void batch_free(struct stream_batch *b)
{
    buf_free(&b->lines);
    buf_free(&b->dead);
    buf_free(&b->told);
    buf_free(&b->notes);
    buf_free(&b->scratch);
}
