/* test_quick.c: logd/quick.c against jansson: known texts, and many mutations of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "tests/fuzz/quick.h"

#define MUTATIONS 300000

/* Texts that it must take by itself, since it is for them that it is there. */
static const char *const usual[] = {
    "{\"level\":\"error\",\"message\":\"card "
    "refused\",\"service\":\"payment\",\"timestamp\":\"2026-11-24T02:35:02.123Z\"}",
    "{\"service\":\"a\",\"level\":\"warning\",\"message\":\"\"}",
    "{ \"service\" : \"a\" ,\n\"level\":\"ERR\",\t\"message\":\"x\" }",
    "{\"service\":\"z\\u00e4hler\",\"level\":\"info\",\"message\":\"\\\"\\\\\\/"
    "\\b\\f\\n\\r\\t\\u0000\\u07ff\\uFFFD\"}",
    "{\"message\":\"gr\xc3\xbc\xc3\x9f \xe2\x82\xac "
    "\xf0\x9f\x98\x80\",\"service\":\"\xc3\xa4\",\"level\":\"fatal\"}",
    "{\"mess\\u0061ge\":\"escaped name\",\"service\":\"a\\u0062\",\"l\\u0065vel\":\"de\\u0062ug\"}",
};

/* Texts that it must leave to jansson. */
static const char *const others[] = {
    "{}",
    "{\"service\":\"a\",\"level\":\"info\",\"message\":\"x\",\"more\":1}",
    "{\"service\":\"a\",\"level\":\"info\",\"message\":7}",
    "{\"service\":\"a\",\"level\":\"info\"}",
    "{\"service\":\"a\",\"level\":\"loud\",\"message\":\"x\"}",
    "{\"service\":\"\",\"level\":\"info\",\"message\":\"x\"}",
    "{\"service\":\"a\",\"level\":\"info\",\"message\":\"x\",\"level\":\"info\"}",
    "{\"service\":\"a\",\"level\":\"info\",\"message\":\"x\",\"l\\u0065vel\":\"info\"}",
    "{\"service\":\"a\",\"level\":\"info\",\"message\":\"x\",}",
    "{\"service\":\"a\",\"level\":\"info\",\"message\":\"x\"",
    "{\"service\":\"a\",\"level\":\"info\",\"message\":\"x",
    "{\"service\":\"a\",\"level\":\"info\",\"message\":\"\\ud83d\\ude00\"}",
    "{\"service\":\"a\",\"level\":\"info\",\"message\":\"\\ud83d\"}",
    "{\"service\":\"a\",\"level\":\"info\",\"message\":\"\\x\"}",
    "{\"service\":\"a\",\"level\":\"info\",\"message\":\"\\u12g4\"}",
    "{\"service\":\"a\",\"level\":\"info\",\"message\":\"\\u12",
    "{\"service\":\"a\",\"level\":\"info\",\"message\":\"\x01\"}",
    "{\"service\":\"a\",\"level\":\"info\",\"message\":\"\xff\"}",
    "{\"service\":\"a\",\"level\":\"info\",\"message\":\"x\",\"timestamp\":\"now\"}",
    "{\"service\":\"a\\u0000\",\"level\":\"info\",\"message\":\"x\"}",
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Compares on a copy of the exact size, so that sanitizers see a read behind the end. */
static bool compare(const char *text, size_t n)
{
    bool accepted;
    char *copy = malloc(n + 1);
    assert_non_null(copy);
    memcpy(copy, text, n);
    char *exact = realloc(copy, n > 0 ? n : 1);
    assert_non_null(exact);
    const char *wrong = compare_readers(exact, n, &accepted);
    if (wrong != NULL)
        fail_msg("%s: %.*s", wrong, (int)n, text);
    free(exact);
    return accepted;
}

static void test_it_takes_the_usual(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(usual); i++)
        if (!compare(usual[i], strlen(usual[i])))
            fail_msg("not taken: %s", usual[i]);
}

