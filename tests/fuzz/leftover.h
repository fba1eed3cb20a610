/* leftover.h: reads a file as an heir does, and says which promise of leftover.c does not hold. */
#ifndef FUZZ_LEFTOVER_H
#define FUZZ_LEFTOVER_H

#include <errno.h>

#include "tests/unit/liblogclient/leftover-lab.h"

#define STEPS_MAX 1000 /* of a search; each takes about a megabyte */

/* What was delivered: the numbers, in their order. */
struct heard {
    uint64_t numbers[LAB_MOST];
    uint64_t places[LAB_MOST]; /* in the data area */
    size_t count;
};

static inline const char *check_record(const struct lc_leftover *l, const struct lc_record *r,
                                       uint64_t least)
{
    volatile char sum = 0;
    if (r->number < least)
        return "a number is not above the one before, or the acknowledged one";
    if (r->service.n == 0 || r->service.n > 128 || r->service.n + r->message.n > LAB_BYTES)
        return "a text is as long as none can be";
    if ((unsigned)r->level > LEVEL_FATAL || (r->flags & ~(LC_FLAG_CUT | LC_FLAG_JSON)) != 0)
        return "a field has a value that the sender does not know";
    if ((r->flags & LC_FLAG_JSON) != 0 &&
        (r->message.n == 0 || memchr(r->message.p, '\n', r->message.n) != NULL))
        return "a JSON record is not one line";
    for (size_t i = 0; i < r->message.n; i++) /* for AddressSanitizer */
        sum = (char)(sum + r->message.p[i]);
    return l->end < l->tail ? "the end lies before the tail" : NULL;
}

static inline const char *hear(struct lc_leftover *l, struct heard *heard)
{
    struct lc_record r;
    uint64_t position = l->tail, before = position, least = l->ack.number;
    enum lc_ring_read result;
    heard->count = 0;
    while ((result = lc_leftover_read(l, &position, &r)) == LC_RING_RECORD) {
        const char *wrong = check_record(l, &r, least);
        if (wrong != NULL)
            return wrong;
        if (heard->count == LAB_MOST)
            return "there are more records than fit";
        const struct lc_run *run = &l->runs[l->run];
        heard->places[heard->count] = (run->place + before - run->base) % LAB_BYTES;
        heard->numbers[heard->count++] = r.number;
        least = r.number + 1;
        before = position;
    }
    if (result != LC_RING_EMPTY || position != l->end)
        return "a file that nobody changes is not read to its end";
    return NULL;
}

/* Opens, searches, reads. *error is what opening said. */
static inline const char *hear_file(int file, struct lc_leftover *l, struct heard *heard,
                                    int *error)
{
    int fd = dup(file), steps = 0;
    *error = lc_leftover_open(l, fd, LAB_NAME);
    if (*error != 0) {
        close(fd);
        return *error == EBADMSG || *error == ENOTSUP ? NULL : "opening fails in a strange way";
    }
    while (!l->searched)
        if (steps++ > STEPS_MAX || lc_leftover_search(l) != 0)
            return "the search does not end";
    return hear(l, heard);
}

/* Whether the second heir hears what the first did behind `done` records. In a damaged file it may
 * hear more: of two runs with a number in common, one is left out until the number is done. */
static inline bool goes_on(const struct heard *first, size_t done, const struct heard *second,
                           bool damaged)
{
    size_t i = done;
    for (size_t k = 0; k < second->count; k++)
        if (i < first->count && first->numbers[i] == second->numbers[k])
            i++;
        else if (!damaged)
            return false;
    return i == first->count;
}

/* Reads all; acknowledges a part; the next heir must hear the rest and nothing else. `part` chooses
 * how much. NULL when all promises hold. */
static inline const char *check_leftover(int file, unsigned part, struct heard *first)
{
    struct lc_leftover l = {.fd = -1};
    struct lc_record r;
    struct heard second;
    int error;
    const char *wrong = hear_file(file, &l, first, &error);
    size_t done = first->count == 0 ? 0 : part % (first->count + 1);
    if (error == 0 && wrong == NULL && done > 0) {
        uint64_t position = l.tail;
        for (size_t i = 0; i < done; i++)
            lc_leftover_read(&l, &position, &r);
        lc_leftover_acknowledge(&l, position, first->numbers[done - 1] + 1,
                                first->numbers[done - 1]);
        lc_leftover_close(&l);
        wrong = hear_file(file, &l, &second, &error);
        if (wrong == NULL && (error != 0 || !goes_on(first, done, &second, l.damaged)))
            wrong = "the next heir does not hear what the first has left";
    }
    if (error == 0)
        lc_leftover_close(&l);
    if (error != 0)
        first->count = 0;
    return wrong;
}

#endif
