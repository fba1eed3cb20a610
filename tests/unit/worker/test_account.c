/* test_account.c: what was added is compared with what became of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/account.h"
#include "tests/unit/worker/fake-reply.h"
#include "tests/unit/common/child.h"

static char text[4096];

static void test_five_numbers_are_taken(void **arg)
{
    const struct redis_reply reply = ARRAY(TEXT("open"), INTEGER(3), INTEGER(10), INTEGER(4),
                                           INTEGER(2), INTEGER(1), INTEGER(99));
    struct account a = {.removed = 5};
    (void)arg;
    assert_true(account_take(&a, &reply, 1));
    assert_int_equal(a.length, 3);
    assert_int_equal(a.added, 10);
    assert_int_equal(a.written, 4);
    assert_int_equal(a.filtered, 2);
    assert_int_equal(a.dead, 1);
    assert_int_equal(a.removed, 5);
}

static void test_what_is_not_five_numbers_changes_nothing(void **arg)
{
    const struct redis_reply few = ARRAY(INTEGER(3), INTEGER(10), INTEGER(4), INTEGER(2));
    const struct redis_reply no_number =
        ARRAY(INTEGER(3), INTEGER(10), INTEGER(4), NIL, INTEGER(1));
    const struct redis_reply word = TEXT("lease");
    struct account a = {.length = 7};
    (void)arg;
    assert_false(account_take(&a, &few, 0));
    assert_false(account_take(&a, &no_number, 0));
    assert_false(account_take(&a, &no_number, 3));
    assert_false(account_take(&a, &word, 0));
    assert_int_equal(a.length, 7);
}

static void test_the_law(void **arg)
{
    struct account a = {.length = 3, .added = 10, .written = 4, .filtered = 2, .dead = 1};
    (void)arg;
    assert_true(account_check(&a, "s"));
    assert_int_equal(a.removed, 0);
    a.added = 12;
    assert_true(account_check(&a, "s"));
    assert_int_equal(a.removed, 2);
    a.added = 9;
    assert_false(account_check(&a, "s")); /* made anew: fewer were added than removed */
}

/* Three that somebody else has removed, looked at twice, and then one more. */
static void remove_some(const void *unused)
{
    struct account a = {.added = 3};
    (void)unused;
    account_check(&a, "s");
    account_check(&a, "s");
    a.added = 4;
    account_check(&a, "s");
}

static unsigned times(const char *part)
{
    unsigned n = 0;
    for (const char *p = text; (p = strstr(p, part)) != NULL; p += strlen(part))
        n++;
    return n;
}

static void test_each_number_is_warned_of_once(void **arg)
{
    (void)arg;
    assert_int_equal(run_child(remove_some, NULL, text, sizeof(text)), 200);
    assert_int_equal(times("somebody else has removed 3 entries from s"), 1);
    assert_int_equal(times("somebody else has removed 1 entries from s"), 1);
    assert_int_equal(times("removed"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_five_numbers_are_taken),
        cmocka_unit_test(test_what_is_not_five_numbers_changes_nothing),
        cmocka_unit_test(test_the_law),
        cmocka_unit_test(test_each_number_is_warned_of_once),
    };
    return cmocka_run_group_tests_name("worker/account", tests, NULL, NULL);
}
