/* test_batch.c: what becomes of the entries of a reply. The replies are made here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/redis/link.h"
#include "worker/batch.h"

#define TIME       "2026-11-24T02:35:02.123Z"
#define MANY_SPANS 7002

/* ---- Replies ---- */

struct redis_reply {
    enum redis_reply_type type;
    struct span text;
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
#define NIL                                                                                        \
    {                                                                                              \
        .type = REPLY_NIL                                                                          \
    }
#define ARRAY(...)                                                                                 \
    {                                                                                              \
        .type = REPLY_ARRAY, .items = (const struct redis_reply[]){__VA_ARGS__},                   \
        .count = sizeof((const struct redis_reply[]){__VA_ARGS__}) / sizeof(struct redis_reply)    \
    }
#define ENTRY(id, level, message)                                                                  \
    ARRAY(TEXT(id), ARRAY(TEXT("service"), TEXT("s"), TEXT("level"), TEXT(level), TEXT("message"), \
                          TEXT(message), TEXT("timestamp"), TEXT(TIME)))
#define LINE(level, message)                                                                       \
    "{\"level\":\"" level "\",\"message\":\"" message "\",\"service\":\"s\",\"timestamp\":\"" TIME \
    "\"}\n"

/* ---- Batches ---- */

static char dead_key[] = "s:dead";
static const struct config config = {
    .stream = "s", .group = "g", .dead_key = dead_key, .level = LEVEL_WARN};
static struct stream_batch batch;
static const char *why;

static bool read_after(const struct redis_reply *entries, uint64_t committed_ms)
{
    return batch_read(&batch, &config, entries, (struct stream_id){committed_ms, 0}, &why);
}

static void assert_text(const struct buf *b, const char *expected)
{
    if (b->len != strlen(expected) || memcmp(b->data, expected, b->len) != 0)
        fail_msg("%.*s, not %s", (int)b->len, b->data, expected);
}

static bool has(struct span s, const char *part)
{
    return memmem(s.p, s.n, part, strlen(part)) != NULL;
}

static void test_entries_become_lines_and_ids(void **arg)
{
    const struct redis_reply entries =
        ARRAY(ENTRY("1-0", "warn", "one"), ENTRY("2-0", "info", "two"), ENTRY("3-7", "fatal", "x"));
    (void)arg;
    assert_true(read_after(&entries, 0));
    assert_text(&batch.lines, LINE("warn", "one") LINE("fatal", "x"));
    assert_text(&batch.ids, "$3\r\n1-0\r\n$3\r\n2-0\r\n$3\r\n3-7\r\n");
    assert_int_equal(batch.id_count, 3);
    assert_int_equal(batch.read, 3);
    assert_int_equal(batch.written, 2);
    assert_int_equal(batch.filtered, 1);
    assert_true(batch.fresh);
    assert_int_equal(batch.last_fresh.ms, 3);
    assert_int_equal(batch.last_fresh.seq, 7);
    assert_int_equal(batch.dead_count, 0);
}

static void test_committed_and_deleted_entries_are_only_acknowledged(void **arg)
{
    const struct redis_reply entries =
        ARRAY(ENTRY("1-0", "warn", "one"), ENTRY("2-0", "warn", "two"), ARRAY(TEXT("3-0"), NIL));
    (void)arg;
    assert_true(read_after(&entries, 1));
    assert_text(&batch.lines, LINE("warn", "two"));
    assert_int_equal(batch.skipped, 2);
    assert_int_equal(batch.id_count, 3);
    assert_int_equal(batch.last_fresh.ms, 2);
    assert_int_equal(batch.last.ms, 3);
    assert_true(read_after(&entries, 2));
    assert_false(batch.fresh);
    assert_int_equal(batch.lines.len, 0);
}

/* The entries around them are written, and they are not acknowledged: the move does that. */
static void test_malformed_entries_become_dead_letters(void **arg)
{
    const struct redis_reply entries =
        ARRAY(ENTRY("1-0", "loud", "one"), ENTRY("2-0", "warn", "two"),
              ARRAY(TEXT("3-0"), ARRAY(TEXT("odd"))));
    (void)arg;
    assert_true(read_after(&entries, 0));
    assert_text(&batch.lines, LINE("warn", "two"));
    assert_text(&batch.ids, "$3\r\n2-0\r\n");
    assert_int_equal(batch.dead_count, 2);
    struct dead_letter first = batch_next_dead(&batch);
    assert_int_equal(first.id.ms, 1);
    assert_true(has(first.reason, "got \"loud\""));
    assert_false(has(first.reason, "\r\n"));
    assert_int_equal(memcmp(first.command.p, "*19\r\n$4\r\nEVAL\r\n", 15), 0);
    assert_true(has(first.command, "$6\r\nreason\r\n"));
    assert_true(has(first.command, "$4\r\nloud\r\n"));
    batch.dead_moved = 1;
    struct dead_letter second = batch_next_dead(&batch);
    assert_ptr_equal(second.command.p, first.command.p + first.command.n);
    assert_ptr_equal(second.command.p + second.command.n, batch.dead.data + batch.dead.len);
    assert_int_equal(second.id.ms, 3);
    assert_true(has(second.reason, "the entry has 0 fields"));
}

/* Lua takes only so many. */
static void test_a_dead_letter_with_very_many_fields_is_cut(void **arg)
{
    static struct redis_reply spans[MANY_SPANS];
    (void)arg;
    for (size_t i = 0; i < MANY_SPANS; i++)
        spans[i] = (struct redis_reply)TEXT("x");
    const struct redis_reply entry[] = {TEXT("1-0"),
                                        {.type = REPLY_ARRAY, .items = spans, .count = MANY_SPANS}};
    const struct redis_reply entries = ARRAY({.type = REPLY_ARRAY, .items = entry, .count = 2});
    assert_true(read_after(&entries, 0));
    struct dead_letter letter = batch_next_dead(&batch);
    assert_true(has(letter.reason, "the entry has 3501 fields"));
    assert_true(has(letter.reason, "(only the first 3500 fields are here)"));
    assert_int_equal(memcmp(letter.command.p, "*7011\r\n", 7), 0);
}

static void test_a_reply_that_makes_no_sense(void **arg)
{
    const struct redis_reply no_pair = ARRAY(ARRAY(TEXT("1-0")));
    const struct redis_reply no_id = ARRAY(ENTRY("one", "warn", "x"));
    (void)arg;
    assert_false(read_after(&no_pair, 0));
    assert_non_null(strstr(why, "not what Redis sends"));
    assert_false(read_after(&no_id, 0));
    assert_non_null(strstr(why, "not what Redis sends"));
}

static void test_a_batch_is_filled_again(void **arg)
{
    const struct redis_reply first =
        ARRAY(ENTRY("1-0", "loud", "one"), ENTRY("2-0", "warn", "two"));
    const struct redis_reply second = ARRAY(ENTRY("3-0", "warn", "three"));
    (void)arg;
    assert_true(read_after(&first, 0));
    batch.dead_moved = 1;
    batch.replayed = true;
    assert_true(read_after(&second, 2));
    assert_text(&batch.lines, LINE("warn", "three"));
    assert_text(&batch.ids, "$3\r\n3-0\r\n");
    assert_int_equal(batch.read, 1);
    assert_int_equal(batch.dead_count + batch.dead_moved + batch.dead.len, 0);
    assert_false(batch.replayed);
}

static int free_batch(void **arg)
{
    (void)arg;
    batch_free(&batch);
    return 0;
}

#define TEST(f) cmocka_unit_test_teardown(f, free_batch)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_entries_become_lines_and_ids),
        TEST(test_committed_and_deleted_entries_are_only_acknowledged),
        TEST(test_malformed_entries_become_dead_letters),
        TEST(test_a_dead_letter_with_very_many_fields_is_cut),
        TEST(test_a_reply_that_makes_no_sense),
        TEST(test_a_batch_is_filled_again),
    };
    return cmocka_run_group_tests_name("worker/batch", tests, NULL, NULL);
}
