/* mutate_leftover.c: writes at random into the files of dead processes, mixes what a disk may mix,
 * and compares what an heir reads with what is still whole: mutate_leftover COUNT [SEED]. The same
 * seed does the same. */
#include <inttypes.h>
#include <time.h>

#include "tests/fuzz/leftover.h"

#define SECTOR  512
#define EACH    32 /* mutations of one history */
#define HISTORY 256

static struct lab lab;
static unsigned char image[2][sizeof(struct lc_ring_header) + LAB_BYTES]; /* an earlier, the last */
static unsigned char now[LAB_BYTES];
static uint64_t shortened; /* bytes of the data area that are left */
static unsigned char boot[LC_ID_BYTES];

/* A record as it was written. */
static struct written {
    uint64_t place, bytes, number;
    unsigned char slot[LAB_BYTES];
} history[HISTORY];
static size_t written;

void __wrap_lc_boot_id(unsigned char id[LC_ID_BYTES]);
void __real_lc_boot_id(unsigned char id[LC_ID_BYTES]);

/* The file in /proc is read once, not ten million times. */
void __wrap_lc_boot_id(unsigned char id[LC_ID_BYTES])
{
    memcpy(id, boot, LC_ID_BYTES);
}

/* ---- Chance ---- */

static uint64_t chance_state;

static uint64_t chance(uint64_t below)
{
    chance_state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = chance_state;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % below;
}

/* ---- A history ---- */

static void keep_image(int i)
{
    memcpy(image[i], lab.header, sizeof(struct lc_ring_header));
    memcpy(image[i] + sizeof(struct lc_ring_header), lab.data, LAB_BYTES);
}

static void write_record(size_t n)
{
    char text[LAB_BYTES] = "";
    struct written *w = &history[written++];
    bool json = chance(8) == 0;
    for (size_t i = 0; i < n; i++)
        text[i] = (char)('!' + chance(90));
    text[0] = json ? '{' : text[0];
    text[n] = '\0';
    *w = (struct written){.place = lab.at % LAB_BYTES, .number = lab.number};
    w->bytes = lab_put_flags(&lab, text, json ? LC_FLAG_JSON : 0);
    for (uint64_t i = 0; i < w->bytes; i++)
        w->slot[i] = (unsigned char)lab.data[(w->place + i) % LAB_BYTES];
}

/* Records and holes, as far as there is room. */
static void fill(void)
{
    for (uint64_t times = chance(40); times > 0 && written < HISTORY; times--) {
        size_t n = 1 + (size_t)(chance(8) == 0 ? chance(900) : chance(60));
        if (lab.at + n + 64 > lab.ack.position + LAB_BYTES)
            return;
        if (chance(10) == 0)
            lab_hole(&lab, 32 + 8 * chance(n / 8 + 1), chance(2) == 0);
        else
            write_record(n);
    }
}

/* Some of it is delivered, and cleared. */
static void deliver(void)
{
    for (size_t i = 0; i < written; i++) {
        struct written *w = &history[i];
        if (w->number < lab.ack.number || chance(3) == 0)
            continue;
        uint64_t position = lab.ack.position + (w->place + w->bytes - lab.ack.position) % LAB_BYTES;
        for (uint64_t at = lab.ack.position; at < position; at++)
            lab.data[at % LAB_BYTES] = 0;
        lab_set_ack(&lab, position, w->number + 1, w->number + 1);
        if (chance(4) == 0)
            return;
    }
}

static void make_history(void)
{
    written = 0;
    memcpy(boot, "the boot that is", LC_ID_BYTES);
    lab_format(&lab, 8 * chance(3 * LAB_BYTES / 8), 1 + chance(1 << 20), chance(4) != 0);
    fill();
    keep_image(0);
    for (uint64_t times = chance(4); times > 0; times--) {
        deliver();
        fill();
    }
    keep_image(1);
}

/* ---- A file ---- */

static void restore(int i)
{
    memcpy(lab.header, image[i], sizeof(struct lc_ring_header));
    memcpy(lab.data, image[i] + sizeof(struct lc_ring_header), LAB_BYTES);
}

/* What a power cut leaves of the two moments. */
static void mix(void)
{
    lab_power_cut(&lab);
    for (size_t at = 0; at < LAB_BYTES; at += SECTOR) {
        uint64_t which = chance(5);
        if (which < 2)
            memcpy(lab.data + at, image[0] + sizeof(struct lc_ring_header) + at, SECTOR);
        else if (which == 2)
            memset(lab.data + at, 0, SECTOR);
    }
    if (chance(4) == 0)
        memset(lab.header, 0, sizeof(struct lc_ring_header));
    else if (chance(2) == 0) {
        memcpy(lab.header, image[0], sizeof(struct lc_ring_header));
        lab_power_cut(&lab);
    }
}

