/* place.h: where an entry that Redis holds stands beside the log (doc/protocol.md, section 5.2).
 * For sink, reconcile and batch. */
#ifndef WORKER_PLACE_H
#define WORKER_PLACE_H

/* By its id, beside what the state file says. */
enum entry_class {
    ENTRY_NEW,     /* has no line */
    ENTRY_IN_HAND, /* of the batch in hand: may have a line behind the state's offset */
    ENTRY_OLD,     /* should not be there: may have a line anywhere */
};

/* By its line. */
enum line_found {
    LINE_MISSING,  /* not in the log */
    LINE_UNPLACED, /* not found; but not all of the log could be looked at */
    LINE_FOUND,    /* in the log */
    LINE_ERROR,    /* errno */
};

#endif
