/* keys.c: the names of all keys that belong to a stream. */
#include "common/redis/keys.h"

#include <stdio.h>

static const char *const suffixes[] = {
    [KEY_DEAD] = "dead", [KEY_OWNER] = "owner", [KEY_ACCOUNT] = "account", [KEY_PROBE] = "probe"};

char *key_new(const char *stream, enum redis_key key)
{
    char *name;
    return asprintf(&name, "%s:%s", stream, suffixes[key]) < 0 ? NULL : name;
}

void key_add_producer(struct buf *out, const char *stream, const char *id)
{
    buf_add(out, stream, strlen(stream));
    buf_add_lit(out, ":producer:");
    buf_add(out, id, strlen(id));
}
