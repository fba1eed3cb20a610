/* reconcile.c: compares entries with the lines of the log. */
#include "worker/reconcile.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crash.h"
#include "common/diag.h"
#include "worker/logfile.h"
#include "worker/lookback.h"
#include "worker/past.h"
#include "worker/prints.h"

#define CHUNK_BYTES 4096

void reconcile_begin(struct reconcile *r, const char *path, int64_t look_back, int log,
                     const struct state_slot *slot)
{
    reconcile_end(r);
    *r = (struct reconcile){.path = path, .look_back = look_back, .log = log, .slot = *slot};
}

enum entry_class reconcile_class(const struct reconcile *r, struct stream_id id)
{
    if (stream_id_after(id, r->slot.last))
        return ENTRY_NEW;
    return stream_id_after(r->slot.first, id) ? ENTRY_OLD : ENTRY_IN_HAND;
}

/* Opens the file that the slot speaks of. -1: errno; ENOENT: it is not there any more. */
static int open_spoken_of(const struct reconcile *r)
{
    struct stat st;
    if (fstat(r->log, &st) != 0)
        return -1;
    return state_speaks_of(&r->slot, &st) ? dup(r->log)
                                          : logfile_open_renamed(r->path, r->slot.dev, r->slot.ino);
}

/* ---- The lines ---- */

static struct lookback *new_lookback(const struct reconcile *r, int64_t bytes)
{
    struct lookback *l = lookback_new(bytes < r->look_back ? bytes : r->look_back);
    if (l == NULL)
        errno = ENOMEM;
    return l;
}

static bool look_at(struct lookback *l, int fd, int64_t from, int64_t size, bool sync)
{
    return (!sync || fdatasync(fd) == 0) && lookback_add(l, fd, from, size);
}

/* NULL with errno 0: the file is gone, or was cut, so that all lines have to be looked at. */
static struct lookback *lines_behind(const struct reconcile *r, bool sync)
{
    int fd = open_spoken_of(r);
    struct lookback *l = NULL;
    struct stat st;
    if (fd < 0) {
        if (logfile_is_gone(errno))
            errno = 0;
        return NULL;
    }
    if (fstat(fd, &st) == 0 && st.st_size < r->slot.offset) {
        errno = 0;
    } else if (fstat(fd, &st) == 0) {
        l = new_lookback(r, st.st_size - r->slot.offset);
        if (l != NULL && !look_at(l, fd, r->slot.offset, st.st_size, sync)) {
            lookback_free(l);
            l = NULL;
        }
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return l;
}

/* Adds one of the files that the log was before. A file that cannot be read is missed. */
static void add_past(struct lookback *l, const struct past *past, size_t i, bool sync)
{
    int fd = past_open(past, i);
    if (fd < 0 || !look_at(l, fd, 0, past->files[i].size, sync))
        lookback_miss(l);
    if (fd >= 0)
        close(fd);
}

static struct lookback *all_lines(const struct reconcile *r, bool sync)
{
    struct past past;
    struct stat st;
    if (fstat(r->log, &st) != 0 || !past_list(&past, r->path, &st))
        return NULL;
    struct lookback *l = new_lookback(r, st.st_size + past.bytes);
    if (l != NULL && !look_at(l, r->log, 0, st.st_size, sync)) {
        lookback_free(l);
        l = NULL;
    }
    for (size_t i = 0; l != NULL && i < past.count; i++)
        add_past(l, &past, i, sync);
    past_free(&past);
    return l;
}

static void say_behind(const struct reconcile *r)
{
    char first[STREAM_ID_TEXT_MAX];
    stream_id_format(r->slot.first, first);
    diag_info("Redis still holds the batch from entry %s on: it is compared with the lines after "
              "byte %" PRId64 " of %s",
              first, r->slot.offset, r->path);
}

static void say_all(const struct reconcile *r)
{
    static struct diag_limit limit;
    char last[STREAM_ID_TEXT_MAX];
    stream_id_format(r->slot.last, last);
    diag_warn_limited(
        &limit,
        "Redis holds entries up to %s, which %s may have already: it was put back to an "
        "older copy, or the state file is new; they are compared with the log's last lines",
        last, r->path);
}

bool reconcile_look(struct reconcile *r, struct stream_id first, bool sync)
{
    enum entry_class class = reconcile_class(r, first);
    errno = 0;
    if (class != ENTRY_NEW && state_in_hand(&r->slot)) {
        r->behind = lines_behind(r, sync);
        if (r->behind == NULL && errno != 0)
            return false;
    }
    if (class == ENTRY_IN_HAND && r->behind != NULL)
        say_behind(r);
    if (class == ENTRY_NEW || (class == ENTRY_IN_HAND && r->behind != NULL))
        return true;
    r->all = all_lines(r, sync);
    if (r->all == NULL)
        return false;
    if (state_in_hand(&r->slot) && r->behind == NULL)
        lookback_miss(r->all); /* the lines may be where the file has gone */
    if (!lookback_empty(r->all))
        say_all(r);
    return true;
}

/* What lies behind the offset is among all lines. A line that one entry has taken is taken from
 * both. */
static bool take(struct reconcile *r, enum entry_class class, const char *line, size_t n)
{
    if (class == ENTRY_IN_HAND && r->behind != NULL) {
        if (!lookback_take(r->behind, line, n))
            return false;
        if (r->all != NULL)
            lookback_take(r->all, line, n);
        return true;
    }
    if (!lookback_take(r->all, line, n))
        return false;
    if (r->behind != NULL && lookback_count(r->behind, line, n) > lookback_count(r->all, line, n))
        lookback_take(r->behind, line, n);
    return true;
}

enum line_found reconcile_find(struct reconcile *r, enum entry_class class, const char *line,
                               size_t n)
{
    const struct lookback *l = class == ENTRY_IN_HAND && r->behind != NULL ? r->behind : r->all;
    if (l == NULL)
        return LINE_UNPLACED; /* ids ran backwards since the opening */
    if (take(r, class, line, n))
        return LINE_FOUND;
    return lookback_whole(l) ? LINE_MISSING : LINE_UNPLACED;
}

/* ---- What is cut ---- */

/* The size of the file without what follows its last line feed; -1: errno. */
static int64_t size_of_whole_lines(int fd, int64_t size)
{
    char chunk[CHUNK_BYTES];
    for (int64_t end = size; end > 0;) {
        int64_t begin = end > CHUNK_BYTES ? end - CHUNK_BYTES : 0;
        ssize_t n = pread(fd, chunk, (size_t)(end - begin), (off_t)begin);
        if (n <= 0)
            return -1;
        const char *newline = memrchr(chunk, '\n', (size_t)n);
        if (newline != NULL)
            return begin + (newline + 1 - chunk);
        end = begin;
    }
    return 0;
}

/* Whether the file's bytes from `at` on, up to its size, are the beginning of the line. */
static bool begins_so(int fd, int64_t at, int64_t size, const char *line, size_t n)
{
    char chunk[CHUNK_BYTES];
    if (size - at >= (int64_t)n)
        return false;
    while (at < size) {
        size_t wanted = size - at < CHUNK_BYTES ? (size_t)(size - at) : CHUNK_BYTES;
        ssize_t got = pread(fd, chunk, wanted, (off_t)at);
        if (got <= 0 || memcmp(chunk, line, (size_t)got) != 0)
            return false;
        line += got;
        at += got;
    }
    return true;
}

/* Syncs also when nothing is left to cut: the call may have been made before. */
static bool cut(int fd, int64_t size, bool sync)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return false;
    CRASH_POINT();
    if (st.st_size > size && ftruncate(fd, (off_t)size) != 0)
        return false;
    CRASH_POINT();
    return !sync || fdatasync(fd) == 0;
}