static void mutate(char *start, size_t n)
{
    size_t at = (size_t)chance(n), word = at & ~(size_t)7;
    uint64_t value = chance(3) == 0 ? 0 : chance(UINT64_MAX) >> chance(64);
    switch (chance(5)) {
    case 0:
        start[at] = (char)(start[at] ^ 1 << chance(8));
        break;
    case 1:
        start[at] = (char)chance(256);
        break;
    case 2:
        memcpy(start + word, &value, sizeof(value));
        break;
    case 3:
        memcpy(start + word, start + (chance(n) & ~(uint64_t)7), 8);
        break;
    default:
        memset(start + at, (int)chance(2) * 255, n - at < 64 ? n - at : (size_t)chance(64));
        break;
    }
}

/* ---- What must hold ---- */

static bool is_whole(const struct written *w)
{
    for (uint64_t i = 0; i < w->bytes; i++) {
        uint64_t at = (w->place + i) % LAB_BYTES;
        if (at >= shortened || now[at] != w->slot[i])
            return false;
    }
    return true;
}

/* Whether something that was written at random may be taken for the length of a record that was
 * never accepted. Then what lies within that length is passed over. */
static bool misleading(void)
{
    const unsigned char *last = image[1] + sizeof(struct lc_ring_header);
    for (size_t at = 0; at < LAB_BYTES; at += 8) {
        uint64_t word;
        memcpy(&word, now + at, sizeof(word));
        if (memcmp(now + at, last + at, 8) != 0 && (word & LC_SLOT_STATE_MASK) == LC_SLOT_RESERVED)
            return true;
    }
    return false;
}

static bool was_heard(const struct heard *heard, const struct written *w)
{
    for (size_t i = 0; i < heard->count; i++)
        if (heard->numbers[i] == w->number && heard->places[i] == w->place)
            return true;
    return false;
}

static const char *compare(const struct heard *heard, uint64_t least, bool lengths)
{
    size_t found = 0;
    for (size_t i = 0; i < written; i++) {
        bool was = was_heard(heard, &history[i]);
        found += was;
        if (!was && history[i].number >= least && is_whole(&history[i]) &&
            !(lengths && misleading()))
            return "a record that is whole is not delivered";
    }
    return found < heard->count ? "a record is delivered that nobody has written" : NULL;
}

/* One file: false when a promise does not hold. */
static bool try_one(void)
{
    static struct heard heard;
    off_t bytes = LC_RING_HEADER_BYTES + LAB_BYTES;
    struct lc_ring_ack ack;
    restore(1);
    bool cut = lab.text && chance(3) == 0, header = chance(8) == 0;
    if (cut)
        mix();
    for (uint64_t times = chance(cut ? 2 : 8); times > 0; times--)
        mutate(lab.data, LAB_BYTES);
    if (header)
        mutate((char *)lab.header, sizeof(struct lc_ring_header));
    uint64_t least = lc_ring_find_ack(lab.header, &ack) ? ack.number : 1;
    memcpy(now, lab.data, LAB_BYTES);
    shortened = chance(16) == 0 ? 8 * chance(LAB_BYTES / 8) + 8 : LAB_BYTES;
    if (shortened < LAB_BYTES && ftruncate(lab.fd, bytes - LAB_BYTES + (off_t)shortened) != 0)
        abort();
    const char *wrong = check_leftover(lab.fd, (unsigned)chance(100), &heard);
    if (shortened < LAB_BYTES && ftruncate(lab.fd, bytes) != 0)
        abort();
    /* A header that was written into may say anything; one that is gone fits no shorter file. */
    if (wrong == NULL && !header && (shortened == LAB_BYTES || lab.header->magic[0] != 0))
        wrong = compare(&heard, least, !cut);
    if (wrong != NULL)
        fprintf(stderr, "mutate_leftover: %s\n", wrong);
    return wrong == NULL;
}

int main(int argc, char **argv)
{
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL);
    lab_open(&lab);
    for (uint64_t i = 0; i < count; i++) {
        if (i % EACH == 0) {
            chance_state = seed + i;
            make_history();
        }
        if (!try_one()) {
            fprintf(stderr, "file %" PRIu64 " of seed %" PRIu64 "\n", i, seed);
            return 1;
        }
    }
    printf("%" PRIu64 " files of seed %" PRIu64 ": each whole record was read once\n", count, seed);
    lab_close(&lab);
    return 0;
}
