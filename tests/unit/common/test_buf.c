/* test_buf.c: common/buf.[ch]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/buf.h"

static void test_a_buffer_grows_and_remembers_its_failure(void **state)
{
    struct buf b = {0};
    (void)state;
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i);
    assert_false(b.failed);
    assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4);
    assert_memory_equal(b.data + b.len - 8, "998,999,", 8);
    assert_false(buf_reserve(&b, SIZE_MAX / 2 + 1));
    assert_true(b.failed);
    size_t len = b.len;
    buf_add(&b, b.data, b.cap); /* does nothing: it does not fit, and the buffer has failed */
    assert_int_equal(b.len, len);
    buf_clear(&b);
    assert_false(b.failed);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_buffer_grows_and_remembers_its_failure),
    };
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