/* False: errno. */
static bool cut_torn(int fd, const char *line, size_t n, bool sync)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return false;
    int64_t whole = size_of_whole_lines(fd, st.st_size);
    if (whole < 0)
        return false;
    if (whole == st.st_size || !begins_so(fd, whole, st.st_size, line, n))
        return !sync || fdatasync(fd) == 0;
    diag_info("the last %" PRId64 " bytes of the log are a line that was cut short: it is written "
              "again",
              (int64_t)st.st_size - whole);
    return cut(fd, whole, sync);
}

bool reconcile_torn(const struct reconcile *r, const char *line, size_t n, bool sync)
{
    int fd = open_spoken_of(r);
    bool good = cut_torn(r->log, line, n, sync) && (fd < 0 || cut_torn(fd, line, n, sync));
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
    return good;
}

bool reconcile_covered(const struct reconcile *r, struct span notes, bool *all)
{
    int fd = open_spoken_of(r);
    struct stat st;
    *all = false;
    if (fd < 0)
        return errno == ENOENT;
    bool good = fstat(fd, &st) == 0 && prints_cover(notes,
                                                    &(struct prints_batch){.first = r->slot.first,
                                                                           .last = r->slot.last,
                                                                           .fd = fd,
                                                                           .from = r->slot.offset,
                                                                           .size = st.st_size},
                                                    all);
    int saved = errno;
    close(fd);
    errno = saved;
    return good;
}

bool reconcile_cut(const struct reconcile *r, bool sync)
{
    int fd = open_spoken_of(r);
    struct stat st;
    if (fd < 0)
        return errno == ENOENT;
    bool good = fstat(fd, &st) == 0;
    if (good && st.st_size > r->slot.offset)
        diag_warn(
            "another worker has taken the stream, and has written the batch in hand, too: %" PRId64
            " bytes of it are cut from %s",
            (int64_t)st.st_size - r->slot.offset, r->path);
    good = good && cut(fd, r->slot.offset, sync);
    int saved = errno;
    close(fd);
    errno = saved;
    return good;
}

void reconcile_end(struct reconcile *r)
{
    lookback_free(r->behind);
    lookback_free(r->all);
    r->behind = r->all = NULL;
}
