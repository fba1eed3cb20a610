/* test_reply.c: common/redis/reply.c: replies as hiredis's reader builds them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/redis/reply-build.h"
#include "common/redis/reply.h"

#define LARGE 100000 /* bytes; more than a chunk has */

static redisReader *new_reader(void)
{
    redisReader *reader = redisReaderCreate();
    assert_non_null(reader);
    static redisReplyObjectFunctions functions;
    functions = reply_build;
    reader->fn = &functions;
    return reader;
}

/* Writes a reply in a form for people. */
static void show(struct buf *out, const struct redis_reply *r)
{
    static const char *const names[] = {
        [REPLY_STRING] = "string", [REPLY_STATUS] = "status", [REPLY_ERROR] = "error"};
    struct span text = reply_span(r);
    switch (reply_type(r)) {
    case REPLY_NIL:
        buf_add_lit(out, "nil");
        break;
    case REPLY_INTEGER:
        buf_printf(out, "%lld", (long long)reply_integer(r));
        break;
    case REPLY_ARRAY:
        buf_add_char(out, '(');
        for (size_t i = 0; i < reply_count(r); i++) {
            if (i > 0)
                buf_add_char(out, ' ');
            show(out, reply_at(r, i));
        }
        buf_add_char(out, ')');
        break;
    default:
        buf_printf(out, "%s:%.*s", names[reply_type(r)], (int)text.n, text.p);
        assert_int_equal(text.p[text.n], '\0');
    }
}

static void assert_reply(redisReader *reader, const char *want)
{
    struct buf shown = {0};
    void *reply = NULL;
    assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
    assert_non_null(reply);
    show(&shown, reply);
    buf_add_char(&shown, '\0');
    assert_string_equal(shown.data, want);
    buf_free(&shown);
    reply_build.freeObject(reply);
}

/* ---- Forms ---- */

static const struct {
    const char *sent, *shown;
} forms[] = {
    {"+OK\r\n", "status:OK"},
    {"-ERR wrong\r\n", "error:ERR wrong"},
    {":-7\r\n", "-7"},
    {"$5\r\nhello\r\n", "string:hello"},
    {"$0\r\n\r\n", "string:"},
    {"$-1\r\n", "nil"},
    {"*0\r\n", "()"},
    {"*-1\r\n", "nil"},
    {"*3\r\n:1\r\n$-1\r\n+x\r\n", "(1 nil status:x)"},
    {"*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"
     "*2\r\n$3\r\n1-2\r\n*0\r\n",
     "((string:s ((string:1-1 (string:a string:b)) (string:1-2 ()))))"},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void test_each_form_is_read(void **state)
{
    redisReader *reader = new_reader();
    (void)state;
    for (size_t i = 0; i < COUNT(forms); i++) {
        redisReaderFeed(reader, forms[i].sent, strlen(forms[i].sent));
        assert_reply(reader, forms[i].shown);
    }
    redisReaderFree(reader);
}

static void test_a_reply_may_come_in_pieces(void **state)
{
    redisReader *reader = new_reader();
    (void)state;
    for (size_t i = 0; i < COUNT(forms); i++)
        for (size_t n = strlen(forms[i].sent), at = 0; at < n; at++) {
            void *reply = NULL;
            redisReaderFeed(reader, forms[i].sent, at);
            assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
            assert_null(reply);
            redisReaderFeed(reader, forms[i].sent + at, n - at);
            assert_reply(reader, forms[i].shown);
        }
    redisReaderFree(reader);
}

static void test_a_part_of_a_reply_goes_with_its_reader(void **state)
{
    const char *text = forms[COUNT(forms) - 1].sent;
    (void)state;
    for (size_t n = 0; n < strlen(text); n++) {
        redisReader *reader = new_reader();
        void *reply = NULL;
        redisReaderFeed(reader, text, n);
        assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
        assert_null(reply);
        redisReaderFree(reader);
    }
}

static void test_a_part_of_a_reply_goes_with_an_error(void **state)
{
    static const char text[] = "*2\r\n*1\r\n$1\r\na\r\n!\r\n";
    redisReader *reader = new_reader();
    void *reply = NULL;
    (void)state;
    redisReaderFeed(reader, text, sizeof(text) - 1);
    assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_ERR);
    assert_null(reply);
    redisReaderFree(reader);
}

/* ---- Sizes ---- */

static char letter(size_t i)
{
    return (char)('a' + i % 26);
}

/* Strings of each length up to 1,000; the first and each hundredth is large. */
static size_t length_of(size_t i)
{
    return i % 100 == 0 ? LARGE + i : i;
}

static void add_strings(struct buf *out, size_t count)
{
    buf_printf(out, "*%zu\r\n", count);
    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "$%zu\r\n", length_of(i));
        for (size_t k = 0; k < length_of(i); k++)
            buf_add_char(out, letter(i));
        buf_add_lit(out, "\r\n");
    }
    assert_false(out->failed);
}

static void test_no_string_lies_in_another(void **state)
{
    const size_t count = 1000;
    struct buf sent = {0};
    redisReader *reader = new_reader();
    void *reply = NULL;
    (void)state;
    add_strings(&sent, count);
    redisReaderFeed(reader, sent.data, sent.len);
    assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
    assert_int_equal(reply_count(reply), count);
    for (size_t i = 0; i < count; i++) {
        struct span s = reply_span(reply_at(reply, i));
        assert_int_equal(s.n, length_of(i));
        for (size_t k = 0; k < s.n; k++)
            assert_true(s.p[k] == letter(i));
    }
    reply_build.freeObject(reply);
    redisReaderFree(reader);
    buf_free(&sent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_form_is_read),
        cmocka_unit_test(test_a_reply_may_come_in_pieces),
        cmocka_unit_test(test_a_part_of_a_reply_goes_with_its_reader),
        cmocka_unit_test(test_a_part_of_a_reply_goes_with_an_error),
        cmocka_unit_test(test_no_string_lies_in_another),
    };
    return cmocka_run_group_tests_name("reply", tests, NULL, NULL);
}
