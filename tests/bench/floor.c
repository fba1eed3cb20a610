/* floor.c: measures Redis alone: one hiredis client, one connection, one command after the other.
 * A cycle stores a batch with logd's script, reads it with XREADGROUP, and sends XACK and XDEL
 * together. Prints one JSON object for each batch size. */
#include <errno.h>
#include <getopt.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "logd/script.h"
#include "util.h"

#define STREAM       "bench:floor"
#define PRODUCER     STREAM ":producer:0123456789abcdef0123456789abcdef"
#define GROUP        "bench"
#define PREFIX       8 /* arguments before the records */
#define RECORD       5 /* arguments of a record */
#define SEQUENCE_ARG 5
#define NUMBER_LEN   24

static struct {
    const char *socket, *batches;
    long records, bytes;
} opt = {.batches = "128", .records = 100000, .bytes = 100};

static redisContext *redis;
static long long sequence = 1; /* of the next record; the server may know the producer */
static char sha[41];

/* A command's arguments. */
struct command {
    const char **argv;
    size_t *argvlen;
    int argc;
};

static struct command command_new(size_t argc)
{
    struct command c = {calloc(argc, sizeof(char *)), calloc(argc, sizeof(size_t)), 0};
    if (c.argv == NULL || c.argvlen == NULL)
        die("calloc", strerror(errno));
    return c;
}

static void command_free(struct command *c)
{
    free(c->argv);
    free(c->argvlen);
}

static void add(struct command *c, const char *arg)
{
    c->argv[c->argc] = arg;
    c->argvlen[c->argc++] = strlen(arg);
}

static redisReply *checked(redisReply *reply, int type)
{
    if (reply == NULL)
        die("redis", redis->errstr);
    if (reply->type == REDIS_REPLY_ERROR)
        die("redis", reply->str);
    if (reply->type != type)
        die("redis", "a reply of an unexpected type");
    return reply;
}

static redisReply *run(const struct command *c, int type)
{
    return checked(redisCommandArgv(redis, c->argc, c->argv, c->argvlen), type);
}

static void append(const struct command *c)
{
    if (redisAppendCommandArgv(redis, c->argc, c->argv, c->argvlen) != REDIS_OK)
        die("redis", redis->errstr);
}

static void expect_integer(long long expected)
{
    void *reply = NULL;
    if (redisGetReply(redis, &reply) != REDIS_OK)
        die("redis", redis->errstr);
    if (checked(reply, REDIS_REPLY_INTEGER)->integer != expected)
        die("redis", "not all entries were acknowledged or deleted");
    freeReplyObject(reply);
}

/* ---- The cycle ---- */

struct cycle {
    long batch;
    char first[NUMBER_LEN], count[NUMBER_LEN];
    struct command store, read, ack, del;
};

static void cycle_init(struct cycle *c, long batch, const char *message)
{
    c->batch = batch;
    snprintf(c->count, sizeof(c->count), "%ld", batch);
    c->store = command_new(PREFIX + RECORD * (size_t)batch);
    const char *prefix[PREFIX] = {"EVALSHA", sha, "2", STREAM, PRODUCER, "", "0", "604800"};
    for (int i = 0; i < PREFIX; i++)
        add(&c->store, prefix[i]);
    for (long i = 0; i < batch; i++) {
        const char *record[RECORD] = {"bench", "error", message, "2026-01-01T00:00:00.000Z", ""};
        for (int k = 0; k < RECORD; k++)
            add(&c->store, record[k]);
    }
    c->read = command_new(9);
    const char *read[] = {"XREADGROUP", "GROUP",   GROUP,  "floor", "COUNT",
                          c->count,     "STREAMS", STREAM, ">"};
    for (size_t i = 0; i < sizeof(read) / sizeof(read[0]); i++)
        add(&c->read, read[i]);
    c->ack = command_new(3 + (size_t)batch);
    c->del = command_new(2 + (size_t)batch);
}

static void cycle_free(struct cycle *c)
{
    command_free(&c->store);
    command_free(&c->read);
    command_free(&c->ack);
    command_free(&c->del);
}

