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
#include "worker/state.h"
#include "worker/tail.h"

struct sink {
    const char *path; /* of the log; borrowed */
    char state_path[PATH_MAX];
    bool sync_batch;    /* fsync log and state in every commit */
    int fd;             /* the log, for appending; locked */
    uint64_t dev, ino;  /* of fd */
    struct state state; /* what is on disk */
    struct tail tail;   /* what an earlier run has left */
    char boot[STATE_TOKEN_LEN + 1];

    struct stream_id id;               /* largest id that is handled; 0-0 at first */
    char lineage[STATE_TOKEN_LEN + 1]; /* of id; empty: none is known yet */
    int64_t base;   /* size of the log without what the batch in hand has added since `done` */
    size_t done;    /* bytes of the batch in hand that lie before base */
    size_t written; /* bytes of the batch in hand that lie after base */
    bool noted;     /* the state file says that base bytes of this very file are committed:
                       appending may begin */
};

/* ---- Opening ---- */

static void say_where_it_begins(const struct sink *s, const struct stat *st)
{
    const struct state_commit *last = &s->state.last;
    if (s->state.found == STATE_INVALID)
        diag_warn("%s.state has no valid slot: all of %s is taken as committed", s->path, s->path);
    else if (s->state.found == STATE_NEW && st->st_size > 0)
        diag_info("%s has no state file: all of it is taken as committed", s->path);
    else if (s->state.found == STATE_VALID && !state_speaks_of(last, st))
        diag_info("%s is not the file that was written last: lines go to its end", s->path);
    else if (st->st_size < last->offset)
        diag_warn("%s has %jd bytes, but %" PRId64
                  " were committed: it was truncated; lines go to its end",
                  s->path, (intmax_t)st->st_size, last->offset);
    else if (st->st_size > last->offset && s->tail.fd < 0 && s->state.found == STATE_VALID)
        diag_warn("%s has %jd bytes after the last commit, which was before the machine's last "
                  "boot and without --fsync batch: they are taken as committed",
                  s->path, (intmax_t)(st->st_size - last->offset));
}

/* Takes the log as it is: its whole size is the base of what follows. */
static void rebase(struct sink *s, const struct stat *st)
{
    s->dev = st->st_dev;
    s->ino = st->st_ino;
    s->base = st->st_size;
    s->written = 0;
    s->noted = state_speaks_of(&s->state.last, st) && s->state.last.offset == s->base &&
               strcmp(s->state.last.boot, s->boot) == 0 &&
               strcmp(s->state.last.lineage, s->lineage) == 0;
}

/* What can be wrong before anything is opened. */
static bool check_paths(struct sink *s, char *err, size_t errlen)
{
    struct stat st;
    if (snprintf(s->state_path, sizeof(s->state_path), "%s.state", s->path) >=
        (int)sizeof(s->state_path))
        snprintf(err, errlen, "the path of --output is too long: %s", s->path);
    else if (!state_boot_id(s->boot))
        snprintf(err, errlen, "cannot read /proc/sys/kernel/random/boot_id: %m; is /proc mounted?");
    else if (stat(s->path, &st) == 0 && !S_ISREG(st.st_mode))
        snprintf(err, errlen, "%s is not a regular file; give another --output", s->path);
    else
        return true;
    return false;
}

static bool open_files(struct sink *s, char *err, size_t errlen)
{
    const struct state_commit *last = &s->state.last;
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
    s->id = last->id;
    memcpy(s->lineage, last->lineage, sizeof(s->lineage));
    rebase(s, &st);
    /* What is in the page cache survives the process, not the machine, unless it was fsynced. */
    if (s->state.found == STATE_VALID && (last->sync || strcmp(last->boot, s->boot) == 0))
        tail_find(&s->tail, s->path, s->fd, &st, last);
    say_where_it_begins(s, &st);
    return true;
}

struct sink *sink_open(const char *path, bool sync_batch, char *err, size_t errlen)
{
    struct sink *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        snprintf(err, errlen, "out of memory");
        return NULL;
    }
    s->path = path;
    s->sync_batch = sync_batch;
    s->fd = s->state.fd = s->tail.fd = -1;
    if (check_paths(s, err, errlen) && open_files(s, err, errlen))
        return s;
    sink_close(s);
    return NULL;
}

struct stream_id sink_id(const struct sink *s)
{
    return s->id;
}

const char *sink_lineage(const struct sink *s)
{
    return s->lineage;
}

int64_t sink_offset(const struct sink *s)
{
    return s->base;
}

/* ---- Before the first batch ---- */

