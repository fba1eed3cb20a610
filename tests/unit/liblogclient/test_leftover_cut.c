/* test_leftover_cut.c: what is read from the file of a ring after a power cut. */
#include <errno.h>

#include "leftover-world.h"

static void test_what_reached_the_disk_is_found_in_any_order(void **state)
{
    (void)state;
    lab_format(&lab, LAB_BYTES - 512, 1, true);
    uint64_t first = lab.at;
    lab_put(&lab, "a");
    lab_put(&lab, "b");
    uint64_t lost = lab.at, bytes = lab_put(&lab, "c");
    for (lab.number = 4; lab.number < 20;)
        lab_put(&lab, "0123456789012345678901234567890123456");
    lab_put(&lab, "d");
    lab_put(&lab, "e");
    memset(lab.data + lost % LAB_BYTES, 0, (size_t)bytes);
    memset(lab.data + first % LAB_BYTES, 0x55, 8); /* of another moment */
    atomic_store(&lab.header->head, lc_head_make(first, 1));
    lab_power_cut(&lab);
    look();
    assert_false(found.damaged);
    assert_int_equal(found.missing, 2);
    const char *all = rest();
    assert_memory_equal(all, "2 b, 4 0123", 11);
    assert_non_null(strstr(all, ", 20 d, 21 e"));
    assert_false(lc_leftover_is_empty(&found));
}

static void test_records_of_which_only_the_head_is_known_are_missing(void **state)
{
    (void)state;
    lab_put(&lab, "a");
    lab_put(&lab, "b");
    lab_put(&lab, "c");
    memset(lab.data, 0, LAB_BYTES);
    lab_power_cut(&lab);
    look();
    assert_int_equal(found.missing, 3);
    assert_string_equal(rest(), "");
    assert_false(lc_leftover_is_empty(&found));
    lab_set_ack(&lab, lab.at, 4, 4);
    look();
    assert_int_equal(found.missing, 0);
    assert_true(lc_leftover_is_empty(&found));
}

static void test_a_torn_text_is_not_delivered(void **state)
{
    (void)state;
    lab_put(&lab, "a");
    uint64_t at = lab.at;
    lab_put(&lab, "the second half of this text did not reach the disk");
    lab_put(&lab, "c");
    memset(lab.data + at + 56, 0, 16);
    lab_power_cut(&lab);
    look();
    assert_false(found.damaged);
    assert_string_equal(rest(), "1 a, 3 c");
    assert_int_equal(found.missing, 1);
}

static void test_what_was_acknowledged_and_not_cleared_is_dropped(void **state)
{
    (void)state;
    lab_put(&lab, "a");
    uint64_t bytes = lab_put(&lab, "b");
    lab_put(&lab, "c");
    lab_set_ack(&lab, 2 * bytes, 3, 3);
    lab_power_cut(&lab);
    look();
    assert_string_equal(rest(), "3 c");
    assert_int_equal(found.missing, 0);
}

static void test_a_header_that_never_reached_the_disk_is_made_from_the_name(void **state)
{
    char name[] = LAB_NAME;
    struct lc_record r;
    (void)state;
    lab_put(&lab, "a");
    lab_put(&lab, "b");
    memset(lab.header, 0, sizeof(*lab.header));
    look();
    assert_false(found.same_boot);
    assert_false(found.damaged);
    assert_int_equal(found.ack.number, 1);
    assert_memory_equal(found.ack.producer, found.header.id, LC_ID_BYTES);
    assert_string_equal(rest(), "1 a, 2 b");
    /* The next heir finds a whole header. */
    uint64_t position = found.tail;
    assert_int_equal(lc_leftover_read(&found, &position, &r), LC_RING_RECORD);
    assert_int_equal(lc_leftover_acknowledge(&found, position, 2, 2), 0);
    look();
    assert_string_equal(rest(), "2 b");
    /* Under another name it is not known what it is. */
    memset(lab.header, 0, sizeof(*lab.header));
    name[3] = 'X';
    lc_leftover_close(&found);
    assert_int_equal(lc_leftover_open(&found, lab.fd, name), EBADMSG);
    assert_int_equal(lc_leftover_open(&found, lab.fd, "x.ring"), EBADMSG);
    assert_int_equal(lc_leftover_open(&found, lab.fd, "x.ring.damaged"), EBADMSG);
    assert_int_equal(ftruncate(lab.fd, LC_RING_HEADER_BYTES + LAB_BYTES + 8), 0);
    assert_int_equal(find(), EBADMSG);
    assert_int_equal(ftruncate(lab.fd, LC_RING_HEADER_BYTES + LAB_BYTES), 0);
}

static void test_two_records_of_one_number_are_damage(void **state)
{
    (void)state;
    lab_put(&lab, "a");
    lab_put(&lab, "b");
    lab.number = 2;
    lab_put(&lab, "b again");
    lab_put(&lab, "c");
    for (int cut = 0; cut < 2; cut++) {
        look();
        assert_true(found.damaged);
        assert_memory_equal(rest(), "1 a, 2 b", 8);
        lab_power_cut(&lab);
    }
}

/* Each multiple of 8 claims to be a long record. */
static void test_a_file_made_to_be_slow_ends_too(void **state)
{
    (void)state;
    for (uint64_t at = 0; at + 8 <= LAB_BYTES; at += 8) {
        uint64_t word = (LAB_BYTES >> 3) | LC_SLOT_COMMITTED | (uint64_t)1 << LC_SLOT_NUMBER_LOW;
        if (at % 24 == 16)
            word = (uint64_t)(LC_SIZES_TEXT | 3) << 32;
        memcpy(lab.data + at, &word, sizeof(word));
    }
    lab_power_cut(&lab);
    int fd = dup(lab.fd), steps = 0;
    lc_leftover_close(&found);
    assert_int_equal(lc_leftover_open(&found, fd, LAB_NAME), 0);
    while (!found.searched && steps++ < 100)
        assert_int_equal(lc_leftover_search(&found), 0);
    assert_true(found.searched);
    assert_string_equal(rest(), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_what_reached_the_disk_is_found_in_any_order),
        CASE(test_records_of_which_only_the_head_is_known_are_missing),
        CASE(test_a_torn_text_is_not_delivered),
        CASE(test_what_was_acknowledged_and_not_cleared_is_dropped),
        CASE(test_a_header_that_never_reached_the_disk_is_made_from_the_name),
        CASE(test_two_records_of_one_number_are_damage),
        CASE(test_a_file_made_to_be_slow_ends_too),
    };
    return cmocka_run_group_tests_name("leftover after a power cut", tests, NULL, NULL);
}
