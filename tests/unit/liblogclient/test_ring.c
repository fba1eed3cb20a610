/* test_ring.c: what is found of a ring when it is opened. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/mman.h>

#include "ring-fixture.h"

static void test_the_acknowledged_position_survives(void **state)
{
    struct lc_ring *ring = *state;
    struct lc_record got;
    for (uint64_t n = 1; n <= 5; n++) {
        assert_int_equal(put(ring, "record"), 0);
        uint64_t position = ring->tail;
        assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_RECORD);
        lc_ring_acknowledge(ring, position, n + 1);
        struct lc_ring dead = reopen(ring);
        assert_int_equal(dead.tail, position);
        assert_int_equal(dead.sequence, n + 1);
        char a[LC_PRODUCER_HEX + 1], b[LC_PRODUCER_HEX + 1];
        lc_ring_producer(ring, a);
        lc_ring_producer(&dead, b);
        assert_string_equal(a, b);
        lc_ring_close(&dead);
    }
}

static void test_what_is_no_ring_is_not_opened(void **state)
{
    struct lc_ring *ring = *state, dead;
    int fd = memfd_create("junk", MFD_CLOEXEC);
    assert_int_equal(lc_ring_open(&dead, fd, false), EBADMSG); /* empty */
    assert_int_equal(ftruncate(fd, LC_RING_HEADER_BYTES + CAPACITY), 0);
    assert_int_equal(lc_ring_open(&dead, fd, false), EBADMSG); /* zeros */
    close(fd);
    fd = dup(ring->fd);
    ring->header->ack[1].check ^= 1;
    assert_int_equal(lc_ring_open(&dead, fd, false), EBADMSG); /* no valid slot */
    ring->header->ack[1].check ^= 1;
    ring->header->head = 12;
    assert_int_equal(lc_ring_open(&dead, fd, false), EBADMSG); /* no multiple of 8 */
    ring->header->head = CAPACITY + 8;
    assert_int_equal(lc_ring_open(&dead, fd, false), EBADMSG); /* more than fits */
    ring->header->head = 0;
    ring->header->capacity = CAPACITY + 1;
    assert_int_equal(lc_ring_open(&dead, fd, false), EBADMSG);
    ring->header->capacity = CAPACITY;
    assert_int_equal(lc_ring_open(&dead, fd, false), 0);
    lc_ring_close(&dead);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RING(test_the_acknowledged_position_survives),
        WITH_RING(test_what_is_no_ring_is_not_opened),
    };
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
