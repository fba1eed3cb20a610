/* fuzz_leftover.c: files that a heir may find, under libFuzzer (make fuzz).
 *
 * Of the input, the first byte says what is put right before the file is read, so that not all of
 * them end at a magic or a check; the second, how much of it the first heir acknowledges. The
 * header and the data area follow. */
#include "tests/fuzz/leftover.h"

#define FIX_HEADER 1 /* magic, sizes, id */
#define FIX_ACKS   2 /* their checks */
#define FIX_BOOT   4
#define FIX_SLOTS  8 /* the checks of what looks like a record */
#define FIX_SHORT  16
#define FIX_ZERO   32 /* no header at all */

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void fix_acks(struct lc_ring_header *h)
{
    for (int i = 0; i < 2; i++) {
        struct lc_ack_slot *slot = &h->ack[i];
        struct lc_ring_ack ack = {.generation = slot->generation,
                                  .position = slot->position,
                                  .number = slot->number,
                                  .stored = slot->stored,
                                  .producer = {slot->producer[0], slot->producer[1]}};
        lc_ack_slot_fill(slot, &ack);
    }
}

static void fix_slots(struct lab *lab)
{
    _Alignas(8) char space[LAB_BYTES];
    struct lc_slot *slot = (struct lc_slot *)(void *)space;
    for (uint64_t at = 0, bytes; at < LAB_BYTES; at += bytes) {
        uint64_t header;
        memcpy(&header, lab->data + at, sizeof(header));
        bytes = (header & LC_SLOT_UNITS_MASK) << 3;
        if ((header & LC_SLOT_STATE_MASK) != LC_SLOT_COMMITTED || bytes < sizeof(*slot) ||
            bytes > sizeof(space)) {
            bytes = sizeof(header);
            continue;
        }
        for (size_t i = 0; i < bytes; i++)
            space[i] = lab->data[(at + i) % LAB_BYTES];
        if (bytes - sizeof(*slot) >= slot->sizes >> LC_SIZES_PAD_LOW)
            lab_place(lab, at, slot);
    }
}

static void lay_out(struct lab *lab, int fix, const unsigned char *data, size_t size)
{
    struct lc_ring_header *h = lab->header;
    size_t head = size < sizeof(*h) ? size : sizeof(*h);
    size_t rest = size - head < LAB_BYTES ? size - head : LAB_BYTES;
    memset(h, 0, sizeof(*h));
    memset(lab->data, 0, LAB_BYTES);
    memcpy(h, data, head);
    memcpy(lab->data, data + head, rest);
    if ((fix & FIX_HEADER) != 0) {
        memcpy(h->magic, "LOGRING2", sizeof(h->magic));
        h->header_bytes = LC_RING_HEADER_BYTES;
        h->capacity = LAB_BYTES;
        lab_id(h->id);
    }
    if ((fix & FIX_BOOT) != 0)
        lc_boot_id(h->boot);
    if ((fix & FIX_ACKS) != 0)
        fix_acks(h);
    if ((fix & FIX_SLOTS) != 0)
        fix_slots(lab);
    if ((fix & FIX_ZERO) != 0)
        memset(h, 0, sizeof(*h));
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static struct lab lab = {.fd = -1};
    static struct heard heard;
    off_t whole = LC_RING_HEADER_BYTES + LAB_BYTES;
    if (size < 2)
        return 0;
    if (lab.fd < 0)
        lab_open(&lab);
    lay_out(&lab, data[0], data + 2, size - 2);
    if ((data[0] & FIX_SHORT) != 0 && ftruncate(lab.fd, whole - 16 * data[1]) != 0)
        abort();
    const char *wrong = check_leftover(lab.fd, data[1], &heard);
    if ((data[0] & FIX_SHORT) != 0 && ftruncate(lab.fd, whole) != 0)
        abort();
    if (wrong != NULL) {
        fprintf(stderr, "%s\n", wrong);
        abort();
    }
    return 0;
}
