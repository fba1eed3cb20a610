/* test_leftover.c: what is read from the file of a dead process, after a crash, and after somebody
 * wrote into it. test_leftover_cut.c is for power cuts. */
#include <errno.h>
#include <fcntl.h>

#include "leftover-world.h"

/* ---- After a crash ---- */

static void test_records_come_in_their_order_from_the_acknowledged_one_on(void **state)
{
    (void)state;
    for (int on_disk = 0; on_disk < 2; on_disk++) {
        lab_format(&lab, 1 << 20, 7, on_disk);
        uint64_t first = lab_put(&lab, "old");
        lab_put(&lab, "a");
        lab_put(&lab, "a longer one, of more than sixteen bytes");
        lab_put(&lab, "");
        lab_set_ack(&lab, (1 << 20) + first, 8, 8);
        look();
        assert_true(found.same_boot);
        assert_false(found.damaged);
        assert_int_equal(found.missing, 0);
        assert_string_equal(rest(), "8 a, 9 a longer one, of more than sixteen bytes, 10 ");
        assert_false(lc_leftover_is_empty(&found));
    }
}

static void test_a_record_that_wraps_is_one(void **state)
{
    (void)state;
    lab_format(&lab, LAB_BYTES - 32, 1, true);
    lab_put(&lab, "this goes on at the beginning of the data area");
    lab_put(&lab, "behind it");
    for (int cut = 0; cut < 2; cut++) {
        look();
        assert_false(found.damaged);
        assert_string_equal(rest(),
                            "1 this goes on at the beginning of the data area, 2 behind it");
        lab_power_cut(&lab);
    }
}

static void test_calls_that_never_came_to_their_end_are_passed_over(void **state)
{
    (void)state;
    lab_put(&lab, "a");
    lab_hole(&lab, 48, false);
    lab_put(&lab, "b");
    lab_hole(&lab, 1000, true);
    lab_put(&lab, "c");
    lab_hole(&lab, 64, true);
    look();
    assert_false(found.damaged);
    assert_string_equal(rest(), "1 a, 3 b, 5 c");
}

static void test_a_ring_with_holes_only_is_empty(void **state)
{
    (void)state;
    look();
    assert_true(lc_leftover_is_empty(&found));
    lab_hole(&lab, 48, false);
    lab_hole(&lab, 480, true);
    lab.at += 8; /* sealed */
    lab_set_head(&lab);
    look();
    assert_true(lc_leftover_is_empty(&found));
    assert_string_equal(rest(), "");
}

static void test_a_full_ring_is_read_to_its_end(void **state)
{
    (void)state;
    lab_format(&lab, 3 * LAB_BYTES + 160, 100, false);
    for (int i = 0; i < LAB_BYTES / 32; i++)
        lab_put(&lab, "12345");
    look();
    assert_false(found.damaged);
    assert_int_equal(found.end, LAB_BYTES);
    assert_int_equal(found.run_count, 1);
    assert_int_equal(found.runs[0].count, LAB_BYTES / 32);
}

/* ---- Acknowledgements ---- */

static void test_the_next_heir_goes_on_where_the_last_one_ended(void **state)
{
    struct lc_record r;
    (void)state;
    for (int cut = 0; cut < 2; cut++) {
        lab_format(&lab, LAB_BYTES - 64, 1, true);
        lab_put(&lab, "a");
        lab_hole(&lab, 40, true);
        lab_put(&lab, "b");
        lab_put(&lab, "c");
        if (cut == 1)
            lab_power_cut(&lab);
        look();
        uint64_t position = found.tail;
        assert_int_equal(lc_leftover_read(&found, &position, &r), LC_RING_RECORD);
        assert_int_equal(lc_leftover_read(&found, &position, &r), LC_RING_RECORD);
        assert_int_equal(lc_leftover_acknowledge(&found, position, 4, 3), 0);
        assert_string_equal(rest(), "4 c");
        look();
        assert_int_equal(found.ack.number, 4);
        assert_int_equal(found.ack.stored, 3);
        assert_string_equal(rest(), "4 c");
        assert_int_equal(lc_leftover_acknowledge(&found, found.end, 5, 5), 0);
        look();
        assert_true(lc_leftover_is_empty(&found));
    }
}