static void store(struct cycle *c)
{
    snprintf(c->first, sizeof(c->first), "%lld", sequence);
    c->store.argv[SEQUENCE_ARG] = c->first;
    c->store.argvlen[SEQUENCE_ARG] = strlen(c->first);
    redisReply *reply = run(&c->store, REDIS_REPLY_ARRAY);
    if (reply->elements != 2 || reply->element[0]->integer != c->batch)
        die("script", "did not store all of the batch");
    freeReplyObject(reply);
    sequence += c->batch;
}

/* The reply of XREADGROUP: ((stream, ((id, fields), …))). */
static redisReply *entries_of(const redisReply *reply)
{
    if (reply->elements != 1 || reply->element[0]->elements != 2)
        die("XREADGROUP", "a reply of an unexpected form");
    return reply->element[0]->element[1];
}

static void one_cycle(struct cycle *c)
{
    store(c);
    redisReply *reply = run(&c->read, REDIS_REPLY_ARRAY);
    redisReply *entries = entries_of(reply);
    if (entries->elements != (size_t)c->batch)
        die("XREADGROUP", "did not return all of the batch");
    c->ack.argc = c->del.argc = 0;
    add(&c->ack, "XACK");
    add(&c->ack, STREAM);
    add(&c->ack, GROUP);
    add(&c->del, "XDEL");
    add(&c->del, STREAM);
    for (size_t i = 0; i < entries->elements; i++) {
        add(&c->ack, entries->element[i]->element[0]->str);
        add(&c->del, entries->element[i]->element[0]->str);
    }
    append(&c->ack);
    append(&c->del);
    expect_integer(c->batch);
    expect_integer(c->batch);
    freeReplyObject(reply);
}

static void measure(long batch, const char *message)
{
    struct cycle c = {0};
    long cycles = (opt.records + batch - 1) / batch;
    cycle_init(&c, batch, message);
    int64_t begin = now_ns(CLOCK_MONOTONIC);
    double cpu = cpu_seconds();
    for (long i = 0; i < cycles; i++)
        one_cycle(&c);
    double seconds = (double)(now_ns(CLOCK_MONOTONIC) - begin) / 1e9;
    cpu = cpu_seconds() - cpu;
    say("{\"batch\":%ld,\"records\":%ld,\"seconds\":%.6f,\"cpu_seconds\":%.6f}", batch,
        cycles * batch, seconds, cpu);
    cycle_free(&c);
}

/* ---- Set-up ---- */

static void simple(int type, const char *const *args)
{
    struct command c = command_new(8);
    for (; *args != NULL; args++)
        add(&c, *args);
    redisReply *reply = run(&c, type);
    if (type == REDIS_REPLY_STRING)
        snprintf(sha, sizeof(sha), "%s", reply->str);
    freeReplyObject(reply);
    command_free(&c);
}

static void connect_and_prepare(void)
{
    redis = redisConnectUnix(opt.socket);
    if (redis == NULL || redis->err)
        die(opt.socket, redis != NULL ? redis->errstr : "out of memory");
    simple(REDIS_REPLY_INTEGER, (const char *[]){"DEL", STREAM, PRODUCER, NULL});
    simple(REDIS_REPLY_STRING, (const char *[]){"SCRIPT", "LOAD", store_script, NULL});
    simple(REDIS_REPLY_STATUS,
           (const char *[]){"XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM", NULL});
}

static void parse_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"socket", 1, NULL, 's'},  {"records", 1, NULL, 'n'}, {"bytes", 1, NULL, 'b'},
        {"batches", 1, NULL, 'a'}, {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 's')
            opt.socket = optarg;
        else if (c == 'n')
            opt.records = number("--records", optarg);
        else if (c == 'b')
            opt.bytes = number("--bytes", optarg);
        else if (c == 'a')
            opt.batches = optarg;
        else
            exit(64);
    }
    if (opt.socket == NULL)
        die("--socket", "give the path of the server's socket");
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    char *message = filler((size_t)opt.bytes);
    char *batches = strdup(opt.batches);
    if (batches == NULL)
        die("strdup", strerror(errno));
    connect_and_prepare();
    for (char *b = strtok(batches, ","); b != NULL; b = strtok(NULL, ","))
        measure(number("--batches", b), message);
    simple(REDIS_REPLY_INTEGER, (const char *[]){"DEL", STREAM, PRODUCER, NULL});
    redisFree(redis);
    free(batches);
    free(message);
    return 0;
}
