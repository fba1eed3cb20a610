#include "common/http/head.h"

#include <string.h>
#include <strings.h>

static const char *const names[HEAD_NAMES] = {
    [HEAD_HOST] = "Host",
    [HEAD_CONTENT_LENGTH] = "Content-Length",
    [HEAD_CONTENT_TYPE] = "Content-Type",
    [HEAD_CONTENT_ENCODING] = "Content-Encoding",
    [HEAD_TRANSFER_ENCODING] = "Transfer-Encoding",
    [HEAD_LOG_PRODUCER] = "Log-Producer",
    [HEAD_LOG_SEQUENCE] = "Log-Sequence",
    [HEAD_LOG_SKIP] = "Log-Skip",
};

static bool has_bad_byte(const char *name)
{
    for (; *name != '\0'; name++)
        if ((unsigned char)*name <= ' ' || *name == 0x7f)
            return true;
    return false;
}

void head_take(struct head *h, const char *name, const char *value)
{
    h->bad_name |= *name == '\0' || has_bad_byte(name);
    for (unsigned i = 0; i < HEAD_NAMES; i++) {
        if (strcasecmp(name, names[i]) != 0)
            continue;
        if (h->value[i] == NULL)
            h->value[i] = value;
        else
            h->repeated |= 1U << i;
        return;
    }
}

static const char *framing_error(const struct head *h)
{
    const char *length = h->value[HEAD_CONTENT_LENGTH];
    const char *transfer = h->value[HEAD_TRANSFER_ENCODING];
    if (h->bad_name)
        return "a header's name is empty or holds white space or control characters: send a token";
    if (length != NULL && (*length == '\0' || length[strspn(length, "0123456789")] != '\0'))
        return "Content-Length must be digits only";
    if (length != NULL && transfer != NULL)
        return "Content-Length and Transfer-Encoding exclude each other: send one";
    if (transfer != NULL && strcasecmp(transfer, "chunked") != 0)
        return "Transfer-Encoding must be exactly \"chunked\"";
    return NULL;
}

bool head_framing_ok(const struct head *h, bool has_body, struct failure *f)
{
    const char *wrong = framing_error(h);
    if (wrong != NULL) {
        failure_set(f, 400, "%s", wrong);
        return false;
    }
    for (unsigned i = 0; h->repeated != 0 && i < HEAD_NAMES; i++) {
        if ((h->repeated & 1U << i) == 0)
            continue;
        failure_set(f, 400, "%s was sent more than once: send it once", names[i]);
        return false;
    }
    const char *length = h->value[HEAD_CONTENT_LENGTH];
    if (!has_body && (h->value[HEAD_TRANSFER_ENCODING] != NULL ||
                      (length != NULL && length[strspn(length, "0")] != '\0'))) {
        failure_set(f, 400, "this method takes no body: send none");
        return false;
    }
    return true;
}

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

bool head_media(const struct head *h, enum head_media *media, struct failure *f)
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
    *media = MEDIA_JSON;
    if (type == NULL || is_type(type, "application/json"))
        return true;
    *media = MEDIA_LINES;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        if (is_type(type, lines[i]))
            return true;
    failure_set(f, 415,
                "Content-Type %s is not taken: send application/json or application/x-ndjson",
                failure_show(shown, type, strlen(type)));
    return false;
}
