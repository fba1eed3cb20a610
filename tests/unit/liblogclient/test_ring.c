/* test_ring.c: what is in the file of a ring, and how large it may become. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "ring-fixture.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Sanitizers need terabytes, and lock nothing. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NOT_SANITIZED() skip()
#else
#define NOT_SANITIZED() ((void)0)
#endif

static bool old_kernel;
static uint64_t file_system_bytes = UINT64_MAX;

/* In the place of the C library's. */
int madvise(void *start, size_t bytes, int advice)
{
    if (old_kernel && advice == MADV_POPULATE_WRITE) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_madvise, start, bytes, advice);
}

int fallocate(int fd, int mode, off_t offset, off_t bytes)
{
    if ((uint64_t)offset + (uint64_t)bytes > file_system_bytes) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, bytes);
}

static int64_t blocks(const struct lc_ring *ring)
{
    struct stat st;
    assert_int_equal(fstat(ring->fd, &st), 0);
    return (int64_t)st.st_blocks * 512;
}

/* ---- The file ---- */

static void test_the_header_is_that_of_the_protocol(void **state)
{
    struct lc_ring *ring = *state;
    unsigned char file[512] = {0}, boot[LC_ID_BYTES], zeros[LC_ID_BYTES] = {0};
    uint64_t words[64];
    assert_int_equal(put(ring, "record"), 0);
    assert_int_equal(pread(ring->fd, file, sizeof(file), 0), sizeof(file));
    memcpy(words, file, sizeof(words));
    assert_memory_equal(file, "LOGRING2", 8);
    assert_int_equal(words[1], (uint64_t)getpid() << 32 | 65536);
    assert_int_equal(words[2], CAPACITY);
    assert_memory_not_equal(file + 32, zeros, sizeof(zeros));
    lc_boot_id(boot);
    assert_memory_not_equal(boot, zeros, sizeof(zeros));
    assert_memory_equal(file + 48, boot, sizeof(boot));
    assert_int_equal(words[64 / 8], (uint64_t)40 / 8 << 31 | 2); /* head */
    assert_int_equal(words[128 / 8], 1);                         /* sent */
    /* The first acknowledgement: generation, position, number, stored, producer. */
    static const uint64_t first[4] = {1, 0, 1, 1};
    assert_memory_equal(file + 256, first, sizeof(first));
    assert_memory_equal(file + 256 + 32, file + 32, LC_ID_BYTES);
}

static void test_a_record_is_that_of_the_protocol(void **state)
{
    struct lc_ring *ring = *state;
    unsigned char file[40];
    uint64_t header;
    uint32_t sizes;
    assert_int_equal(put(ring, "0123456789"), 0);
    assert_int_equal(put(ring, "abc"), 0);
    assert_int_equal(pread(ring->fd, file, sizeof(file), 65536), sizeof(file));
    memcpy(&header, file, 8);
    memcpy(&sizes, file + 20, 4);
    assert_int_equal(header, 5 | (uint64_t)2 << 17 | (uint64_t)1 << 19);
    assert_int_equal(sizes, 3 | LEVEL_WARN << 8 | (uint32_t)3 << 24);
    assert_memory_equal(file + 24, "svc0123456789\0\0", 16);
    assert_int_equal(pread(ring->fd, file, 8, 65536 + 40), 8);
    memcpy(&header, file, 8);
    assert_int_equal(header, 4 | (uint64_t)2 << 17 | (uint64_t)2 << 19);
}

static void test_the_boot_is_that_of_the_kernel(void **state)
{
    unsigned char boot[LC_ID_BYTES];
    char hex[LC_ID_HEX + 1], text[64] = "", *to = text;
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
    (void)state;
    assert_non_null(f);
    for (int c; (c = fgetc(f)) != EOF && c != '\n';)
        if (c != '-')
            *to++ = (char)c;
    fclose(f);
    lc_boot_id(boot);
    lc_id_hex(boot, hex);
    assert_string_equal(hex, text);
}

static void test_the_acknowledged_position_survives(void **state)
{
    struct lc_ring *ring = *state;
    for (uint64_t n = 1; n <= 5; n++) {
        assert_int_equal(put(ring, "record"), 0);
        struct lc_record got;
        uint64_t position = ring->ack.position;
        assert_int_equal(lc_ring_read(ring, &position, &got), LC_RING_RECORD);
        lc_ring_acknowledge(ring, position, n + 1, n);
        struct lc_ring_ack ack = found_ack(ring);
        assert_int_equal(ack.position, position);
        assert_int_equal(ack.number, n + 1);
        assert_int_equal(ack.stored, n);
        assert_memory_equal(ack.producer, ring->header->id, LC_ID_BYTES);
    }
    struct lc_ring_ack ack = ring->ack;
    ack.producer[0] ^= 1; /* a new one */
    lc_ring_publish(ring, &ack);
    assert_int_equal(found_ack(ring).producer[0], ack.producer[0]);
    assert_int_equal(found_ack(ring).number, 6);
}

