/* answer-internal.h: what logd's answer to a batch means (doc/protocol.md, section 2.1). */
#ifndef LC_ANSWER_INTERNAL_H
#define LC_ANSWER_INTERNAL_H

#include "http-internal.h"

enum lc_verdict {
    LC_TAKEN,     /* every record is in Redis */
    LC_REFUSED,   /* logd will never take the record *index */
    LC_TOO_LARGE, /* fewer records may be taken */
    LC_NOT_TAKEN, /* the same batch is to be sent again */
};

/* The verdict on a batch of `count` records. A refusal counts only when the answer proves that it
 * is logd's, not that of a proxy or of another server at this address. */
enum lc_verdict lc_answer_verdict(const struct lc_http_answer *answer, size_t count, size_t *index);

/* How many records of a batch that was taken had been stored before, as logd says. */
uint64_t lc_answer_duplicates(const struct lc_http_answer *answer);

/* A sentence for LC_NOT_TAKEN. */
void lc_answer_describe(const struct lc_http_answer *answer, const char *url, char *text,
                        size_t size);

#endif
