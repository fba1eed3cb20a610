/* state.h: a state of the model: Redis, two workers with their files, and what the checks remember.
 * Everything is a byte with a value below 16, so that a state packs into half of its size.
 *
 * Ids are small numbers. A record is a number too, and so is its line: record r stands in an entry
 * and in a log as r. 0 means none. */
#ifndef MODEL_STATE_H
#define MODEL_STATE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    WORKERS = 2,
    RECORDS = 4,
    LINES = 8,
    TORN = 8, /* added to a line: the beginning of it, without the rest */
};

enum phase {
    PHASE_DOWN,    /* the process is dead */
    PHASE_STANDBY, /* alive, and has not opened, or does so again */
    PHASE_OPEN,    /* its opening succeeded; nothing is read */
    PHASE_READ,    /* a batch is in memory */
    PHASE_WRITTEN, /* its lines are in the log; the commit is next */
};

/* The rows of the table of section 5.2. */
enum row { ROW_NEW, ROW_IN_HAND, ROW_OLD };

struct entry {
    uint8_t id, record;
};

/* The value of the owner's key: the log, and whether the epoch is that of its last opening. */
enum owner { NOBODY = 0, STALE = 1, CURRENT = 2 };
#define OWNER(w, epoch) ((uint8_t)(2 * (w) + (epoch)))

/* What a rollback puts back. */
struct redis {
    uint8_t length;
    struct entry entry[RECORDS];
    uint8_t last; /* the stream's last id */
    uint8_t owner;
    uint8_t added;                   /* entries-added */
    uint8_t written;                 /* the account; the following are of it too */
    uint8_t token;                   /* a log's number + 1 */
    uint8_t claims;                  /* bits: the logs that commits note their lines for */
    uint8_t notes[WORKERS][RECORDS]; /* for each log, the id that record r + 1 was committed with */
    uint8_t removed;                 /* for the checks: entries that others removed */
    uint8_t remade; /* for the checks: there was a DEL, and nobody has opened since */
};

/* A commit whose connection is gone, and which Redis may still run; count is 0 without one. */
struct orphan {
    uint8_t first, last, count, removed, epoch;
};

struct slot {
    uint8_t offset, first, last; /* first is 0 when there is no slot */
    uint8_t file;
};

struct worker {
    /* In memory. */
    uint8_t phase, row, count, cursor;
    uint8_t removed;    /* entries that others removed before the opening */
    uint8_t open_batch; /* the batch of the slot may not be committed */
    uint8_t seen;       /* so many notes of other logs were looked at for this opening */
    uint8_t awaits;     /* the stream began with the batch in hand at the opening */
    struct entry batch[RECORDS];
    struct orphan orphan;
    /* On the disk. The lines of both files follow one another. */
    struct slot slot;
    uint8_t lines, line[LINES];
    uint8_t moved;    /* the log was renamed, and the worker still holds it */
    uint8_t files;    /* 1, or 2 after it has turned to a new file */
    uint8_t boundary; /* lines in the first of two files */
};

struct state {
    struct redis redis, copy;
    struct worker worker[WORKERS];
    uint8_t clock;
    uint8_t records; /* that were added */
    uint8_t crashes, faults;
    uint8_t has_copy;
    /* For the checks. */
    uint8_t lost;     /* bits: Redis lost these records before they were in a log */
    uint8_t touched;  /* bits: added before the opening that follows a rollback or a removal */
    uint8_t unplaced; /* bits: in Redis, and in no log, at a rollback */
    uint8_t unopened; /* there was a rollback or a removal, and no opening since */
    uint8_t given[2]; /* bits: ids that entries have got */
    uint8_t hurt;     /* what has happened to the stream: HURT_... */
};

enum { HURT_ROLLBACK = 1, HURT_REMOVE = 2, HURT_DEL = 4 };

/* What the model leaves out of the protocol: each is a mutation, and none is set in it. */
struct rules {
    bool no_comparison;   /* 5.2: what Redis still holds is written again */
    bool no_multiset;     /* 5.2: a line of the log is good for any number of entries */
    bool no_border;       /* 5.2: a batch may go over into another row of the table */
    bool no_torn_cut;     /* 5.2: lines are appended to a torn one */
    bool no_awaited;      /* 5.2: the batch in hand may not come, and is forgotten then */
    bool no_slot_before;  /* 5.3: the slot is written after the lines */
    bool no_fresh_log;    /* 5.1: the first slot of an empty log has the stream's last id */
    bool no_late_turn;    /* 5.1: the worker turns to a new file with a batch in hand, too */
    bool no_cut;          /* 5.4 */
    bool no_all_lines;    /* 5.4: one noted line of the batch is enough */
    bool no_news;         /* 3.4: notes that were added since a look are passed over */
    bool no_hash;         /* 5.4: a note's id is enough */
    bool no_claim_end;    /* 3.4: a log's own commits are noted for it, too */
    bool no_hand_standby; /* 3.4: who stands by ends its claim with a batch in hand, too */
    bool no_hand_release; /* 3.4: who ends takes its token away with a batch in hand, too */
    bool no_raise;        /* 3.4: the last id stays as it is */
    bool no_lease;        /* 3.5: anybody may commit */
    bool no_first_entry;  /* 3.5: the stream may begin with another entry */
    bool no_law;          /* 3.5: others may have removed entries */
};

/* What a run may do. */
struct bounds {
    int records, workers, crashes, faults, batch;
    bool rollback, del, remove, clock, expire, rotate; /* the faults */
    bool equal;  /* records 1 and 2, 3 and 4 have equal lines */
    bool behind; /* Redis's clock stands still from the start */
};

struct model {
    struct rules rules;
    struct bounds bounds;
};

/* The line of a record, as bytes: two records may have equal ones. */
static inline uint8_t content(const struct model *m, uint8_t record)
{
    return m->bounds.equal ? (uint8_t)((record + 1) / 2) : record;
}

#endif