bool sink_adopt(struct sink *s, const char *lineage)
{
    if (strcmp(s->lineage, lineage) == 0)
        return true;
    tail_settle(&s->tail, s->path, &s->state.last, false, false);
    s->id = (struct stream_id){0, 0};
    memcpy(s->lineage, lineage, STATE_TOKEN_LEN + 1);
    s->noted = false;
    return false;
}

bool sink_settle(struct sink *s, bool again)
{
    struct stat st;
    bool cuts = again && s->tail.fd >= 0;
    if (!tail_settle(&s->tail, s->path, &s->state.last, s->sync_batch, again))
        return false;
    if (cuts && fstat(s->fd, &st) == 0)
        rebase(s, &st);
    return true;
}

/* ---- Committing ---- */

static bool write_state(struct sink *s, struct stream_id id)
{
    struct state_commit next = {.dev = s->dev,
                                .ino = s->ino,
                                .offset = s->base + (int64_t)s->written,
                                .id = id,
                                .sync = s->sync_batch};
    memcpy(next.lineage, s->lineage, sizeof(next.lineage));
    memcpy(next.boot, s->boot, sizeof(next.boot));
    return state_write(&s->state, &next);
}

/* Ends a line that somebody left open, so that the next one stands alone. */
static bool close_line(struct sink *s)
{
    char last = '\n';
    if (s->base > 0 && pread(s->fd, &last, 1, (off_t)s->base - 1) < 0)
        return false;
    if (last == '\n')
        return true;
    if (write(s->fd, "\n", 1) != 1)
        return false;
    CRASH_POINT();
    s->base++;
    return true;
}

/* Commits the log's present size. From now on a tail of this file can be told from what was there
 * before. */
static bool note(struct sink *s)
{
    if (s->noted)
        return true;
    if (!close_line(s) || (s->sync_batch && fdatasync(s->fd) != 0))
        return false;
    if (!write_state(s, s->id) || (s->sync_batch && !state_sync(&s->state)))
        return false;
    s->noted = true;
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
    rebase(s, st);
}

/* Writes the last commit into the new state file. */
static bool write_anew(struct sink *s, struct state *fresh)
{
    struct state_commit last = s->state.last;
    struct stat st;
    if (fstat(s->fd, &st) != 0)
        return false;
    /* What others have written meanwhile, another worker perhaps, is never cut. */
    if (state_speaks_of(&last, &st) && st.st_size != s->base + (int64_t)s->written)
        last.offset = st.st_size;
    if (fresh->last.gen < last.gen)
        fresh->last.gen = last.gen;
    return (last.gen == 0 || state_write(fresh, &last)) &&
           (!s->sync_batch || (state_sync(fresh) && logfile_sync_directory(s->state_path)));
}

/* Somebody has removed or replaced the state file. Without it a crash would put a batch into the
 * log twice. */
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
static bool prepare(struct sink *s, const struct buf *lines)
{
    struct stat st;
    if (!state_in_place(&s->state, s->state_path) && !remake_state(s))
        return false;
    if (fstat(s->fd, &st) != 0)
        return false;
    if (st.st_nlink == 0) {
        diag_warn("%s was deleted: it is made anew", s->path);
        if (!sink_reopen(s) || fstat(s->fd, &st) != 0)
            return false;
    }
    if (st.st_size != s->base + (int64_t)s->written)
        follow_size(s, lines, &st);
    return s->written > 0 || note(s);
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
    sink_rollback(s);
    errno = saved;
    return false;
}

bool sink_commit(struct sink *s, const struct buf *lines, struct stream_id id)
{
    if (!prepare(s, lines) || !append(s, lines) || (s->sync_batch && !sync_lines(s)) ||
        !write_state(s, id))
        return false;
    s->base += (int64_t)s->written;
    s->done += s->written;
    s->written = 0;
    s->id = id;
    CRASH_POINT();
    if (s->sync_batch && !state_sync(&s->state))
        return false;
    s->done = 0;
    return true;
}

bool sink_rollback(struct sink *s)
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
    if (!sink_rollback(s) || (s->sync_batch && fdatasync(s->fd) != 0))
        return false;
    close(s->fd);
    s->fd = fd;
    return true;
}

bool sink_reopen(struct sink *s)
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
        return same;
    }
    rebase(s, &st);
    CRASH_POINT();
    /* With a tail undecided, the state must go on speaking of it; else a failure here is made good
     * before the next line. */
    if (s->tail.fd < 0 && s->lineage[0] != '\0')
        note(s);
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
    tail_close(&s->tail);
    if (s->fd >= 0 && close(s->fd) != 0)
        diag_error("closing %s: %m", s->path);
    state_close(&s->state);
    free(s);
}
