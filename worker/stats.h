/* stats.h: what this process counts. Without the batches in hand,
 * read = written + found + filtered + dead + dropped. Consumer and committer count; status and main
 * tell. What holds over all processes is in account.h. */
#ifndef WORKER_STATS_H
#define WORKER_STATS_H

#include <stdint.h>

struct worker_stats {
    uint64_t read;         /* entries that Redis delivered */
    uint64_t written;      /* lines written to the log, and committed */
    uint64_t found;        /* records that stood in the log already, committed */
    uint64_t filtered;     /* below --level */
    uint64_t dead;         /* malformed, moved to the dead letters */
    uint64_t dropped;      /* put back: read again after the next opening */
    uint64_t unplaced;     /* of written: may stand in the log, farther back than --look-back */
    uint64_t batches;      /* commits */
    uint64_t openings;     /* of the stream by this worker */
    uint64_t write_errors; /* attempts to write or sync log or state that failed */
};

#endif
