/* sink-write.c: appends batches to the log, after their slot, and turns to other files. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/crash.h"
#include "common/diag.h"
#include "worker/logfile.h"
#include "worker/sink-internal.h"

/* ---- Other files ---- */

/* Takes off the log what an unfinished batch has appended. */
static bool roll_back(struct sink *s)
{
    struct stat st;
    if (s->written == 0)
        return true;
    if (fstat(s->fd, &st) != 0)
        return false;
    CRASH_POINT();
    /* A size of somebody else's making is left alone: cutting could take what is not ours. */
    if (st.st_size == s->base + (int64_t)s->written && ftruncate(s->fd, (off_t)s->base) != 0)
        return false;
    CRASH_POINT();
    s->written = 0;
    return true;
}

/* The locked file takes the place of the log, which is let go only then. */
static bool move_to(struct sink *s, int fd)
{
    static struct diag_limit limit;
    char err[2 * PATH_MAX + 200];
    if (!logfile_lock(fd, s->path, err, sizeof(err))) {
        diag_warn_limited(&limit, "lines go on to the file that %s was: %s", s->path, err);
        return false;
    }
    if (!roll_back(s) || (s->sync_batch && fdatasync(s->fd) != 0))
        return false;
    close(s->fd);
    s->fd = fd;
    return true;
}

static bool turn(struct sink *s)
{
    struct stat st;
    int fd = logfile_open(s->path, s->sync_batch, &st);
    if (fd < 0)
        return false;
    bool same = s->dev == st.st_dev && s->ino == st.st_ino;
    if (same || !move_to(s, fd)) {
        int saved = errno;
        close(fd);
        errno = saved;
        s->late = s->late && !same;
        return same;
    }
    sink_rebase(s, &st);
    s->noted = s->late = false;
    s->reconcile.log = fd;
    CRASH_POINT();
    return true;
}

void sink_turn_late(struct sink *s)
{
    static struct diag_limit limit;
    if (s->late && !s->in_hand && !turn(s))
        diag_warn_limited(&limit, "lines go on to the file that %s was: %m", s->path);
}

bool sink_reopen(struct sink *s)
{
    s->late = s->in_hand && !s->fresh;
    return s->late || turn(s);
}

/* ---- Before the first line ---- */

/* Whether lines that are appended now lie behind the slot's offset. */
static bool slot_covers_the_end(const struct sink *s)
{
    const struct state_slot *slot = &s->state.slot;
    return slot->dev == s->dev && slot->ino == s->ino && slot->offset <= s->base;
}

/* Makes the state say where the batch begins, before its first line. A batch that the state has in
 * hand already keeps its slot. */
static bool note(struct sink *s, const struct sink_batch *b)
{
    const struct state_slot *slot = &s->state.slot;
    bool good = true;
    if (s->noted)
        return true;
    if (b->class == ENTRY_NEW)
        good = sink_write_slot(s, &(struct state_slot){.dev = s->dev,
                                                       .ino = s->ino,
                                                       .offset = s->base,
                                                       .first = b->first,
                                                       .last = b->last});
    else if (state_in_hand(slot) && (b->class == ENTRY_OLD || !slot_covers_the_end(s)))
        good = sink_write_idle_slot(s, slot->last);
    s->noted = good && sink_sync_slot(s);
    s->in_hand = state_in_hand(slot);
    s->fresh = b->class == ENTRY_NEW;
    return s->noted;
}

/* Before the first line: sees to a line that was cut short. */
static bool settle(struct sink *s, const struct sink_batch *b)
{
    const char *end = memchr(b->lines->data, '\n', b->lines->len);
    size_t n = (size_t)(end + 1 - b->lines->data);
    struct stat st;
    if (!s->settled && b->class != ENTRY_NEW &&
        !reconcile_torn(&s->reconcile, b->lines->data, n, s->sync_batch))
        return false;
    s->settled = true;
    if (!logfile_end_line(s->fd) || fstat(s->fd, &st) != 0)
        return false;
    sink_rebase(s, &st);
    return true;
}

/* Somebody else changed the log's size. Whole lines of the batch are not written again; a line that
 * was not whole is. */
