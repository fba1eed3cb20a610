/* media.c: the media types that logd takes (doc/protocol.md, section 2.1). */
#include "logd/media.h"

#include <string.h>
#include <strings.h>

/* Whether the media type, without its parameters, is `type`. */
static bool is_type(const char *value, const char *type)
{
    size_t n = strlen(type);
    if (strncasecmp(value, type, n) != 0)
        return false;
    value += n;
    value += strspn(value, " \t");
    return *value == '\0' || *value == ';';
}

bool media_format(const struct head *h, enum ingest_format *format, struct failure *f)
{
    static const char *const lines[] = {"application/x-ndjson", "application/jsonl",
                                        "application/json-lines", "application/stream+json"};
    char shown[FAILURE_SHOWN_MAX];
    const char *encoding = h->value[HEAD_CONTENT_ENCODING];
    const char *type = h->value[HEAD_CONTENT_TYPE];
    if (encoding != NULL && strcasecmp(encoding, "identity") != 0) {
        failure_set(f, 415, "Content-Encoding %s is not taken: send the body uncompressed",
                    failure_show(shown, encoding, strlen(encoding)));
        return false;
    }
    *format = INGEST_JSON;
    if (type == NULL || is_type(type, "application/json"))
        return true;
    *format = INGEST_LINES;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        if (is_type(type, lines[i]))
            return true;
    failure_set(f, 415,
                "Content-Type %s is not taken: send application/json or application/x-ndjson",
                failure_show(shown, type, strlen(type)));
    return false;
}
