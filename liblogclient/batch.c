/* batch.c: turns records of a ring into NDJSON. */
#include "batch-internal.h"

#include <stdlib.h>

#include "common/record.h"
#include "common/utf8.h"

bool lc_batch_init(struct lc_batch *batch, size_t limit)
{
    *batch = (struct lc_batch){.limit = limit};
    batch->ends = calloc(limit, sizeof(*batch->ends));
    return batch->ends != NULL;
}

void lc_batch_free(struct lc_batch *batch)
{
    buf_free(&batch->body);
    buf_free(&batch->clean);
    free(batch->ends);
    batch->ends = NULL;
}

/* Makes `text` valid UTF-8 of at most max bytes. Where it must change, it moves into `clean`. */
static void repair(struct buf *clean, struct span *text, size_t max)
{
    size_t start = clean->len;
    if (utf8_valid(text->p, text->n))
        return;
    utf8_repair(clean, text->p, text->n);
    size_t n = clean->len - start;
    /* U+FFFD is longer than the byte that it replaces. */
    *text = (struct span){clean->data + start, utf8_cut(clean->data + start, n, max)};
}

static void append(struct lc_batch *batch, const struct lc_record *r, size_t message_max)
{
    struct record record = {
        .service = r->service,
        .message = r->message,
        .timestamp_ms = r->timestamp_ms,
        .level = r->level,
    };
    if (r->flags & LC_FLAG_JSON) {
        buf_add(&batch->body, r->message.p, r->message.n);
        buf_add_char(&batch->body, '\n');
        return;
    }
    /* Room for both at once: a buffer that grows would move under the first. */
    buf_clear(&batch->clean);
    if (!utf8_valid(r->service.p, r->service.n) || !utf8_valid(r->message.p, r->message.n)) {
        if (!buf_reserve(&batch->clean, 3 * (r->service.n + r->message.n))) {
            batch->body.failed = true;
            return;
        }
        repair(&batch->clean, &record.service, RECORD_SERVICE_MAX);
        repair(&batch->clean, &record.message, message_max);
        batch->repaired++;
    }
    record_write_line(&batch->body, &record);
}

enum lc_ring_read lc_batch_fill(struct lc_batch *batch, const struct lc_reader *reader,
                                uint64_t position, uint64_t stop, size_t max_records,
                                size_t max_bytes, size_t message_max)
{
    struct lc_record record;
    buf_clear(&batch->body);
    batch->count = batch->repaired = 0;
    while (batch->count < max_records && batch->count < batch->limit &&
           batch->body.len < max_bytes && position < stop && !batch->body.failed) {
        enum lc_ring_read result = reader->read(reader->from, &position, &record);
        if (result != LC_RING_RECORD)
            return result;
        if (batch->count == 0)
            batch->first = record.number;
        else if (record.number != batch->first + batch->count)
            break;
        append(batch, &record, message_max);
        batch->ends[batch->count++] = position;
    }
    return LC_RING_RECORD;
}
