/* answer.c: what logd's answer to a batch means. sender.c asks. */
#include "answer-internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The number after "name" and a colon in a JSON object; -1 when it is not there. */
static int64_t find_number(const char *json, const char *name)
{
    static const char space[] = " \t\r\n";
    const char *at = strstr(json, name);
    if (at == NULL)
        return -1;
    at += strlen(name);
    at += strspn(at, space);
    if (*at++ != ':')
        return -1;
    at += strspn(at, space);
    return *at >= '0' && *at <= '9' ? strtoll(at, NULL, 10) : -1;
}

/* logd's 400 names the record at fault by its index, and its 413 is JSON with an error. Nothing
 * else proves that a record is to blame. */
enum lc_verdict lc_answer_verdict(const struct lc_http_answer *answer, size_t count, size_t *index)
{
    bool has_error = strstr(answer->body, "\"error\"") != NULL;
    int64_t number;
    *index = 0;
    switch (answer->status) {
    case 200:
        return find_number(answer->body, "\"accepted\"") == (int64_t)count ? LC_TAKEN
                                                                           : LC_NOT_TAKEN;
    case 400:
        number = find_number(answer->body, "\"index\"");
        if (!has_error || number < 0 || (size_t)number >= count)
            return LC_NOT_TAKEN;
        *index = (size_t)number;
        return LC_REFUSED;
    case 413:
        if (count > 1)
            return LC_TOO_LARGE;
        return has_error ? LC_REFUSED : LC_NOT_TAKEN;
    default:
        return LC_NOT_TAKEN;
    }
}

uint64_t lc_answer_duplicates(const struct lc_http_answer *answer)
{
    int64_t number = find_number(answer->body, "\"duplicates\"");
    return number > 0 ? (uint64_t)number : 0;
}

void lc_answer_describe(const struct lc_http_answer *answer, const char *url, char *text,
                        size_t size)
{
    if (answer->status == 0)
        snprintf(text, size, "%s: %s", url, answer->error);
    else if (answer->status == 200)
        snprintf(text, size, "%s does not answer as logd does: %.200s", url, answer->body);
    else
        snprintf(text, size, "%s answered %d: %.200s", url, answer->status, answer->body);
}