static void test_half_an_acknowledgement_does_not_count(void **state)
{
    struct lc_ring *ring = *state;
    struct lc_ring_ack ack;
    assert_int_equal(put(ring, "record"), 0);
    assert_int_equal(take(ring, 1), 1);
    _Atomic uint64_t *words = (_Atomic uint64_t *)&ring->header->ack[0];
    for (int i = 0; i < 7; i++) {
        for (int bit = 0; bit < 64; bit++) {
            words[i] ^= (uint64_t)1 << bit;
            assert_int_equal(found_ack(ring).generation, 1);
            words[i] ^= (uint64_t)1 << bit;
        }
    }
    assert_int_equal(found_ack(ring).generation, 2);
    memset(ring->header->ack, 0, sizeof(ring->header->ack));
    assert_false(lc_ring_find_ack(ring->header, &ack));
}

/* ---- The check ---- */

static uint32_t check_of(const struct lc_slot *slot, uint64_t offset, size_t n)
{
    static const uint64_t key[2] = {0x0123456789abcdef, 0xfedcba9876543210};
    return lc_slot_check(key, offset, slot->header, slot, slot->text, n);
}

/* Computed from the protocol's words alone, by another program. */
static void test_the_check_is_that_of_the_protocol(void **state)
{
    static const struct {
        size_t n;
        uint32_t memory, disk;
    } want[] = {
        {4, 0x77e88650, 0xb8911aa7},  {6, 0x77e88650, 0x78ae586e},   {9, 0x8fdcb6b5, 0x19eb24ff},
        {15, 0x8fdcb6b5, 0xd03acc6d}, {19, 0xc6bf5d0d, 0xc48678d2},  {20, 0xc6bf5d0d, 0xbb948f50},
        {35, 0x579a78c9, 0x01a9b683}, {67, 0xaba31a13, 0x9b4be6b9},  {68, 0xaba31a13, 0xcd3debb2},
        {83, 0x3a5e78cf, 0xad921e1d}, {115, 0x6dd4cb27, 0x2575cf78}, {131, 0xe0be0a4c, 0xe0540dde},
        {200, 0x394df44e, 0xcee5a641}};
    static uint64_t room[40];
    struct lc_slot *slot = (struct lc_slot *)(void *)room;
    (void)state;
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        size_t n = want[i].n;
        slot->header = (24 + n + 7) / 8 | LC_SLOT_COMMITTED | (uint64_t)77 << LC_SLOT_NUMBER_LOW;
        slot->timestamp_ms = 1700000000123;
        slot->sizes = 3 | 4 << LC_SIZES_LEVEL_LOW | 1 << LC_SIZES_FLAGS_LOW;
        for (size_t k = 0; k < n; k++)
            slot->text[k] = (char)(k * 37 + 11);
        assert_int_equal(check_of(slot, 4096, n), want[i].memory);
        slot->sizes |= LC_SIZES_TEXT;
        assert_int_equal(check_of(slot, 4096, n), want[i].disk);
    }
}

static void test_the_check_tells_each_bit(void **state)
{
    static uint64_t room[44];
    struct lc_slot *slot = (struct lc_slot *)(void *)room;
    unsigned char *bytes = (unsigned char *)room;
    (void)state;
    for (size_t n = 3; n < 300; n = n < 40 ? n + 1 : n + 23) {
        memset(room, 0x5a, sizeof(room));
        slot->header = (24 + n + 7) / 8 | LC_SLOT_COMMITTED | (uint64_t)77 << LC_SLOT_NUMBER_LOW;
        slot->sizes = 3 | LC_SIZES_TEXT;
        uint32_t right = check_of(slot, 4096, n);
        for (size_t bit = 0; bit < 8 * (24 + n); bit++) {
            if ((bit >= 128 && bit < 160) || bit == 160 + 23)
                continue; /* the check itself, and whether it is over the text */
            bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
            assert_int_not_equal(check_of(slot, 4096, n), right);
            bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        }
        assert_int_not_equal(check_of(slot, 4104, n), right);
        assert_int_equal(check_of(slot, 4096, n), right);
    }
}

static void check_slots(bool whole, bool text)
{
    struct lc_ring ring;
    static char message[700];
    memset(message, 'm', sizeof(message) - 1);
    make_ring(&ring, CAPACITY, whole);
    for (size_t n = 0; n < sizeof(message); n++) {
        struct lc_record r = record(message), got;
        uint64_t at = lc_ring_head(&ring), position = at;
        r.message.n = n;
        assert_int_equal(lc_ring_write(&ring, &r), 0);
        const struct lc_slot *slot = lc_slot_at(&ring, at);
        assert_int_equal(lc_ring_read(&ring, &position, &got), LC_RING_RECORD);
        assert_int_equal(got.message.n, n);
        assert_int_equal(got.flags, 0);
        assert_true(((slot->sizes & LC_SIZES_TEXT) != 0) == text);
        assert_int_equal(slot->check, lc_slot_check(ring.key, at & (CAPACITY - 1), slot->header,
                                                    slot, slot->text, n + 3));
    }
    lc_ring_close(&ring);
}

static void test_each_record_has_its_check(void **state)
{
    (void)state;
    check_slots(false, false);
    check_slots(true, true);
}