static void test_one_whole_acknowledgement_is_enough(void **state)
{
    (void)state;
    uint64_t bytes = lab_put(&lab, "a");
    lab_put(&lab, "b");
    lab_set_ack(&lab, bytes, 2, 2);
    lab.header->ack[lab.ack.generation & 1].number = 77;
    look();
    assert_string_equal(rest(), "1 a, 2 b");
    lab.header->ack[~lab.ack.generation & 1].check ^= 1;
    assert_int_equal(find(), EBADMSG);
}

static void test_what_was_sent_and_the_producer_are_kept(void **state)
{
    const uint64_t other[2] = {5, 6};
    (void)state;
    lab_put(&lab, "a");
    look();
    assert_int_equal(lc_leftover_note_sent(&found, 2), 0);
    assert_int_equal(lc_leftover_rename_producer(&found, other), 0);
    look();
    assert_int_equal(found.sent, 2);
    assert_memory_equal(found.ack.producer, other, sizeof(other));
    assert_string_equal(rest(), "1 a"); /* the key of the checks stays */
}

static void test_a_file_that_cannot_be_written_is_an_error(void **state)
{
    char path[40];
    (void)state;
    lab_put(&lab, "a");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", lab.fd);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    lc_leftover_close(&found);
    assert_int_equal(lc_leftover_open(&found, fd, LAB_NAME), 0);
    assert_string_equal(rest(), "1 a");
    assert_int_equal(lc_leftover_note_sent(&found, 2), EBADF);
    assert_int_equal(lc_leftover_acknowledge(&found, found.end, 2, 2), EBADF);
}

/* ---- Damage ---- */

static void test_behind_damage_it_goes_on(void **state)
{
    (void)state;
    lab_put(&lab, "a");
    uint64_t at = lab.at;
    lab_put(&lab, "this one is overwritten");
    lab_put(&lab, "c");
    lab_put(&lab, "d");
    for (size_t byte = 0; byte < 24; byte++) {
        lab.data[at + byte] ^= 0x20;
        look();
        lab.data[at + byte] ^= 0x20;
        /* A changed number, length or state is found by the check; all is read but this one. */
        assert_string_equal(rest(), "1 a, 3 c, 4 d");
        assert_true(found.damaged);
        assert_int_equal(found.missing, 1);
    }
}

static void test_a_length_in_a_damaged_place_is_not_believed(void **state)
{
    uint64_t reserved = 400 >> 3 | LC_SLOT_RESERVED;
    (void)state;
    uint64_t at = lab.at;
    lab_put(&lab, "this one is overwritten");
    lab_put(&lab, "b");
    memset(lab.data + at, 0xff, 8);
    memcpy(lab.data + at + 8, &reserved, 8);
    look();
    assert_string_equal(rest(), "2 b");
    assert_true(found.damaged);
}

static void test_a_head_that_cannot_be_costs_no_record(void **state)
{
    (void)state;
    lab_put(&lab, "a");
    lab_put(&lab, "b");
    atomic_store(&lab.header->head, UINT64_MAX);
    look();
    assert_true(found.damaged);
    assert_string_equal(rest(), "1 a, 2 b");
    atomic_store(&lab.header->head, 0);
    look();
    assert_string_equal(rest(), "");
    assert_false(found.damaged); /* it cannot be told from a ring that is empty */
}

/* Delivered by heirs one after the other, a damaged file gives each record once. */
static void test_a_damaged_file_is_acknowledged_by_number(void **state)
{
    struct lc_record r;
    (void)state;
    lab_put(&lab, "a");
    lab_put(&lab, "damaged");
    lab.data[lab.at - 8] ^= 1;
    lab_put(&lab, "c");
    lab_put(&lab, "d");
    look();
    assert_string_equal(rest(), "1 a, 3 c, 4 d");
    uint64_t position = found.tail;
    assert_int_equal(lc_leftover_read(&found, &position, &r), LC_RING_RECORD);
    assert_int_equal(lc_leftover_read(&found, &position, &r), LC_RING_RECORD);
    assert_int_equal(lc_leftover_acknowledge(&found, position, 4, 4), 0);
    look();
    assert_true(found.damaged); /* what is damaged stays so */
    assert_string_equal(rest(), "4 d");
}

