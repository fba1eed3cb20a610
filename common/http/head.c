/* head.c: collects headers and judges the framing. */
#include "common/http/head.h"

#include <string.h>
#include <strings.h>

static const char *const names[HEAD_NAMES + 1] = {
    [HEAD_HOST] = "Host",
    [HEAD_CONTENT_LENGTH] = "Content-Length",
    [HEAD_CONTENT_TYPE] = "Content-Type",
    [HEAD_CONTENT_ENCODING] = "Content-Encoding",
    [HEAD_TRANSFER_ENCODING] = "Transfer-Encoding",
};

static bool has_bad_byte(const char *name)
{
    for (; *name != '\0'; name++)
        if ((unsigned char)*name <= ' ' || *name == 0x7f)
            return true;
    return false;
}

static void take(struct head *h, const char *const *known, const char **values, const char *name,
                 const char *value)
{
    for (size_t i = 0; known[i] != NULL; i++) {
        if (strcasecmp(name, known[i]) != 0)
            continue;
        if (values[i] == NULL)
            values[i] = value;
        else
            h->repeated = known[i];
        return;
    }
}

void head_take(struct head *h, const char *const *own, const char *name, const char *value)
{
    h->bad_name |= *name == '\0' || has_bad_byte(name);
    take(h, names, h->value, name, value);
    if (own != NULL)
        take(h, own, h->own, name, value);
}

static const char *framing_error(const struct head *h, bool has_body)
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
    if (!has_body && (transfer != NULL || (length != NULL && length[strspn(length, "0")] != '\0')))
        return "this method takes no body: send none";
    return NULL;
}

bool head_framing_ok(const struct head *h, bool has_body, struct failure *f)
{
    const char *wrong = framing_error(h, has_body);
    if (wrong != NULL)
        failure_set(f, 400, "%s", wrong);
    else if (h->repeated != NULL)
        failure_set(f, 400, "%s was sent more than once: send it once", h->repeated);
    return wrong == NULL && h->repeated == NULL;
}