static void test_it_leaves_the_rest(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(others); i++)
        if (compare(others[i], strlen(others[i])))
            fail_msg("taken: %s", others[i]);
}

static void test_it_ends_at_the_closing_brace(void **state)
{
    static const char text[] =
        "{\"service\":\"a\",\"level\":\"info\",\"message\":\"x\"},{\"service\"";
    struct buf scratch = {0};
    struct record r;
    (void)state;
    assert_int_equal(quick_object(text, strlen(text), 10, 0, &scratch, &r), 44);
    assert_true(compare(text, strlen(text)));
    buf_free(&scratch);
}

/* Some bytes in the message, at each place of each length: behind short runs and long ones. */
static void test_each_place_of_a_message_is_read_alike(void **state)
{
    static const char head[] = "{\"service\":\"a\",\"level\":\"info\",\"message\":\"";
    static const struct {
        const char *bytes;
        bool taken;
    } cases[] = {{"x", true},        {"\\n", true},        {"\\u00e4", true}, {"\xc3\xa4", true},
                 {"\x1f", false},    {"\xff", false},      {"\xc3", false},   {"\\q", false},
                 {"\\ud83d", false}, {"\"}{\"\":\"", true}};
    (void)state;
    for (size_t n = 0; n <= 150; n++)
        for (size_t at = 0; at <= n; at++) {
            char text[256];
            size_t k = (n + 3 * at) % COUNT(cases), length = strlen(cases[k].bytes);
            memcpy(text, head, sizeof(head) - 1);
            char *message = text + sizeof(head) - 1;
            memset(message, 'x', n + length);
            memcpy(message + at, cases[k].bytes, length);
            memcpy(message + n + length, "\"}", 2);
            assert_int_equal(compare(text, sizeof(head) - 1 + n + length + 2), cases[k].taken);
        }
}

/* Changes up to three places: a byte, a cut, a piece of another text. */
static size_t mutate(char *text, size_t n, size_t room)
{
    static const char bytes[] = "\"\\{}[]:,u0dD8fF \n\t\x01\x7f\x80\xc3\xe2\xf0\xff";
    for (int changes = 1 + rand() % 3; changes > 0 && n > 1; changes--) {
        size_t at = (size_t)rand() % n;
        switch (rand() % 4) {
        case 0:
            text[at] = bytes[(size_t)rand() % (sizeof(bytes) - 1)];
            break;
        case 1:
            memmove(text + at, text + at + 1, n - at - 1);
            n--;
            break;
        case 2:
            text[at] = (char)rand();
            break;
        default: {
            const char *other = usual[(size_t)rand() % COUNT(usual)];
            size_t from = (size_t)rand() % strlen(other), some = (size_t)rand() % 12;
            some = some < strlen(other) - from ? some : strlen(other) - from;
            if (n + some <= room) {
                memmove(text + at + some, text + at, n - at);
                memcpy(text + at, other + from, some);
                n += some;
            }
        }
        }
    }
    return n;
}

static void test_mutations_are_read_alike(void **state)
{
    size_t accepted = 0;
    (void)state;
    srand(20261124);
    for (int i = 0; i < MUTATIONS; i++) {
        char text[512];
        const char *seed = i % 3 == 0 ? others[(size_t)rand() % COUNT(others)]
                                      : usual[(size_t)rand() % COUNT(usual)];
        size_t n = strlen(seed);
        memcpy(text, seed, n);
        n = mutate(text, n, sizeof(text));
        accepted += compare(text, n);
    }
    print_message("%zu of %d mutations were taken\n", accepted, MUTATIONS);
    assert_true(accepted > MUTATIONS / 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_takes_the_usual),
        cmocka_unit_test(test_it_leaves_the_rest),
        cmocka_unit_test(test_it_ends_at_the_closing_brace),
        cmocka_unit_test(test_each_place_of_a_message_is_read_alike),
        cmocka_unit_test(test_mutations_are_read_alike),
    };
    return cmocka_run_group_tests_name("quick reader", tests, NULL, NULL);
}