static void place_json(const char *text)
{
    lab_put_flags(&lab, text, LC_FLAG_JSON);
}

static void test_contents_that_nobody_stores_are_left_in_the_file(void **state)
{
    _Alignas(8) char space[64] = {0};
    struct lc_slot *slot = (struct lc_slot *)(void *)space;
    (void)state;
    lab_put(&lab, "a");
    place_json("{\"message\":\"fine\"}");
    place_json("{\"message\":\"two\nlines\"}");
    place_json("no object");
    place_json("");
    lab_put_flags(&lab, "an unknown flag", 4);
    slot->header = 4 | LC_SLOT_COMMITTED | lab.number++ << LC_SLOT_NUMBER_LOW;
    slot->sizes = 3u | 6u << LC_SIZES_LEVEL_LOW | 5u << LC_SIZES_PAD_LOW;
    lab_place(&lab, lab.at, slot);
    lab.at += 32;
    lab_put(&lab, "b");
    for (int cut = 0; cut < 2; cut++) {
        look();
        assert_true(found.damaged);
        assert_string_equal(rest(), "1 a, 2 {\"message\":\"fine\"}, 8 b");
        lab_power_cut(&lab);
    }
}

static void test_a_file_that_becomes_shorter_is_an_error_and_no_signal(void **state)
{
    struct lc_record r;
    (void)state;
    lab_format(&lab, 0, 1, true);
    lab_put(&lab, "a");
    lab.at = 2048;
    lab_put(&lab, "b");
    look();
    uint64_t position = found.tail;
    assert_int_equal(lc_leftover_read(&found, &position, &r), LC_RING_RECORD);
    assert_int_equal(ftruncate(lab.fd, LC_RING_HEADER_BYTES + 1024), 0);
    found.window.len = 0; /* a larger file is not read at once */
    assert_int_equal(lc_leftover_read(&found, &position, &r), LC_RING_DAMAGED);
    look();
    assert_true(found.damaged);
    assert_string_equal(rest(), "1 a");
    assert_int_equal(ftruncate(lab.fd, LC_RING_HEADER_BYTES), 0);
    assert_int_equal(find(), EBADMSG);
    assert_int_equal(ftruncate(lab.fd, 100), 0);
    assert_int_equal(find(), EBADMSG);
    assert_int_equal(ftruncate(lab.fd, LC_RING_HEADER_BYTES + LAB_BYTES), 0);
}

static void test_other_files_are_no_rings(void **state)
{
    (void)state;
    lab.header->capacity = 4097;
    assert_int_equal(find(), EBADMSG);
    lab.header->capacity = (uint64_t)1 << 40;
    assert_int_equal(find(), EBADMSG);
    lab.header->capacity = LAB_BYTES;
    lab.header->header_bytes = 4096;
    assert_int_equal(find(), EBADMSG);
    lab.header->magic[0] = 'X';
    assert_int_equal(find(), EBADMSG);
    memcpy(lab.header->magic, "LOGRING1", 8);
    assert_int_equal(find(), ENOTSUP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_records_come_in_their_order_from_the_acknowledged_one_on),
        CASE(test_a_record_that_wraps_is_one),
        CASE(test_calls_that_never_came_to_their_end_are_passed_over),
        CASE(test_a_ring_with_holes_only_is_empty),
        CASE(test_a_full_ring_is_read_to_its_end),
        CASE(test_the_next_heir_goes_on_where_the_last_one_ended),
        CASE(test_one_whole_acknowledgement_is_enough),
        CASE(test_what_was_sent_and_the_producer_are_kept),
        CASE(test_a_file_that_cannot_be_written_is_an_error),
        CASE(test_behind_damage_it_goes_on),
        CASE(test_a_length_in_a_damaged_place_is_not_believed),
        CASE(test_a_head_that_cannot_be_costs_no_record),
        CASE(test_a_damaged_file_is_acknowledged_by_number),
        CASE(test_contents_that_nobody_stores_are_left_in_the_file),
        CASE(test_a_file_that_becomes_shorter_is_an_error_and_no_signal),
        CASE(test_other_files_are_no_rings),
    };
    return cmocka_run_group_tests_name("leftover", tests, NULL, NULL);
}
