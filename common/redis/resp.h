/* resp.h: writes Redis commands in RESP2 (https://redis.io/docs/reference/protocol-spec/):
 * "*N\r\n", then N bulk strings. */
#ifndef COMMON_REDIS_RESP_H
#define COMMON_REDIS_RESP_H

#include <stdint.h>

#include "common/buf.h"

/* Begins a command of `argc` arguments; resp_arg() must follow exactly argc times. */
void resp_begin(struct buf *out, size_t argc);
void resp_arg(struct buf *out, const void *p, size_t n);
void resp_arg_str(struct buf *out, const char *s);
void resp_arg_int(struct buf *out, int64_t n);

#endif
