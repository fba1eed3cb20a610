/* resp.h: writes Redis commands in RESP2 (https://redis.io/docs/reference/protocol-spec/):
 * "*N\r\n", then N bulk strings. */
#ifndef COMMON_REDIS_RESP_H
#define COMMON_REDIS_RESP_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

/* Begins a command of `argc` arguments; exactly so many must follow. */
void resp_begin(struct buf *out, size_t argc);

/* One argument each. */
void resp_arg(struct buf *out, const void *p, size_t n);
void resp_arg_str(struct buf *out, const char *s);
void resp_arg_int(struct buf *out, int64_t n);

/* An array of words and its length, as two arguments of a call. */
#define RESP_WORDS(...)                                                                            \
    (const char *const[]){__VA_ARGS__},                                                            \
        sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *)

/* `count` arguments; resp_words(out, RESP_WORDS("COUNT", "1")). */
void resp_words(struct buf *out, const char *const *words, size_t count);

/* A whole command of words: resp_command(out, RESP_WORDS("XLEN", stream)). */
void resp_command(struct buf *out, const char *const *words, size_t count);

#endif
