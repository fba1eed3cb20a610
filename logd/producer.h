/* producer.h: the headers of an idempotent producer (doc/protocol.md, section 2.2). api.c reads
 * them, the store passes them on. */
#ifndef LOGD_PRODUCER_H
#define LOGD_PRODUCER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/http/failure.h"

#define PRODUCER_ID_LEN       32
#define PRODUCER_SEQUENCE_MAX 9007199254740991 /* 2^53 - 1 */

struct producer {
    char id[PRODUCER_ID_LEN + 1]; /* lower-case hexadecimal; "" when there is no producer */
    int64_t first;                /* sequence number of the first record */
    int64_t skip;                 /* numbers directly before it that will never come */
};

/* Reads the values of Log-Producer, Log-Sequence and Log-Skip, NULL for those that were not sent.
 * Returns false with *f set when one is wrong or one is missing. */
bool producer_parse(struct producer *p, const char *id, const char *sequence, const char *skip,
                    struct failure *f);

/* Whether `count` records from p->first on have valid numbers; else *f is set. */
bool producer_takes(const struct producer *p, size_t count, struct failure *f);

#endif
