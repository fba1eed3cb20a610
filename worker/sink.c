/* sink.c: appends batches to the log, and says in the state file how far it is. */
#include "worker/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crash.h"
#include "common/diag.h"
#include "worker/logfile.h"
#include "worker/past.h"
#include "worker/reconcile.h"
#include "worker/state.h"

struct sink {
    const char *path; /* of the log; borrowed */
    char state_path[PATH_MAX];
    bool sync_batch; /* fsync state and log for every batch */
    int64_t look_back;
    int fd;             /* the log, for appending; locked */
    uint64_t dev, ino;  /* of fd */
    struct state state; /* what is on disk */
    char token[STATE_TOKEN_LEN + 1];
    struct reconcile reconcile;

    int64_t base;   /* size of the log without what the batch in hand has added since `done` */
    size_t done;    /* bytes of the batch in hand that lie before base */
    size_t written; /* bytes of the batch in hand that lie after base */
    bool noted;     /* the state file has the slot of the batch in hand: appending may begin */
    bool in_hand;   /* the batch of the slot may not be committed */
    bool fresh;     /* that batch is being written for the first time */
    bool late;      /* the path leads to another file: to be turned to before the next new batch */
    bool settled;   /* a last line that was cut short was seen to, since sink_begin() */
};

/* ---- Opening ---- */

static void say_where_it_begins(const struct sink *s, const struct stat *st)
{
    const struct state_slot *slot = &s->state.slot;
    static const char compared[] = "what Redis holds is compared with the last lines of the log";
    if (s->state.found == STATE_INVALID)
        diag_warn("%s.state has no valid slot: %s", s->path, compared);
    else if (s->state.found == STATE_OLD)
        diag_info("%s.state is of version 0.1.0: %s", s->path, compared);
    else if (s->state.found == STATE_NEW && st->st_size > 0)
        diag_info("%s has no state file: %s", s->path, compared);
    else if (s->state.found == STATE_VALID && !state_speaks_of(slot, st))
        diag_info("%s is not the file that was written last: lines go to its end", s->path);
    else if (st->st_size < slot->offset)
        diag_warn("%s has %jd bytes, but had %" PRId64 " before the last batch: it was truncated; "
                  "lines go to its end",
                  s->path, (intmax_t)st->st_size, slot->offset);
}

/* Takes the log as it is: its whole size is the base of what follows. */
static void rebase(struct sink *s, const struct stat *st)
{
    s->dev = st->st_dev;
    s->ino = st->st_ino;
    s->base = st->st_size;
    s->written = 0;
}

/* What can be wrong before anything is opened. */
static bool check_paths(struct sink *s, char *err, size_t errlen)
{
    struct stat st;
    if (snprintf(s->state_path, sizeof(s->state_path), "%s.state", s->path) >=
        (int)sizeof(s->state_path))
        snprintf(err, errlen, "the path of --output is too long: %s", s->path);
    else if (stat(s->path, &st) == 0 && !S_ISREG(st.st_mode))
        snprintf(err, errlen, "%s is not a regular file; give another --output", s->path);
    else
        return true;
    return false;
}

/* While a batch is in hand, its lines go to the file of its slot, whatever its name is. */
static bool stay_with_the_slot(struct sink *s, struct stat *st, char *err, size_t errlen)
{
    const struct state_slot *slot = &s->state.slot;
    int fd = -1;
    say_where_it_begins(s, st);
    if (s->in_hand && !state_speaks_of(slot, st))
        fd = logfile_open_renamed(s->path, slot->dev, slot->ino);
    if (fd >= 0) {
        close(s->fd);
        s->fd = fd;
        s->late = true;
        if (fstat(fd, st) != 0) {
            snprintf(err, errlen, "cannot look at what %s was: %m", s->path);
            return false;
        }
    }
    rebase(s, st);
    return true;
}

static bool open_files(struct sink *s, char *err, size_t errlen)
{
    struct stat st;
    if (!state_open(&s->state, s->state_path, err, errlen))
        return false;
    s->fd = logfile_open(s->path, s->sync_batch, &st);
    if (s->fd < 0) {
        snprintf(err, errlen, "cannot open %s for appending: %m; give another --output", s->path);
        return false;
    }
    if (!logfile_lock(s->fd, s->path, err, errlen))
        return false;
    if (s->state.found == STATE_VALID)
        memcpy(s->token, s->state.slot.token, sizeof(s->token));
    else
        state_new_token(s->token);
    s->in_hand = state_in_hand(&s->state.slot);
    return stay_with_the_slot(s, &st, err, errlen);
}

struct sink *sink_open(const char *path, bool sync_batch, int64_t look_back, char *err,
                       size_t errlen)
{
    struct sink *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        snprintf(err, errlen, "out of memory");
        return NULL;
    }
    s->path = path;
    s->sync_batch = sync_batch;
    s->look_back = look_back;
    s->fd = s->state.fd = -1;
    if (check_paths(s, err, errlen) && open_files(s, err, errlen))
        return s;
    sink_close(s);
    return NULL;
}

const char *sink_token(const struct sink *s)
{
    return s->token;
}

struct stream_id sink_last(const struct sink *s)
{
    return s->state.slot.last;
}

bool sink_in_hand(const struct sink *s, struct stream_id *first, struct stream_id *last)
{
    *first = s->state.slot.first;
    *last = s->state.slot.last;
    return s->in_hand;
}

