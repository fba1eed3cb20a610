/* floor.c: measures Redis alone: one hiredis client, one connection, one command after the other.
 *
 * A cycle is the least that is right: logd's script adds a batch, XREAD reads it, and the worker's
 * commit script takes it out, under a lease and with an account. --part fill only adds, and leaves
 * the records there; --part drain reads and commits what it finds. Prints one JSON object for each
 * batch size. */
#include <errno.h>
#include <getopt.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "logd/script.h"
#include "util.h"
#include "worker/script.h"

#define LEASE        "0123456789abcdef0123456789abcdef 0123456789abcdef host=bench pid=1 log=none"
#define LEASE_MS     "10000"
#define PREFIX       8 /* arguments of the adding script before the records */
#define RECORD       5 /* arguments of a record */
#define SEQUENCE_ARG 5
#define CURSOR_ARG   5 /* of XREAD */
#define NUMBER_LEN   24
#define ID_LEN       48
#define SHA_LEN      41
#define KEY_LEN      256

enum part {
    PART_CYCLE, /* both */
    PART_FILL,
    PART_DRAIN,
};

static struct {
    const char *socket, *stream, *batches;
    enum part part;
    long records, bytes;
} opt = {.stream = "bench:floor", .batches = "1000", .records = 100000, .bytes = 100};

static redisContext *redis;
static long long sequence = 1; /* of the next record */
static char store_sha[SHA_LEN], commit_sha[SHA_LEN];
static char producer[KEY_LEN], owner[KEY_LEN], account[KEY_LEN], dead[KEY_LEN];

/* ---- Commands ---- */

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

static void add_all(struct command *c, const char *const *args)
{
    for (; *args != NULL; args++)
        add(c, *args);
}

static void set(struct command *c, int arg, const char *text)
{
    c->argv[arg] = text;
    c->argvlen[arg] = strlen(text);
}

static redisReply *run(const struct command *c, int type)
{
    redisReply *reply = redisCommandArgv(redis, c->argc, c->argv, c->argvlen);
    if (reply == NULL)
        die("redis", redis->errstr);
    if (reply->type != type)
        die("redis", reply->str != NULL ? reply->str : "a reply of an unexpected type");
    return reply;
}

/* The first `max` bytes of a reply that is text. */
static void simple(int type, char *text, size_t max, const char *const *args)
{
    struct command c = command_new(8);
    add_all(&c, args);
    redisReply *reply = run(&c, type);
    if (text != NULL)
        snprintf(text, max, "%s", reply->str);
    freeReplyObject(reply);
    command_free(&c);
}

/* ---- The cycle ---- */

struct cycle {
    long batch;
    char sequence[NUMBER_LEN], count[NUMBER_LEN], written[NUMBER_LEN];
    char first[ID_LEN], last[ID_LEN], next[ID_LEN];
    struct command store, read, commit;
};

static void store_init(struct cycle *c, const char *message)
{
    const char *record[] = {"bench", "error", message, "2026-01-01T00:00:00.000Z", "", NULL};
    c->store = command_new(PREFIX + RECORD * (size_t)c->batch);
    add_all(&c->store, (const char *[]){"EVALSHA", store_sha, "2", opt.stream, producer,
                                        c->sequence, "0", "604800", NULL});
    for (long i = 0; i < c->batch; i++)
        add_all(&c->store, record);
}

static void cycle_init(struct cycle *c, long batch, const char *message)
{
    c->batch = batch;
    snprintf(c->count, sizeof(c->count), "%ld", batch);
    snprintf(c->last, sizeof(c->last), "0-0");
    store_init(c, message);
    c->read = command_new(6);
    add_all(&c->read,
            (const char *[]){"XREAD", "COUNT", c->count, "STREAMS", opt.stream, c->last, NULL});
    c->commit = command_new(15);
}

static void cycle_free(struct cycle *c)
{
    command_free(&c->store);
    command_free(&c->read);
    command_free(&c->commit);
}

static void store(struct cycle *c)
{
    snprintf(c->sequence, sizeof(c->sequence), "%lld", sequence);
    set(&c->store, SEQUENCE_ARG, c->sequence);
    redisReply *reply = run(&c->store, REDIS_REPLY_ARRAY);
    if (reply->elements != 2 || reply->element[0]->integer != c->batch)
        die("the adding script", "did not store all of the batch");
    freeReplyObject(reply);
    sequence += c->batch;
}

static const char *id_of(const redisReply *entry)
{
    return entry->element[0]->str;
}

/* Reads a batch, and returns how many entries it has. */
static size_t read_batch(struct cycle *c)
{
    uint64_t ms, seq;
    set(&c->read, CURSOR_ARG, c->last);
    redisReply *reply = run(&c->read, REDIS_REPLY_ARRAY);
    /* ((stream, ((id, fields), …))) */
    const redisReply *entries = reply->element[0]->element[1];
    size_t n = entries->elements;
    snprintf(c->first, sizeof(c->first), "%s", id_of(entries->element[0]));
    snprintf(c->last, sizeof(c->last), "%s", id_of(entries->element[n - 1]));
    if (sscanf(c->last, "%" SCNu64 "-%" SCNu64, &ms, &seq) != 2)
        die("XREAD", "an id of an unexpected form");
    snprintf(c->next, sizeof(c->next), "%" PRIu64 "-%" PRIu64, ms, seq + 1);
    snprintf(c->written, sizeof(c->written), "%zu", n);
    freeReplyObject(reply);
    return n;
}

