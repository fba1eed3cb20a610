/* test_batch.c: the body of a request, made from a ring. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "liblogclient/batch-internal.h"
#include "ring-fixture.h"

static enum lc_ring_read read_ring(void *from, uint64_t *position, struct lc_record *r)
{
    return lc_ring_read(from, position, r);
}

static void test_a_batch_repairs_text_and_respects_its_limits(void **state)
{
    struct lc_ring *ring = *state;
    const struct lc_reader reader = {read_ring, ring};
    struct lc_batch batch;
    assert_true(lc_batch_init(&batch, 10));
    assert_int_equal(put(ring, "bad \xff byte"), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(put(ring, "fine"), 0);
    assert_int_equal(lc_batch_fill(&batch, &reader, 0, UINT64_MAX, 100, SIZE_MAX, 65536),
                     LC_RING_RECORD);
    assert_int_equal(batch.first, 1);
    assert_int_equal(batch.count, 10);
    assert_int_equal(batch.repaired, 1);
    const char want[] = "{\"level\":\"warn\",\"message\":\"bad \xef\xbf\xbd "
                        "byte\",\"service\":\"svc\",\"timestamp\":";
    assert_memory_equal(batch.body.data, want, sizeof(want) - 1);
    assert_int_equal(batch.body.data[batch.body.len - 1], '\n');
    /* Up to a position, up to a number of records, up to a number of bytes, and a repaired message
     * is cut. */
    uint64_t stop = batch.ends[1];
    lc_batch_fill(&batch, &reader, 0, stop, 100, SIZE_MAX, 65536);
    assert_int_equal(batch.count, 2);
    lc_batch_fill(&batch, &reader, 0, UINT64_MAX, 3, SIZE_MAX, 65536);
    assert_int_equal(batch.count, 3);
    lc_batch_fill(&batch, &reader, 0, UINT64_MAX, 100, 100, 6);
    assert_int_equal(batch.count, 2);
    const char cut[] = "{\"level\":\"warn\",\"message\":\"bad \",";
    assert_memory_equal(batch.body.data, cut, sizeof(cut) - 1);
    lc_batch_free(&batch);
}

/* Numbers 7, 8, 10 and 11; each record has 8 bytes. */
static enum lc_ring_read read_gap(void *from, uint64_t *position, struct lc_record *r)
{
    static const uint64_t numbers[] = {7, 8, 10, 11};
    (void)from;
    if (*position >= 32)
        return LC_RING_EMPTY;
    *r = record("text");
    r->number = numbers[*position / 8];
    *position += 8;
    return LC_RING_RECORD;
}

static void test_a_batch_ends_before_a_number_that_is_missing(void **state)
{
    const struct lc_reader reader = {read_gap, NULL};
    struct lc_batch batch;
    (void)state;
    assert_true(lc_batch_init(&batch, 10));
    assert_int_equal(lc_batch_fill(&batch, &reader, 0, UINT64_MAX, 10, SIZE_MAX, 100),
                     LC_RING_RECORD);
    assert_int_equal(batch.first, 7);
    assert_int_equal(batch.count, 2);
    assert_int_equal(batch.ends[1], 16);
    assert_int_equal(lc_batch_fill(&batch, &reader, batch.ends[1], UINT64_MAX, 10, SIZE_MAX, 100),
                     LC_RING_EMPTY);
    assert_int_equal(batch.first, 10);
    assert_int_equal(batch.count, 2);
    lc_batch_free(&batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RING(test_a_batch_repairs_text_and_respects_its_limits),
        cmocka_unit_test(test_a_batch_ends_before_a_number_that_is_missing),
    };
    return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}
