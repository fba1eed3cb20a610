/* stats.h: what the worker counts. Outside a callback, and without the batches in hand,
 * read = written + filtered + dead + skipped + dropped. Consumer and committer count; status and
 * main tell. */
#ifndef WORKER_STATS_H
#define WORKER_STATS_H

#include <stdint.h>

struct worker_stats {
    uint64_t read;     /* entries that Redis delivered */
    uint64_t written;  /* lines committed to the log */
    uint64_t filtered; /* below --level */
    uint64_t dead;     /* malformed, moved to the dead letters */
    uint64_t skipped;  /* committed before, or deleted by somebody: only acknowledged */
    uint64_t dropped;  /* put back unwritten when a connection broke; Redis delivers them again */
    uint64_t batches;  /* commits */
    uint64_t write_errors; /* attempts to write or sync log or state that failed */
};

#endif
