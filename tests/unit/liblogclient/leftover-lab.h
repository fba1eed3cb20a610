/* leftover-lab.h: files of dead processes, laid out record by record, as small as leftover.c takes
 * them. For the unit tests and for make fuzz. */
#ifndef LEFTOVER_LAB_H
#define LEFTOVER_LAB_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "liblogclient/leftover-internal.h"

#define LAB_BYTES LC_LEFTOVER_MIN_BYTES /* capacity */
#define LAB_NAME  "000102030405060708090a0b0c0d0e0f.ring"
#define LAB_MOST  (LAB_BYTES / sizeof(struct lc_slot))

struct lab {
    int fd; /* owned */
    struct lc_ring_header *header;
    char *data;
    struct lc_ring_ack ack;
    uint64_t at, number; /* of the next record */
    bool text;           /* checks are over texts, as on a disk */
};

/* What `name` and `key` are made of: the bytes 0 to 15. */
static inline void lab_id(unsigned char id[LC_ID_BYTES])
{
    for (int i = 0; i < LC_ID_BYTES; i++)
        id[i] = (unsigned char)i;
}

static inline void lab_set_head(struct lab *lab)
{
    atomic_store(&lab->header->head, lc_head_make(lab->at, lab->number));
}

static inline void lab_set_ack(struct lab *lab, uint64_t position, uint64_t number, uint64_t stored)
{
    lab->ack.generation++;
    lab->ack.position = position;
    lab->ack.number = number;
    lab->ack.stored = stored;
    lc_ack_slot_fill(&lab->header->ack[lab->ack.generation & 1], &lab->ack);
}

/* An empty ring whose next record lies at `position` and has this number. */
static inline void lab_format(struct lab *lab, uint64_t position, uint64_t number, bool text)
{
    struct lc_ring_header *h = lab->header;
    memset(h, 0, LC_RING_HEADER_BYTES + LAB_BYTES);
    memcpy(h->magic, "LOGRING2", sizeof(h->magic));
    h->header_bytes = LC_RING_HEADER_BYTES;
    h->owner_pid = 1;
    h->capacity = LAB_BYTES;
    lab_id(h->id);
    lc_boot_id(h->boot);
    lab->at = position;
    lab->number = number;
    lab->text = text;
    lab->ack = (struct lc_ring_ack){0};
    lab_id((unsigned char *)lab->ack.producer);
    lab_set_ack(lab, position, number, number);
    lab_set_head(lab);
}

static inline void lab_open(struct lab *lab)
{
    size_t bytes = LC_RING_HEADER_BYTES + LAB_BYTES;
    lab->fd = memfd_create("lab", MFD_CLOEXEC);
    assert(lab->fd >= 0 && ftruncate(lab->fd, (off_t)bytes) == 0);
    lab->header = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, lab->fd, 0);
    assert(lab->header != MAP_FAILED);
    lab->data = (char *)lab->header + LC_RING_HEADER_BYTES;
    lab_format(lab, 0, 1, true);
}

static inline void lab_close(struct lab *lab)
{
    munmap(lab->header, LC_RING_HEADER_BYTES + LAB_BYTES);
    close(lab->fd);
}

/* As if the machine had stopped since. */
static inline void lab_power_cut(struct lab *lab)
{
    lab->header->boot[0] ^= 1;
}

/* Copies bytes to a position, where they may wrap. */
static inline void lab_copy(struct lab *lab, uint64_t position, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        lab->data[(position + i) % LAB_BYTES] = ((const char *)bytes)[i];
}

/* Completes the slot's check, and puts it at `position`. */
static inline void lab_place(struct lab *lab, uint64_t position, struct lc_slot *slot)
{
    uint64_t key[2], bytes = (slot->header & LC_SLOT_UNITS_MASK) << 3;
    uint64_t pad = slot->sizes >> LC_SIZES_PAD_LOW;
    memcpy(key, lab->header->id, sizeof(key));
    slot->check = lc_slot_check(key, position % LAB_BYTES, slot->header, slot, slot->text,
                                (size_t)(bytes - sizeof(*slot) - pad));
    lab_copy(lab, position, slot, (size_t)bytes);
}

/* Writes a record of the service "svc" at lab->at; returns its bytes. */
static inline uint64_t lab_put_flags(struct lab *lab, const char *text, unsigned flags)
{
    _Alignas(8) char space[LAB_BYTES] = {0};
    struct lc_slot *slot = (struct lc_slot *)(void *)space;
    size_t n = strlen(text), all = sizeof(*slot) + 3 + n;
    uint64_t bytes = (all + 7) & ~(uint64_t)7;
    assert(bytes <= LAB_BYTES);
    memcpy(slot->text, "svc", 3);
    memcpy(slot->text + 3, text, n);
    slot->header = bytes >> 3 | LC_SLOT_COMMITTED | lab->number << LC_SLOT_NUMBER_LOW;
    slot->timestamp_ms = 42;
    slot->sizes = 3u | (uint32_t)LEVEL_WARN << LC_SIZES_LEVEL_LOW | flags << LC_SIZES_FLAGS_LOW |
                  (lab->text ? LC_SIZES_TEXT : 0) | (uint32_t)(bytes - all) << LC_SIZES_PAD_LOW;
    lab_place(lab, lab->at, slot);
    lab->at += bytes;
    lab->number++;
    lab_set_head(lab);
    return bytes;
}

static inline uint64_t lab_put(struct lab *lab, const char *text)
{
    return lab_put_flags(lab, text, 0);
}

/* A call that never came to its end: at all, or after it had begun its record. */
static inline void lab_hole(struct lab *lab, uint64_t bytes, bool begun)
{
    uint64_t header = bytes >> 3 | LC_SLOT_RESERVED | lab->number << LC_SLOT_NUMBER_LOW;
    if (begun)
        lab_copy(lab, lab->at, &header, sizeof(header));
    lab->at += bytes;
    lab->number++;
    lab_set_head(lab);
}

/* Opens a second descriptor of the file, for leftover.c. */
static inline int lab_find(const struct lab *lab, struct lc_leftover *leftover)
{
    int fd = dup(lab->fd);
    assert(fd >= 0);
    int error = lc_leftover_open(leftover, fd, LAB_NAME);
    if (error != 0)
        close(fd);
    return error;
}

#endif