int64_t sink_offset(const struct sink *s)
{
    return s->base;
}

/* ---- Slots ---- */

/* Also a slot whose sync has failed before. */
static bool sync_slot(struct sink *s)
{
    return !s->sync_batch || !s->state.dirty || state_sync(&s->state);
}

static bool write_slot(struct sink *s, const struct state_slot *slot)
{
    struct state_slot next = *slot;
    memcpy(next.token, s->token, sizeof(next.token));
    return state_write(&s->state, &next) && sync_slot(s);
}

/* A slot with no batch in hand. */
static bool write_idle_slot(struct sink *s, struct stream_id last)
{
    return write_slot(s, &(struct state_slot){.dev = s->dev,
                                              .ino = s->ino,
                                              .offset = s->base,
                                              .first = stream_id_next(last),
                                              .last = last});
}

bool sink_new_token(struct sink *s)
{
    state_new_token(s->token);
    return s->state.slot.gen == 0 || write_slot(s, &s->state.slot);
}

/* A log that has no byte yet has none of what Redis holds. */
static bool write_first_slot(struct sink *s, struct stream_id upto)
{
    bool none;
    return past_none(s->path, s->fd, &none) &&
           write_idle_slot(s, none ? (struct stream_id){0, 0} : upto);
}

/* ---- After an opening ---- */

bool sink_begin(struct sink *s, const struct stream_id *first, struct stream_id last)
{
    struct stat st;
    if (fstat(s->fd, &st) != 0)
        return false;
    rebase(s, &st);
    s->done = 0;
    s->noted = s->settled = s->fresh = false;
    if (first == NULL || stream_id_after(*first, s->state.slot.last))
        s->in_hand = false;
    if (s->late && !sink_reopen(s))
        return false;
    if (s->state.slot.gen == 0 && !write_first_slot(s, last))
        return false;
    reconcile_begin(&s->reconcile, s->path, s->look_back, s->fd, &s->state.slot);
    return first == NULL || reconcile_look(&s->reconcile, *first);
}

bool sink_surrender(struct sink *s, struct span notes)
{
    struct stat st;
    bool all = false;
    if (!s->in_hand)
        return true;
    reconcile_begin(&s->reconcile, s->path, s->look_back, s->fd, &s->state.slot);
    bool good = reconcile_covered(&s->reconcile, notes, &all);
    if (!good || !all)
        return good;
    if (!reconcile_cut(&s->reconcile, s->sync_batch) || fstat(s->fd, &st) != 0)
        return false;
    rebase(s, &st);
    s->done = 0;
    s->in_hand = !write_idle_slot(s, stream_id_previous(s->state.slot.first));
    return !s->in_hand;
}

enum entry_class sink_class(const struct sink *s, struct stream_id id)
{
    return reconcile_class(&s->reconcile, id);
}

enum line_found sink_find(struct sink *s, enum entry_class class, const char *line, size_t n)
{
    return reconcile_find(&s->reconcile, class, line, n);
}

/* ---- Writing ---- */

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
        good = write_slot(s, &(struct state_slot){.dev = s->dev,
                                                  .ino = s->ino,
                                                  .offset = s->base,
                                                  .first = b->first,
                                                  .last = b->last});
    else if (state_in_hand(slot) && (b->class == ENTRY_OLD || !slot_covers_the_end(s)))
        good = write_idle_slot(s, slot->last);
    s->noted = good && sync_slot(s);
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
    rebase(s, &st);
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
    rebase(s, st);
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
    return sink_reopen(s); /* the log may be another, too */
}

/* Makes sure that the next byte of the batch goes to the right place. */
static bool prepare(struct sink *s, const struct sink_batch *b)
{
    struct stat st;
    if (!state_in_place(&s->state, s->state_path) && !remake_state(s))
        return false;
    if (b->class == ENTRY_NEW && !s->fresh)
        s->in_hand = false; /* what comes before a new entry is committed */
    if (s->late && !s->in_hand && !sink_reopen(s))
        return false;
    if (fstat(s->fd, &st) != 0)
        return false;
    if (st.st_nlink == 0) {
        diag_warn("%s was deleted: it is made anew", s->path);
        if (!sink_reopen(s) || fstat(s->fd, &st) != 0)
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

void sink_confirm(struct sink *s)
{
    s->in_hand = false;
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

bool sink_reopen(struct sink *s)
{
    struct stat st;
    s->late = s->in_hand && !s->fresh;
    if (s->late)
        return true;
    int fd = logfile_open(s->path, s->sync_batch, &st);
    if (fd < 0)
        return false;
    bool same = s->dev == st.st_dev && s->ino == st.st_ino;
    if (same || !move_to(s, fd)) {
        int saved = errno;
        close(fd);
        errno = saved;
        return same;
    }
    rebase(s, &st);
    s->noted = false;
    s->reconcile.log = fd;
    CRASH_POINT();
    return true;
}

bool sink_sync(struct sink *s)
{
    return fdatasync(s->fd) == 0 && state_sync(&s->state);
}

void sink_close(struct sink *s)
{
    if (s == NULL)
        return;
    reconcile_end(&s->reconcile);
    if (s->fd >= 0 && close(s->fd) != 0)
        diag_error("closing %s: %m", s->path);
    state_close(&s->state);
    free(s);
}
