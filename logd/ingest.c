/* ingest.c: reads a body record by record, and writes each as arguments of store.c's script. */
#include "logd/ingest.h"

#include "common/jsontext.h"
#include "common/redis/resp.h"
#include "common/timestamp.h"
#include "logd/parse.h"

/* One body on its way. */
struct reader {
    const struct ingest *in;
    struct failure *f;
    struct parser parser;
    const char *at; /* next byte */
    const char *end;
    size_t count; /* records so far */
};

static void skip_space(struct reader *r)
{
    r->at = jsontext_skip_space(r->at, r->end);
}

static bool begins(const char *at, const char *end, const char *word)
{
    size_t n = strlen(word);
    return (size_t)(end - at) >= n && memcmp(at, word, n) == 0;
}

/* What the JSON text at `at` would be. */
static const char *kind(const char *at, const char *end)
{
    switch (*at) {
    case '{':
        return "an object";
    case '[':
        return "an array";
    case '"':
        return "a string";
    default:
        break;
    }
    if (begins(at, end, "true") || begins(at, end, "false"))
        return "a boolean";
    if (begins(at, end, "null"))
        return "null";
    return *at == '-' || (*at >= '0' && *at <= '9') ? "a number" : "something that is not JSON";
}

static void emit(struct reader *r, const struct record *record)
{
    char timestamp[TIMESTAMP_LEN];
    const char *level = level_name(record->level);
    timestamp_format(record->timestamp_ms, timestamp);
    const struct span values[FIELD_COUNT] = {
        [FIELD_SERVICE] = record->service, [FIELD_LEVEL] = {level, strlen(level)},
        [FIELD_MESSAGE] = record->message, [FIELD_TIMESTAMP] = {timestamp, TIMESTAMP_LEN},
        [FIELD_FIELDS] = record->fields,
    };
    for (size_t f = 0; f < FIELD_COUNT; f++)
        resp_arg(r->in->args, values[f].p, values[f].n);
    if (r->in->lines != NULL)
        record_write_line(r->in->lines, record);
}

/* Reads one record at r->at, which is not the end, and moves behind it. */
static bool read_record(struct reader *r)
{
    if (r->count == r->in->max_records) {
        failure_set(r->f, 413, "the body has more than %zu records (--max-records): split it",
                    r->in->max_records);
        return false;
    }
    if (*r->at != '{') {
        failure_set_record(r->f, r->count, "", "a record must be a JSON object; got %s",
                           kind(r->at, r->end));
        return false;
    }
    struct record record;
    size_t n = parse_object(&r->parser, r->at, (size_t)(r->end - r->at), r->count, &record, r->f);
    if (n == 0)
        return false;
    emit(r, &record);
    r->at += n;
    r->count++;
    return true;
}

static bool nothing_follows(struct reader *r)
{
    skip_space(r);
    if (r->at == r->end)
        return true;
    failure_set(r->f, 400,
                "there is more after the JSON value, from byte %zu of the body; for one object a "
                "line send Content-Type: application/x-ndjson",
                (size_t)(r->at - r->parser.body));
    return false;
}

static bool read_array(struct reader *r)
{
    r->at++;
    skip_space(r);
    if (r->at < r->end && *r->at == ']') {
        failure_set(r->f, 400, "the array is empty: send at least one record");
        return false;
    }
    for (; r->at < r->end; skip_space(r)) {
        if (!read_record(r))
            return false;
        skip_space(r);
        if (r->at == r->end)
            break;
        char c = *r->at++;
        if (c == ']')
            return nothing_follows(r);
        if (c != ',') {
            failure_set(r->f, 400, "not valid JSON at byte %zu of the body: ',' or ']' expected",
                        (size_t)(r->at - 1 - r->parser.body));
            return false;
        }
    }
    failure_set(r->f, 400, "the body ends in the middle of the array: send it whole");
    return false;
}

static bool read_json(struct reader *r)
{
    skip_space(r);
    if (r->at == r->end) {
        failure_set(r->f, 400, "the body is empty: send a JSON object or an array of objects");
        return false;
    }
    if (*r->at == '[')
        return read_array(r);
    if (*r->at == '{')
        return read_record(r) && nothing_follows(r);
    failure_set(r->f, 400, "the body must be a JSON object or an array of objects; got %s",
                kind(r->at, r->end));
    return false;
}

static bool read_line(struct reader *r)
{
    skip_space(r);
    if (r->at == r->end)
        return true;
    if (!read_record(r))
        return false;
    skip_space(r);
    if (r->at == r->end)
        return true;
    failure_set_record(r->f, r->count - 1, "", "a line must hold one JSON object and nothing else");
    return false;
}

static bool read_lines(struct reader *r)
{
    const char *end = r->end;
    while (r->at < end) {
        const char *newline = memchr(r->at, '\n', (size_t)(end - r->at));
        r->end = newline != NULL ? newline : end;
        if (!read_line(r))
            return false;
        r->at = newline != NULL ? newline + 1 : end;
    }
    if (r->count == 0)
        failure_set(r->f, 400, "the body is empty: send one JSON object a line");
    return r->count > 0;
}

size_t ingest_body(const struct ingest *in, enum ingest_format format, struct span body,
                   struct failure *f)
{
    struct reader r = {
        .in = in,
        .f = f,
        .parser = {.body = body.p, .max_message = in->max_message, .now_ms = in->now_ms},
        .at = body.p,
        .end = body.p + body.n,
    };
    bool ok = format == INGEST_LINES ? read_lines(&r) : read_json(&r);
    parser_free(&r.parser);
    if (!ok)
        return 0;
    if (in->args->failed || (in->lines != NULL && in->lines->failed)) {
        failure_set_unavailable(f, STORED_NOTHING, "logd is out of memory; try again later");
        return 0;
    }
    return r.count;
}
