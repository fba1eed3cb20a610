/* resp.c: writes RESP2 commands straight into a buffer. */
#include "common/redis/resp.h"

/* Writes "<prefix><n>\r\n". */
static void add_count(struct buf *out, char prefix, size_t n)
{
    char text[32];
    char *p = text + sizeof(text);
    *--p = '\n';
    *--p = '\r';
    do
        *--p = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    *--p = prefix;
    buf_add(out, p, (size_t)(text + sizeof(text) - p));
}

void resp_begin(struct buf *out, size_t argc)
{
    add_count(out, '*', argc);
}

void resp_arg(struct buf *out, const void *p, size_t n)
{
    add_count(out, '$', n);
    buf_add(out, p, n);
    buf_add_lit(out, "\r\n");
}

void resp_arg_str(struct buf *out, const char *s)
{
    resp_arg(out, s, strlen(s));
}

void resp_arg_int(struct buf *out, int64_t n)
{
    char text[24];
    char *p = text + sizeof(text);
    uint64_t rest = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    do
        *--p = (char)('0' + rest % 10);
    while ((rest /= 10) != 0);
    if (n < 0)
        *--p = '-';
    resp_arg(out, p, (size_t)(text + sizeof(text) - p));
}

void resp_words(struct buf *out, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        resp_arg_str(out, words[i]);
}

void resp_command(struct buf *out, const char *const *words, size_t count)
{
    resp_begin(out, count);
    resp_words(out, words, count);
}