/* ---- Its size ---- */

static void test_the_first_records_have_their_pages(void **state)
{
    struct lc_ring *ring = *state;
    assert_in_range(blocks(ring), LC_RING_FIRST, LC_RING_FIRST + 65536);
}

static void test_a_whole_ring_has_all_its_blocks(void **state)
{
    struct lc_ring ring;
    (void)state;
    make_ring(&ring, CAPACITY, true);
    assert_true(blocks(&ring) >= CAPACITY + LC_RING_HEADER_BYTES);
    lc_ring_close(&ring);
}

static void test_an_old_kernel_reserves_all_at_once(void **state)
{
    struct lc_ring ring;
    (void)state;
    old_kernel = true;
    make_ring(&ring, CAPACITY, false);
    old_kernel = false;
    assert_true(ring.whole);
    assert_true(blocks(&ring) >= CAPACITY + LC_RING_HEADER_BYTES);
    lc_ring_close(&ring);
}

static void test_a_ring_is_halved_until_the_disk_has_room(void **state)
{
    struct lc_ring ring;
    (void)state;
    file_system_bytes = 5 << 20;
    make_ring(&ring, 64 << 20, true);
    assert_int_equal(ring.capacity, 4 << 20);
    assert_int_equal(ring.header->capacity, 4 << 20);
    lc_ring_close(&ring);
    file_system_bytes = 1 << 20; /* and no room for the header */
    int fd = memfd_create("ring", MFD_CLOEXEC);
    assert_int_equal(lc_ring_create(&ring, fd, 64 << 20, true), ENOSPC);
    file_system_bytes = UINT64_MAX;
    close(fd);
}

/* The capacity under a limit, in MiB; 0 when no ring could be made. */
static int capacity_under(enum __rlimit_resource resource, uint64_t bytes)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct lc_ring ring;
        struct rlimit limit = {bytes, bytes};
        int fd = memfd_create("ring", MFD_CLOEXEC);
        /* Root may lock all. */
        if ((geteuid() == 0 && setuid(65534) != 0) || setrlimit(resource, &limit) != 0 ||
            (resource == RLIMIT_MEMLOCK && mlockall(MCL_FUTURE) != 0))
            _exit(255);
        _exit(lc_ring_create(&ring, fd, 64 << 20, false) == 0 ? (int)(ring.capacity >> 20) : 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_the_process_may_have_no_larger_file(void **state)
{
    (void)state;
    assert_int_equal(capacity_under(RLIMIT_FSIZE, 3 << 20), 2);
    assert_int_equal(capacity_under(RLIMIT_FSIZE, 1 << 20), 0);
}

static void test_the_process_may_have_no_larger_mapping(void **state)
{
    (void)state;
    NOT_SANITIZED();
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu", &pages), 1);
    fclose(f);
    uint64_t now = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    assert_int_equal(capacity_under(RLIMIT_AS, now + (20 << 20)), 8);
    assert_int_equal(capacity_under(RLIMIT_AS, now + (1 << 20)), 0);
}

static void test_a_process_that_locks_what_it_maps_gets_a_smaller_one(void **state)
{
    (void)state;
    NOT_SANITIZED();
    assert_in_range(capacity_under(RLIMIT_MEMLOCK, 8 << 20), 1, 2);
}

/* A process that locks what it maps had the whole ring in memory, twice. */
static void test_a_locked_process_has_no_whole_ring_in_memory(void **state)
{
    (void)state;
    NOT_SANITIZED();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct lc_ring ring;
        struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
        int fd = memfd_create("ring", MFD_CLOEXEC);
        setrlimit(RLIMIT_MEMLOCK, &limit);
        if (mlockall(MCL_FUTURE) != 0)
            _exit(1);
        _exit(lc_ring_create(&ring, fd, 64 << 20, false) == 0 && blocks(&ring) < 1 << 20 ? 0 : 2);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 1)
        skip(); /* not permitted to lock so much */
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RING(test_the_header_is_that_of_the_protocol),
        WITH_RING(test_a_record_is_that_of_the_protocol),
        cmocka_unit_test(test_the_boot_is_that_of_the_kernel),
        WITH_RING(test_the_acknowledged_position_survives),
        WITH_RING(test_half_an_acknowledgement_does_not_count),
        cmocka_unit_test(test_the_check_is_that_of_the_protocol),
        cmocka_unit_test(test_the_check_tells_each_bit),
        cmocka_unit_test(test_each_record_has_its_check),
        WITH_RING(test_the_first_records_have_their_pages),
        cmocka_unit_test(test_a_whole_ring_has_all_its_blocks),
        cmocka_unit_test(test_an_old_kernel_reserves_all_at_once),
        cmocka_unit_test(test_a_ring_is_halved_until_the_disk_has_room),
        cmocka_unit_test(test_the_process_may_have_no_larger_file),
        cmocka_unit_test(test_the_process_may_have_no_larger_mapping),
        cmocka_unit_test(test_a_process_that_locks_what_it_maps_gets_a_smaller_one),
        cmocka_unit_test(test_a_locked_process_has_no_whole_ring_in_memory),
    };
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
