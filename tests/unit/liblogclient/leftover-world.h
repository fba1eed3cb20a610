/* leftover-world.h: one file of a dead process for each test, and what is found in it. */
#ifndef LEFTOVER_WORLD_H
#define LEFTOVER_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "leftover-lab.h"

static struct lab lab;
static struct lc_leftover found;

static inline int set_up(void **state)
{
    (void)state;
    lab_open(&lab);
    found = (struct lc_leftover){.fd = -1};
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    lc_leftover_close(&found);
    lab_close(&lab);
    return 0;
}

static inline int find(void)
{
    lc_leftover_close(&found);
    return lab_find(&lab, &found);
}

static inline void look(void)
{
    assert_int_equal(find(), 0);
    assert_true(found.searched);
}

/* All that is to be delivered, as "number text, …". */
static inline const char *rest(void)
{
    static char text[LAB_BYTES];
    struct lc_record r;
    uint64_t position = found.tail;
    text[0] = '\0';
    enum lc_ring_read result;
    while ((result = lc_leftover_read(&found, &position, &r)) == LC_RING_RECORD) {
        size_t n = strlen(text);
        assert_int_equal(r.service.n, 3);
        assert_memory_equal(r.service.p, "svc", 3);
        assert_int_equal(r.timestamp_ms, 42);
        snprintf(text + n, sizeof(text) - n, "%s%llu %.*s", n > 0 ? ", " : "",
                 (unsigned long long)r.number, (int)r.message.n, r.message.p);
    }
    assert_int_equal(result, LC_RING_EMPTY);
    assert_int_equal(position, found.end);
    return text;
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

#endif
