/* leftover-scan-internal.h: finds the records in a leftover's file. For leftover.c. */
#ifndef LC_LEFTOVER_SCAN_INTERNAL_H
#define LC_LEFTOVER_SCAN_INTERNAL_H

#include "leftover-state-internal.h"

enum lc_slot_kind {
    LC_SLOT_RECORD,  /* its check is right, and it can be sent */
    LC_SLOT_POISON,  /* its check is right, and it cannot be sent */
    LC_SLOT_PASSED,  /* it was never accepted: pass over it */
    LC_SLOT_FREE,    /* eight bytes of zeros */
    LC_SLOT_STRANGE, /* none of these */
    LC_SLOT_UNKNOWN, /* out of memory */
};

/* Looks at what lies at `place`, modulo the capacity, in at most `room` bytes. *bytes is its
 * length. The texts of *record stay until the next call. Of what is passed over, only the
 * number is known. */
enum lc_slot_kind lc_leftover_look(struct lc_leftover *leftover, uint64_t place, uint64_t room,
                                   struct lc_record *record, uint64_t *bytes);

/* Goes on with the search until about so many bytes more were read or checked. Returns 0, or
 * ENOMEM. */
int lc_leftover_scan(struct lc_leftover *leftover, uint64_t budget_bytes);

#endif
