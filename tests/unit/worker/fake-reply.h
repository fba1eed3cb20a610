/* fake-reply.h: replies of Redis that a test makes itself. Takes the place of reply.c. Needs
 * cmocka's headers before it. */
#ifndef TESTS_UNIT_WORKER_FAKE_REPLY_H
#define TESTS_UNIT_WORKER_FAKE_REPLY_H

#include "common/redis/reply.h"

struct redis_reply {
    enum redis_reply_type type;
    struct span text;
    int64_t integer;
    const struct redis_reply *items;
    size_t count;
};

enum redis_reply_type reply_type(const struct redis_reply *r)
{
    return r->type;
}

struct span reply_span(const struct redis_reply *r)
{
    return r->text;
}

int64_t reply_integer(const struct redis_reply *r)
{
    return r->integer;
}

size_t reply_count(const struct redis_reply *r)
{
    return r->count;
}

const struct redis_reply *reply_at(const struct redis_reply *r, size_t i)
{
    assert_true(i < r->count);
    return &r->items[i];
}

#define TEXT(s)                                                                                    \
    {                                                                                              \
        .type = REPLY_STRING, .text = {(s), sizeof(s) - 1 }                                        \
    }
#define INTEGER(n)                                                                                 \
    {                                                                                              \
        .type = REPLY_INTEGER, .integer = (n)                                                      \
    }
#define NIL                                                                                        \
    {                                                                                              \
        .type = REPLY_NIL                                                                          \
    }
#define ARRAY(...)                                                                                 \
    {                                                                                              \
        .type = REPLY_ARRAY, .items = (const struct redis_reply[]){__VA_ARGS__},                   \
        .count = sizeof((const struct redis_reply[]){__VA_ARGS__}) / sizeof(struct redis_reply)    \
    }

#endif
