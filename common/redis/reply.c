/* reply.c: replies of Redis, as they are built for hiredis and as they are read. */
#include "common/redis/reply.h"

#include <stdlib.h>
#include <string.h>

#include "common/redis/reply-build.h"

#define ALIGNMENT       8
#define CHUNK_MIN_BYTES 512
#define CHUNK_MAX_BYTES 32768 /* larger ones make free(3) tidy up each time */

/* ---- Memory ---- */

struct chunk {
    struct chunk *next;
    size_t used, bytes; /* of data */
    _Alignas(ALIGNMENT) char data[];
};

/* The outermost object. */
struct root {
    redisReply reply;     /* first: this is what hiredis knows */
    struct chunk *chunks; /* owned; objects are added to the first */
};

static struct chunk *chunk_new(size_t bytes)
{
    struct chunk *chunk = malloc(sizeof(*chunk) + bytes);
    if (chunk != NULL)
        *chunk = (struct chunk){.bytes = bytes};
    return chunk;
}

/* What is larger than a chunk gets one of its own, behind the first. */
static void *take_own(struct root *root, size_t n)
{
    struct chunk *own = chunk_new(n);
    if (own == NULL)
        return NULL;
    own->used = n;
    if (root->chunks == NULL) {
        root->chunks = own;
    } else {
        own->next = root->chunks->next;
        root->chunks->next = own;
    }
    return own->data;
}

static size_t next_chunk_bytes(const struct root *root)
{
    if (root->chunks == NULL)
        return CHUNK_MIN_BYTES;
    size_t twice = 2 * root->chunks->bytes;
    return twice < CHUNK_MAX_BYTES ? twice : CHUNK_MAX_BYTES;
}

static void *take(struct root *root, size_t n)
{
    struct chunk *chunk = root->chunks;
    n = (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (chunk == NULL || chunk->bytes - chunk->used < n) {
        size_t bytes = next_chunk_bytes(root);
        if (n > bytes)
            return take_own(root, n);
        chunk = chunk_new(bytes);
        if (chunk == NULL)
            return NULL;
        chunk->next = root->chunks;
        root->chunks = chunk;
    }
    void *p = chunk->data + chunk->used;
    chunk->used += n;
    return p;
}

/* ---- For hiredis ---- */

static struct root *root_of(const redisReadTask *task)
{
    while (task->parent != NULL)
        task = task->parent;
    return task->obj;
}

static redisReply *new_root(size_t extra)
{
    struct root *root = malloc(sizeof(*root) + extra);
    if (root == NULL)
        return NULL;
    root->chunks = NULL;
    return &root->reply;
}

/* An object with so many further bytes, whose place is *more. */
static redisReply *add(const redisReadTask *task, int type, size_t extra, void **more)
{
    bool outermost = task->parent == NULL;
    size_t size = outermost ? sizeof(struct root) : sizeof(redisReply);
    redisReply *r = NULL;
    if (extra <= SIZE_MAX / 2)
        r = outermost ? new_root(extra) : take(root_of(task), size + extra);
    if (r == NULL)
        return NULL;
    *r = (redisReply){.type = type};
    *more = (char *)r + size;
    if (!outermost)
        ((redisReply *)task->parent->obj)->element[task->idx] = r;
    return r;
}

static void *create_string(const redisReadTask *task, char *s, size_t n)
{
    void *text;
    redisReply *r = add(task, task->type, n + 1, &text);
    if (r == NULL)
        return NULL;
    r->str = memcpy(text, s, n);
    r->str[n] = '\0';
    r->len = n;
    return r;
}

static void *add_array(const redisReadTask *task, size_t n)
{
    void *elements;
    if (n > SIZE_MAX / 4 / sizeof(redisReply *))
        return NULL;
    redisReply *r = add(task, REDIS_REPLY_ARRAY, n * sizeof(redisReply *), &elements);
    if (r == NULL)
        return NULL;
    r->element = elements;
    r->elements = n;
    return r;
}

static void *create_integer(const redisReadTask *task, long long n)
{
    void *nothing;
    redisReply *r = add(task, REDIS_REPLY_INTEGER, 0, &nothing);
    if (r != NULL)
        r->integer = n;
    return r;
}

static void *create_nil(const redisReadTask *task)
{
    void *nothing;
    return add(task, REDIS_REPLY_NIL, 0, &nothing);
}

/* Types of RESP3, which no server sends unasked, become nil. */
#if HIREDIS_MAJOR >= 1
static void *create_array(const redisReadTask *task, size_t n)
{
    return add_array(task, n);
}

static void *create_double(const redisReadTask *task, double value, char *s, size_t n)
{
    (void)value, (void)s, (void)n;
    return create_nil(task);
}

static void *create_bool(const redisReadTask *task, int value)
{
    (void)value;
    return create_nil(task);
}
#else
static void *create_array(const redisReadTask *task, int n)
{
    return add_array(task, (size_t)n);
}
#endif

static void free_root(void *reply)
{
    struct root *root = reply;
    if (root == NULL)
        return;
    for (struct chunk *chunk = root->chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    free(root);
}

const redisReplyObjectFunctions reply_build = {
    .createString = create_string,
    .createArray = create_array,
    .createInteger = create_integer,
    .createNil = create_nil,
#if HIREDIS_MAJOR >= 1
    .createDouble = create_double,
    .createBool = create_bool,
#endif
    .freeObject = free_root,
};

/* ---- For readers ---- */

static const redisReply *raw(const struct redis_reply *r)
{
    return (const redisReply *)r;
}

enum redis_reply_type reply_type(const struct redis_reply *r)
{
    switch (raw(r)->type) {
    case REDIS_REPLY_STRING:
        return REPLY_STRING;
    case REDIS_REPLY_STATUS:
        return REPLY_STATUS;
    case REDIS_REPLY_ERROR:
        return REPLY_ERROR;
    case REDIS_REPLY_INTEGER:
        return REPLY_INTEGER;
    case REDIS_REPLY_ARRAY:
        return REPLY_ARRAY;
    default: /* nil, and the types of RESP3, which no server sends unasked */
        return REPLY_NIL;
    }
}

struct span reply_span(const struct redis_reply *r)
{
    switch (raw(r)->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:
        return (struct span){raw(r)->str, (size_t)raw(r)->len};
    default:
        return (struct span){NULL, 0};
    }
}

int64_t reply_integer(const struct redis_reply *r)
{
    return raw(r)->type == REDIS_REPLY_INTEGER ? raw(r)->integer : 0;
}

size_t reply_count(const struct redis_reply *r)
{
    return raw(r)->type == REDIS_REPLY_ARRAY ? raw(r)->elements : 0;
}

const struct redis_reply *reply_at(const struct redis_reply *r, size_t i)
{
    return (const struct redis_reply *)raw(r)->element[i];
}

bool reply_is_error(const struct redis_reply *r, const char *code)
{
    struct span text = reply_span(r);
    size_t n = strlen(code);
    return raw(r)->type == REDIS_REPLY_ERROR && text.n >= n && memcmp(text.p, code, n) == 0 &&
           (text.n == n || text.p[n] == ' ');
}