static void follow_size(struct sink *s, const struct buf *lines, const struct stat *st)
{
    static struct diag_limit limit;
    size_t at = s->done + s->written;
    const char *end = at == 0 ? NULL : memrchr(lines->data, '\n', at);
    diag_warn_limited(&limit,
                      "%s has %jd bytes, not %" PRId64 ": somebody else %s it; lines go to its end",
                      s->path, (intmax_t)st->st_size, s->base + (int64_t)s->written,
                      st->st_size < s->base ? "truncated" : "wrote to");
    s->done = end == NULL ? 0 : (size_t)(end + 1 - lines->data);
    /* The lines that follow lie before the slot's offset. */
    if (st->st_size < s->state.slot.offset)
        s->noted = false;
    sink_rebase(s, st);
}

/* Writes the last slot into the new state file. */
static bool write_anew(struct sink *s, struct state *fresh)
{
    struct state_slot slot = s->state.slot;
    if (fresh->slot.gen < slot.gen)
        fresh->slot.gen = slot.gen;
    return (slot.gen == 0 || state_write(fresh, &slot)) &&
           (!s->sync_batch || (state_sync(fresh) && logfile_sync_directory(s->state_path)));
}

/* Somebody has removed or replaced the state file. Without it a crash would leave nothing to
 * compare by. */
static bool remake_state(struct sink *s)
{
    static struct diag_limit limit;
    struct state fresh;
    char err[PATH_MAX + 200];
    if (!state_open(&fresh, s->state_path, err, sizeof(err))) {
        if (errno == ENOENT)
            return true; /* the directory was moved, and log and state with it */
        diag_warn_limited(&limit, "the state file was removed or replaced, and %s", err);
        return false;
    }
    CRASH_POINT();
    if (!write_anew(s, &fresh)) {
        int saved = errno;
        state_close(&fresh);
        errno = saved;
        return false;
    }
    state_close(&s->state);
    s->state = fresh;
    diag_warn("%s was removed or replaced: it is made anew", s->state_path);
    CRASH_POINT();
    s->late = true; /* the log may be another, too */
    return true;
}

/* Makes sure that the next byte of the batch goes to the right place. */
static bool prepare(struct sink *s, const struct sink_batch *b)
{
    struct stat st;
    if (!state_in_place(&s->state, s->state_path) && !remake_state(s))
        return false;
    if (b->class == ENTRY_NEW && !s->fresh)
        s->in_hand = false; /* what comes before a new entry is committed */
    sink_turn_late(s);
    if (fstat(s->fd, &st) != 0)
        return false;
    if (st.st_nlink == 0) {
        diag_warn("%s was deleted: it is made anew", s->path);
        if (!turn(s) || fstat(s->fd, &st) != 0)
            return false;
    }
    if (st.st_size != s->base + (int64_t)s->written)
        follow_size(s, b->lines, &st);
    return s->written > 0 || (settle(s, b) && note(s, b));
}

/* In a test build every write stops half-way, with a crash point after it. */
static size_t part(size_t n)
{
#ifdef CRASH_POINTS
    return n / 2 + 1;
#else
    return n;
#endif
}

static bool append(struct sink *s, const struct buf *lines)
{
    size_t at;
    while ((at = s->done + s->written) < lines->len) {
        ssize_t n = write(s->fd, lines->data + at, part(lines->len - at));
        CRASH_POINT();
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        s->written += (size_t)n;
    }
    return true;
}

/* After a failed fdatasync(2) the kernel may have dropped the pages: the batch is written again. */
static bool sync_lines(struct sink *s)
{
    if (fdatasync(s->fd) == 0)
        return true;
    int saved = errno;
    roll_back(s);
    errno = saved;
    return false;
}

bool sink_write(struct sink *s, const struct sink_batch *b)
{
    if (!prepare(s, b) || !append(s, b->lines) || (s->sync_batch && !sync_lines(s)))
        return false;
    /* Nothing takes them back from here on: Redis may be told. */
    s->base += (int64_t)s->written;
    s->written = s->done = 0;
    s->noted = s->fresh = false;
    CRASH_POINT();
    return true;
}

void sink_confirm(struct sink *s, struct stream_id last)
{
    s->in_hand = s->in_hand && stream_id_after(s->state.slot.last, last);
}
