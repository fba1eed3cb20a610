/* test_level.c: common/level.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "common/level.h"

static void test_levels_have_aliases_in_any_case(void **state)
{
    static const struct {
        const char *name;
        enum level level;
    } cases[] = {
        {"trace", LEVEL_TRACE},    {"debug", LEVEL_DEBUG},    {"info", LEVEL_INFO},
        {"warn", LEVEL_WARN},      {"error", LEVEL_ERROR},    {"fatal", LEVEL_FATAL},
        {"silly", LEVEL_TRACE},    {"verbose", LEVEL_DEBUG},  {"http", LEVEL_DEBUG},
        {"notice", LEVEL_INFO},    {"warning", LEVEL_WARN},   {"err", LEVEL_ERROR},
        {"crit", LEVEL_FATAL},     {"critical", LEVEL_FATAL}, {"alert", LEVEL_FATAL},
        {"emerg", LEVEL_FATAL},    {"panic", LEVEL_FATAL},    {"ERROR", LEVEL_ERROR},
        {"Warning", LEVEL_WARN},   {"cRiTiCaL", LEVEL_FATAL}, {"", LEVEL_INVALID},
        {"erro", LEVEL_INVALID},   {"errors", LEVEL_INVALID}, {"criticals", LEVEL_INVALID},
        {" error", LEVEL_INVALID}, {"warn ", LEVEL_INVALID},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(level_parse(cases[i].name, strlen(cases[i].name)), cases[i].level);
    /* Any other byte at any place makes it another word. */
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t at = 0; at < strlen(cases[i].name); at++)
            for (int byte = 0; byte < 256; byte++) {
                char name[16];
                strcpy(name, cases[i].name);
                bool same = tolower(byte) == tolower((unsigned char)name[at]);
                name[at] = (char)byte;
                if (same || cases[i].level != LEVEL_INVALID)
                    assert_int_equal(level_parse(name, strlen(cases[i].name)),
                                     same ? cases[i].level : LEVEL_INVALID);
            }
    assert_int_equal(level_parse("warn\0", 5), LEVEL_INVALID);
    assert_int_equal(level_parse("warnings are no level", 4), LEVEL_WARN);
    for (int level = LEVEL_TRACE; level <= LEVEL_FATAL; level++)
        assert_int_equal(
            level_parse(level_name((enum level)level), strlen(level_name((enum level)level))),
            level);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels_have_aliases_in_any_case),
    };
    return cmocka_run_group_tests_name("level", tests, NULL, NULL);
}
