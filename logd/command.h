/* command.h: the Redis command that stores records: a call of the script in script.h. The store
 * sends one for each batch, or for several small ones. */
#ifndef LOGD_COMMAND_H
#define LOGD_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/redis/link.h"
#include "logd/producer.h"

#define COMMAND_SHA_LEN 40

/* What all commands have in common. */
struct command {
    const char *stream; /* borrowed */
    int64_t producer_ttl_ms;
    struct redis_link *link;       /* borrowed; set by the store when it has one */
    size_t room;                   /* bytes before the records: EVALSHA fits, so nothing is moved */
    char sha[COMMAND_SHA_LEN + 1]; /* of the script; "" until Redis has said it */
    struct buf prefix, key;        /* scratch */
};

void command_init(struct command *c, const char *stream, int64_t producer_ttl_ms);

/* Gives Redis the script. Until it has answered, each command carries the whole of it. */
void command_load(struct command *c);

/* Sends `count` records: `args` holds `room` bytes to be filled, then INGEST_ARGS arguments a
 * record. False: not sent. The records stay as they are, so that they can be sent once more with
 * the whole script, when Redis has answered NOSCRIPT. */
bool command_send(struct command *c, const struct producer *p, size_t count, struct buf *args,
                  bool whole_script, redis_reply_cb *cb, void *arg);

/* Reads the reply: how many of `count` records were new, and how many sequence numbers never came.
 * False when the script can't have said that. */
bool command_read(const struct redis_reply *reply, size_t count, size_t *fresh, int64_t *gap);

/* The text of an error, without where in the script it arose, which tells a client nothing. */
struct span command_error(const struct redis_reply *reply);

void command_free(struct command *c);

#endif
