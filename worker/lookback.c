/* lookback.c: counts lines by their fingerprints. */
#include "worker/lookback.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <event2/util.h>

#define CHUNK_BYTES 65536
#define SLOT_BYTES  64 /* of budget for each slot: shorter than a line of app.log */
#define SLOTS_MIN   1024
#define PRIME       ((UINT64_C(1) << 61) - 1)
#define STEP        8 /* bytes at a time */

struct slot {
    uint64_t print; /* 0: free */
    uint64_t count; /* lines left */
};

struct lookback {
    uint64_t powers[STEP + 1]; /* of the key; the first is 1 */
    int64_t budget;            /* bytes that may still be added */
    bool whole;
    size_t used, capacity; /* slots; capacity is a power of two */
    struct slot slots[];
};

/* Less than 2^124 modulo the prime 2^61 - 1. */
static uint64_t reduce(unsigned __int128 n)
{
    uint64_t sum = (uint64_t)(n & PRIME) + (uint64_t)(n >> 61);
    sum = (sum & PRIME) + (sum >> 61);
    return sum == PRIME ? 0 : sum;
}

static void set_key(struct lookback *l)
{
    uint64_t random;
    evutil_secure_rng_get_bytes(&random, sizeof(random));
    l->powers[0] = 1;
    l->powers[1] = random % (PRIME - 2) + 2;
    for (int i = 2; i <= STEP; i++)
        l->powers[i] = reduce((unsigned __int128)l->powers[i - 1] * l->powers[1]);
}

struct lookback *lookback_new(int64_t budget)
{
    size_t capacity = SLOTS_MIN;
    while ((int64_t)capacity < budget / SLOT_BYTES)
        capacity *= 2;
    /* Not from the heap, which keeps what it is given back (heap.h). */
    struct lookback *l = mmap(NULL, sizeof(*l) + capacity * sizeof(l->slots[0]),
                              PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (l == MAP_FAILED)
        return NULL;
    l->budget = budget;
    l->whole = true;
    l->capacity = capacity;
    set_key(l);
    return l;
}

/* The bytes are the coefficients of a polynomial, evaluated at the key, modulo a prime (Carter and
 * Wegman's construction). It can go on with the next part of a line. */
static uint64_t print_add(const struct lookback *l, uint64_t print, const char *p, size_t n)
{
    for (; n >= STEP; p += STEP, n -= STEP) {
        unsigned __int128 sum = (unsigned __int128)print * l->powers[STEP];
        for (int i = 0; i < STEP; i++)
            sum += (unsigned __int128)l->powers[STEP - 1 - i] * ((unsigned char)p[i] + 1U);
        print = reduce(sum);
    }
    for (; n > 0; p++, n--)
        print = reduce((unsigned __int128)print * l->powers[1] + (unsigned char)*p + 1);
    return print;
}

/* The slot of the fingerprint, or the free one where it belongs. */
static struct slot *find(struct lookback *l, uint64_t print)
{
    size_t i = (size_t)(print * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (l->capacity - 1);
    while (l->slots[i].print != 0 && l->slots[i].print != print)
        i = (i + 1) & (l->capacity - 1);
    return &l->slots[i];
}

static void count_line(struct lookback *l, uint64_t print)
{
    struct slot *slot = find(l, print);
    if (slot->print == 0 && l->used >= l->capacity - l->capacity / 8) {
        l->whole = false;
        return;
    }
    l->used += slot->print == 0;
    slot->print = print;
    slot->count++;
}

/* The end of the line that begins at p, behind its line feed; NULL: it does not end here. */
static const char *line_end(const char *p, const char *end)
{
    const char *newline = memchr(p, '\n', (size_t)(end - p));
    return newline == NULL ? NULL : newline + 1;
}

/* Counts the lines of the chunk. *print is that of the line under way, and 0 at its beginning;
 * while *skip, the line under way does not count. */
static void count_chunk(struct lookback *l, const char *p, size_t n, uint64_t *print, bool *skip)
{
    const char *end = p + n, *next;
    for (; (next = line_end(p, end)) != NULL; p = next) {
        if (!*skip)
            count_line(l, print_add(l, *print, p, (size_t)(next - p)));
        *print = 0;
        *skip = false;
    }
    if (!*skip)
        *print = print_add(l, *print, p, (size_t)(end - p));
}

/* Whether a line begins at `from`: after a line feed. */
static bool begins_line(int fd, int64_t from)
{
    char before;
    return from == 0 || (pread(fd, &before, 1, (off_t)from - 1) == 1 && before == '\n');
}

bool lookback_add(struct lookback *l, int fd, int64_t from, int64_t size)
{
    char chunk[CHUNK_BYTES];
    uint64_t print = 0;
    if (size - from > l->budget) {
        from = size - l->budget;
        l->whole = false;
    }
    bool skip = !begins_line(fd, from);
    l->budget -= size > from ? size - from : 0;
    for (int64_t at = from; at < size;) {
        size_t wanted = size - at < CHUNK_BYTES ? (size_t)(size - at) : CHUNK_BYTES;
        ssize_t n = pread(fd, chunk, wanted, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        if (n == 0)
            break;
        count_chunk(l, chunk, (size_t)n, &print, &skip);
        at += n;
    }
    return true;
}

void lookback_miss(struct lookback *l)
{
    l->whole = false;
}

/* NULL: no line is there at all. */
static struct slot *slot_of(struct lookback *l, const char *line, size_t n)
{
    return l->used == 0 ? NULL : find(l, print_add(l, 0, line, n));
}

bool lookback_take(struct lookback *l, const char *line, size_t n)
{
    struct slot *slot = slot_of(l, line, n);
    if (slot == NULL || slot->count == 0)
        return false;
    slot->count--;
    return true;
}

uint64_t lookback_count(struct lookback *l, const char *line, size_t n)
{
    const struct slot *slot = slot_of(l, line, n);
    return slot == NULL ? 0 : slot->count;
}

bool lookback_empty(const struct lookback *l)
{
    return l->used == 0;
}

bool lookback_whole(const struct lookback *l)
{
    return l->whole;
}

void lookback_free(struct lookback *l)
{
    if (l != NULL)
        munmap(l, sizeof(*l) + l->capacity * sizeof(l->slots[0]));
}
