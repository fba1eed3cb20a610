/* producer.c: reads the headers of an idempotent producer. */
#include "logd/producer.h"

static bool is_id(const char *s)
{
    return strlen(s) == PRODUCER_ID_LEN && strspn(s, "0123456789abcdef") == PRODUCER_ID_LEN;
}

static bool parse_number(const char *s, int64_t min, int64_t *out)
{
    int64_t n = 0;
    size_t len = strspn(s, "0123456789");
    if (len == 0 || len > 16 || s[len] != '\0')
        return false;
    for (size_t i = 0; i < len; i++)
        n = n * 10 + (s[i] - '0');
    *out = n;
    return n >= min && n <= PRODUCER_SEQUENCE_MAX;
}

bool producer_parse(struct producer *p, const char *id, const char *sequence, const char *skip,
                    struct failure *f)
{
    char shown[FAILURE_SHOWN_MAX];
    *p = (struct producer){0};
    if (id == NULL && sequence == NULL && skip == NULL)
        return true;
    if (id == NULL || sequence == NULL) {
        failure_set(f, 400, "Log-Producer and Log-Sequence go together: send both or none");
        return false;
    }
    if (!is_id(id)) {
        failure_set(f, 400, "Log-Producer must be 32 lower-case hexadecimal digits; got %s",
                    failure_show(shown, id, strlen(id)));
        return false;
    }
    if (!parse_number(sequence, 1, &p->first)) {
        failure_set(f, 400, "Log-Sequence must be a decimal number from 1 to 2^53 - 1; got %s",
                    failure_show(shown, sequence, strlen(sequence)));
        return false;
    }
    if (skip != NULL && !parse_number(skip, 0, &p->skip)) {
        failure_set(f, 400, "Log-Skip must be a decimal number from 0 to 2^53 - 1; got %s",
                    failure_show(shown, skip, strlen(skip)));
        return false;
    }
    memcpy(p->id, id, sizeof(p->id));
    return true;
}

bool producer_takes(const struct producer *p, size_t count, struct failure *f)
{
    if (p->first - 1 <= PRODUCER_SEQUENCE_MAX - (int64_t)count)
        return true;
    failure_set(f, 400,
                "the sequence numbers of this body end above 2^53 - 1: begin a new producer");
    return false;
}
