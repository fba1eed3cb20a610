/* keys.h: the names of all keys that belong to a stream (doc/protocol.md, section 3). logd and
 * logworker use it, and build none themselves. */
#ifndef COMMON_REDIS_KEYS_H
#define COMMON_REDIS_KEYS_H

#include "common/buf.h"

enum redis_key {
    KEY_DEAD,    /* stream of the entries that logworker could not read */
    KEY_OWNER,   /* lease of the worker that reads the stream */
    KEY_ACCOUNT, /* hash: what became of the entries that were removed */
    KEY_PROBE,   /* never exists: a write that changes nothing names it */
};

/* Owned by the caller. NULL: out of memory. */
char *key_new(const char *stream, enum redis_key key);

/* Appends the name of the key that holds a producer's last sequence number. */
void key_add_producer(struct buf *out, const char *stream, const char *id);

#endif
