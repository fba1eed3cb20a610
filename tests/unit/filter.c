/* filter.c: lets each unit test run only some of its cases: UNIT_CASE is a pattern with '*' and '?'
 * (make unit CASE=...). Linked into all of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

__attribute__((constructor)) static void filter_cases(void)
{
    const char *pattern = getenv("UNIT_CASE");
    if (pattern != NULL && *pattern != '\0')
        cmocka_set_test_filter(pattern);
}