static void commit(struct cycle *c, long left)
{
    c->commit.argc = 0;
    add_all(&c->commit,
            (const char *[]){"EVALSHA", commit_sha, "4", opt.stream, owner, account, dead, LEASE,
                             LEASE_MS, c->first, c->next, "", "0", c->written, "0", NULL});
    redisReply *reply = run(&c->commit, REDIS_REPLY_ARRAY);
    if (reply->elements != 5 || reply->element[0]->integer != left)
        die("the commit script", "left more or less than it should");
    freeReplyObject(reply);
}

static void drain(struct cycle *c, long records)
{
    while (records > 0) {
        records -= (long)read_batch(c);
        commit(c, records);
    }
}

static long cycles(const struct cycle *c)
{
    return (opt.records + c->batch - 1) / c->batch;
}

static void fill(struct cycle *c)
{
    for (long i = 0; i < cycles(c); i++)
        store(c);
}

static void cycle(struct cycle *c)
{
    for (long i = 0; i < cycles(c); i++) {
        store(c);
        drain(c, c->batch);
    }
}

/* ---- Measuring ---- */

static void clear(void)
{
    simple(REDIS_REPLY_INTEGER, NULL, 0,
           (const char *[]){"DEL", opt.stream, producer, owner, account, dead, NULL});
    sequence = 1;
}

static long length(void)
{
    struct command c = command_new(2);
    add_all(&c, (const char *[]){"XLEN", opt.stream, NULL});
    redisReply *reply = run(&c, REDIS_REPLY_INTEGER);
    long n = (long)reply->integer;
    freeReplyObject(reply);
    command_free(&c);
    return n;
}

static void work(struct cycle *c, long records)
{
    if (opt.part == PART_FILL)
        fill(c);
    else if (opt.part == PART_DRAIN)
        drain(c, records);
    else
        cycle(c);
}

/* The account of a fresh stream is right; what --part fill has left is such a stream, and without
 * an owner. */
static void measure(long batch, const char *message)
{
    struct cycle c = {0};
    cycle_init(&c, batch, message);
    if (opt.part != PART_DRAIN)
        clear();
    long records = opt.part == PART_DRAIN ? length() : cycles(&c) * batch;
    if (opt.part != PART_FILL)
        simple(REDIS_REPLY_STATUS, NULL, 0,
               (const char *[]){"SET", owner, LEASE, "PX", LEASE_MS, NULL});
    int64_t begin = now_ns(CLOCK_MONOTONIC);
    double cpu = cpu_seconds();
    work(&c, records);
    double seconds = (double)(now_ns(CLOCK_MONOTONIC) - begin) / 1e9;
    cpu = cpu_seconds() - cpu;
    say("{\"batch\":%ld,\"records\":%ld,\"seconds\":%.6f,\"cpu_seconds\":%.6f}", batch, records,
        seconds, cpu);
    cycle_free(&c);
}

/* ---- Set-up ---- */

static void connect_and_prepare(void)
{
    redis = redisConnectUnix(opt.socket);
    if (redis == NULL || redis->err)
        die(opt.socket, redis != NULL ? redis->errstr : "out of memory");
    snprintf(producer, sizeof(producer), "%s:producer:%s", opt.stream,
             "0123456789abcdef0123456789abcdef");
    snprintf(owner, sizeof(owner), "%s:owner", opt.stream);
    snprintf(account, sizeof(account), "%s:account", opt.stream);
    snprintf(dead, sizeof(dead), "%s:dead", opt.stream);
    simple(REDIS_REPLY_STRING, store_sha, sizeof(store_sha),
           (const char *[]){"SCRIPT", "LOAD", store_script, NULL});
    simple(REDIS_REPLY_STRING, commit_sha, sizeof(commit_sha),
           (const char *[]){"SCRIPT", "LOAD", commit_script, NULL});
}

static enum part part_of(const char *text)
{
    static const char *const names[] = {
        [PART_CYCLE] = "cycle", [PART_FILL] = "fill", [PART_DRAIN] = "drain"};
    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0)
            return (enum part)i;
    die("--part", "cycle, fill or drain");
}

static void parse_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"socket", 1, NULL, 's'},  {"records", 1, NULL, 'n'}, {"bytes", 1, NULL, 'b'},
        {"batches", 1, NULL, 'a'}, {"stream", 1, NULL, 'k'},  {"part", 1, NULL, 'p'},
        {NULL, 0, NULL, 0},
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
        else if (c == 'k')
            opt.stream = optarg;
        else if (c == 'p')
            opt.part = part_of(optarg);
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
    if (opt.part != PART_FILL)
        clear();
    redisFree(redis);
    free(batches);
    free(message);
    return 0;
}
