/* lookback.h: a multiset of lines that stand in log files: which of them are there, and how often.
 * For reconcile.c.
 *
 * It keeps a fingerprint of 61 bits a line, with a key that is chosen at random: two different
 * lines of n bytes are taken for one with a probability below n / 2^60. It needs 16 bytes of memory
 * for each 64 bytes of its budget. */
#ifndef WORKER_LOOKBACK_H
#define WORKER_LOOKBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lookback;

/* It takes lines from `budget` bytes at most. NULL: out of memory. */
struct lookback *lookback_new(int64_t budget);

/* Adds the whole lines of the file from `from` on, each ended by a line feed: the last ones, as far
 * as the budget goes. False: errno. */
bool lookback_add(struct lookback *l, int fd, int64_t from, int64_t size);

/* Notes that something could not be looked at. */
void lookback_miss(struct lookback *l);

/* Whether the line, with its line feed, is there; takes one of its kind out. */
bool lookback_take(struct lookback *l, const char *line, size_t n);

/* How many of this line are left. */
uint64_t lookback_count(struct lookback *l, const char *line, size_t n);

/* Whether no line was there. */
bool lookback_empty(const struct lookback *l);

/* Whether all was looked at that was to be added. */
bool lookback_whole(const struct lookback *l);

/* NULL is ignored. */
void lookback_free(struct lookback *l);

#endif
