#include "worker/sink.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crash.h"
#include "common/diag.h"

/* ---- Opening ---- */

/* The directory of the path, opened; -1 and errno. */
static int open_directory(const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof(copy), "%s", path);
    return open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool sync_directory(const char *path)
{
    int fd = open_directory(path);
    bool synced = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return synced;
}

/* Opens what has the path now, and makes it if need be. -1 and errno. */
static int open_log(const struct sink *w, struct stat *st)
{
    int fd = open(w->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    CRASH_POINT();
    if (fd < 0)
        return -1;
    if (fstat(fd, st) == 0) {
        errno = EINVAL; /* a device or a pipe: cannot be cut, and offsets mean nothing */
        if (S_ISREG(st->st_mode) && (!w->sync_batch || sync_directory(w->path)))
            return fd;
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static bool is_file_of(const struct state_commit *c, const struct stat *st)
{
    return c->gen > 0 && c->dev == st->st_dev && c->ino == st->st_ino;
}

/* What is in the page cache survives the process, not the machine, unless it was fsynced. */
static bool tail_is_known(const struct sink *w)
{
    return w->state.last.sync || strcmp(w->state.last.boot, w->boot) == 0;
}

/* The file of the last commit under another name in the log's directory: it was renamed, and the
 * worker died before it turned to a new one. -1 and errno. */
static int open_renamed(const struct sink *w)
{
    int dir_fd = open_directory(w->path), fd = -1;
    DIR *dir = dir_fd < 0 ? NULL : fdopendir(dir_fd);
    int why = ENOENT;
    struct dirent *entry;
    struct stat st;
    if (dir == NULL) {
        why = errno;
        if (dir_fd >= 0)
            close(dir_fd);
        errno = why;
        return -1;
    }
    while (fd < 0 && (entry = readdir(dir)) != NULL) {
        if (entry->d_ino != w->state.last.ino)
            continue;
        fd = openat(dir_fd, entry->d_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0) {
            why = errno;
        } else if (fstat(fd, &st) != 0 || !is_file_of(&w->state.last, &st)) {
            close(fd);
            fd = -1;
        }
    }
    closedir(dir);
    errno = why;
    return fd;
}

static void say_where_it_begins(const struct sink *w, const struct stat *st)
{
    const struct state_commit *last = &w->state.last;
    if (w->state.found == STATE_INVALID)
        diag_warn("%s.state has no valid slot: all of %s is taken as committed", w->path, w->path);
    else if (w->state.found == STATE_NEW && st->st_size > 0)
        diag_info("%s has no state file: all of it is taken as committed", w->path);
    else if (w->state.found == STATE_VALID && !is_file_of(last, st))
        diag_info("%s is not the file that was written last: lines go to its end", w->path);
    else if (st->st_size < last->offset)
        diag_warn("%s has %jd bytes, but %" PRId64
                  " were committed: it was truncated; lines go to its end",
                  w->path, (intmax_t)st->st_size, last->offset);
    else if (st->st_size > last->offset && w->tail_fd < 0 && w->state.found == STATE_VALID)
        diag_warn("%s has %jd bytes after the last commit, which was before the machine's last "
                  "boot and without --fsync batch: they are taken as committed",
                  w->path, (intmax_t)(st->st_size - last->offset));
}

/* Finds out whether the last run left a tail that it did not commit. */
static void find_tail(struct sink *w, const struct stat *log)
{
    struct stat st = *log;
    if (w->state.found != STATE_VALID || !tail_is_known(w))
        return;
    int fd = is_file_of(&w->state.last, log) ? fcntl(w->fd, F_DUPFD_CLOEXEC, 0) : open_renamed(w);
    if (fd < 0) {
        w->lost = errno;
        return;
    }
    if (fstat(fd, &st) != 0 || st.st_size <= w->state.last.offset) {
        /* Shorter: it was copied and cut, or is a new one with the number of one that is gone. */
        if (st.st_size < w->state.last.offset)
            w->lost = ENOENT;
        close(fd);
        return;
    }
    w->tail_fd = fd;
    w->tail_size = st.st_size - w->state.last.offset;
}

/* Takes the log as it is: its whole size is the base of what follows. */
static void rebase(struct sink *w, const struct stat *st)
{
    w->dev = st->st_dev;
    w->ino = st->st_ino;
    w->base = st->st_size;
    w->written = 0;
    w->noted = is_file_of(&w->state.last, st) && w->state.last.offset == w->base &&
               strcmp(w->state.last.boot, w->boot) == 0 &&
               strcmp(w->state.last.lineage, w->lineage) == 0;
}

bool sink_open(struct sink *w, const char *path, bool sync_batch, char *err, size_t errlen)
{
    struct stat st;
    *w = (struct sink){.path = path, .sync_batch = sync_batch, .fd = -1, .tail_fd = -1};
    w->state.fd = -1;
    if (snprintf(w->state_path, sizeof(w->state_path), "%s.state", path) >=
        (int)sizeof(w->state_path)) {
        snprintf(err, errlen, "the path of --output is too long: %s", path);
        return false;
    }
    if (!state_boot_id(w->boot)) {
        snprintf(err, errlen, "cannot read /proc/sys/kernel/random/boot_id: %s; is /proc mounted?",
                 strerror(errno));
        return false;
    }
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        snprintf(err, errlen, "%s is not a regular file; give another --output", path);
        return false;
    }
    if (!state_open(&w->state, w->state_path, err, errlen))
        return false;
    w->fd = open_log(w, &st);
    if (w->fd < 0) {
        snprintf(err, errlen, "cannot open %s for appending: %s; give another --output", path,
                 strerror(errno));
        state_close(&w->state);
        return false;
    }
    w->id = w->state.last.id;
    memcpy(w->lineage, w->state.last.lineage, sizeof(w->lineage));
    rebase(w, &st);
    find_tail(w, &st);
    say_where_it_begins(w, &st);
    return true;
}

/* ---- Before the first batch ---- */

static void forget_tail(struct sink *w)
{
    if (w->tail_fd >= 0)
        close(w->tail_fd);
    w->tail_fd = -1;
}

static void keep_tail(struct sink *w)
{
    if (w->tail_fd >= 0)
        diag_warn("%" PRId64 " bytes after the last commit stay in the log: Redis does not deliver "
                  "their entries again. If it was put back to an older copy, or --group or "
                  "--consumer was changed, they may follow as new ones, and stand twice",
                  w->tail_size);
    forget_tail(w);
}

bool sink_lineage(struct sink *w, const char *lineage)
{
    if (strcmp(w->lineage, lineage) == 0)
        return true;
    keep_tail(w);
    w->lost = 0;
    w->id = (struct stream_id){0, 0};
    memcpy(w->lineage, lineage, STATE_TOKEN_LEN + 1);
    w->noted = false;
    return false;
}

/* The tail of a file that cannot be found can neither be seen nor cut. */
static void say_what_is_lost(struct sink *w, bool again)
{
    if (w->lost != 0 && again)
        diag_warn("what was written last is not in the directory of %s any more, or cannot be "
                  "opened (%s), and Redis delivers entries again: up to a batch of them may stand "
                  "twice, there and here; rotate without olddir, and compress only with "
                  "delaycompress",
                  w->path, strerror(w->lost));
    w->lost = 0;
}

bool sink_settle(struct sink *w, bool again)
{
    struct stat st;
    say_what_is_lost(w, again);
    if (w->tail_fd < 0)
        return true;
    if (!again) {
        keep_tail(w);
        return true;
    }
    CRASH_POINT();
    if (ftruncate(w->tail_fd, w->state.last.offset) != 0 || fstat(w->fd, &st) != 0)
        return false;
    /* The next commit moves the state to another file: nothing would cut this one again. */
    if (w->sync_batch && fdatasync(w->tail_fd) != 0)
        return false;
    CRASH_POINT();
    diag_info("%" PRId64 " bytes after the last commit are cut from the log: Redis has delivered "
              "their entries again",
              w->tail_size);
    forget_tail(w);
    rebase(w, &st);
    return true;
}

/* ---- Committing ---- */

static bool write_state(struct sink *w, struct stream_id id)
{
    struct state_commit next = {.dev = w->dev,
                                .ino = w->ino,
                                .offset = w->base + (int64_t)w->written,
                                .id = id,
                                .sync = w->sync_batch};
    memcpy(next.lineage, w->lineage, sizeof(next.lineage));
    memcpy(next.boot, w->boot, sizeof(next.boot));
    return state_write(&w->state, &next);
}

/* Ends a line that somebody left open, so that the next one stands alone. */
static bool close_line(struct sink *w)
{
    char last = '\n';
    if (w->base > 0 && pread(w->fd, &last, 1, (off_t)w->base - 1) < 0)
        return false;
    if (last == '\n')
        return true;
    if (write(w->fd, "\n", 1) != 1)
        return false;
    CRASH_POINT();
    w->base++;
    return true;
}

/* Commits the log's present size, so that from now on a tail of this file can be told from what was
 * there before. */
static bool note(struct sink *w)
{
    if (w->noted)
        return true;
    if (!close_line(w) || (w->sync_batch && fdatasync(w->fd) != 0))
        return false;
    if (!write_state(w, w->id) || (w->sync_batch && !state_sync(&w->state)))
        return false;
    w->noted = true;
    return true;
}

/* Somebody else changed the log's size. What was written of the batch is not written again, but for
 * the line that was not whole. */
static void follow_size(struct sink *w, const struct buf *lines, const struct stat *st)
{
    static struct diag_limit limit;
    size_t at = w->done + w->written;
    const char *end = at == 0 ? NULL : memrchr(lines->data, '\n', at);
    diag_warn_limited(&limit,
                      "%s has %jd bytes, not %" PRId64 ": somebody else %s it; lines go to its end",
                      w->path, (intmax_t)st->st_size, w->base + (int64_t)w->written,
                      st->st_size < w->base ? "truncated" : "wrote to");
    w->done = end == NULL ? 0 : (size_t)(end + 1 - lines->data);
    rebase(w, st);
}

/* The same state in a new file, which says what the old one said. */
static bool write_anew(struct sink *w, struct state *fresh)
{
    struct state_commit last = w->state.last;
    struct stat st;
    if (fstat(w->fd, &st) != 0)
        return false;
    /* What others have written meanwhile, another worker perhaps, is never cut. */
    if (is_file_of(&last, &st) && st.st_size != w->base + (int64_t)w->written)
        last.offset = st.st_size;
    if (fresh->last.gen < last.gen)
        fresh->last.gen = last.gen;
    return (last.gen == 0 || state_write(fresh, &last)) &&
           (!w->sync_batch || (state_sync(fresh) && sync_directory(w->state_path)));
}

/* Somebody has removed or replaced the state file: without it a crash would put a batch into the
 * log twice, and its lock keeps nobody out. */
static bool remake_state(struct sink *w)
{
    static struct diag_limit limit;
    struct state fresh;
    char err[PATH_MAX + 200];
    if (!state_open(&fresh, w->state_path, err, sizeof(err))) {
        int saved = errno;
        if (saved == ENOENT)
            return true; /* the directory was moved, and log and state with it */
        diag_warn_limited(&limit, "the state file was removed or replaced, and %s", err);
        errno = saved;
        return false;
    }
    CRASH_POINT();
    if (!write_anew(w, &fresh)) {
        int saved = errno;
        state_close(&fresh);
        errno = saved;
        return false;
    }
    state_close(&w->state);
    w->state = fresh;
    diag_warn("%s was removed or replaced: it is made anew", w->state_path);
    CRASH_POINT();
    return sink_reopen(w); /* the log may be another, too */
}

/* Makes sure that the next byte of the batch goes to the right place. */
static bool prepare(struct sink *w, const struct buf *lines)
{
    struct stat st;
    if (!state_in_place(&w->state, w->state_path) && !remake_state(w))
        return false;
    if (fstat(w->fd, &st) != 0)
        return false;
    if (st.st_nlink == 0) {
        diag_warn("%s was deleted: it is made anew", w->path);
        if (!sink_reopen(w) || fstat(w->fd, &st) != 0)
            return false;
    }
    if (st.st_size != w->base + (int64_t)w->written)
        follow_size(w, lines, &st);
    return w->written > 0 || note(w);
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

static bool append(struct sink *w, const struct buf *lines)
{
    size_t at;
    while ((at = w->done + w->written) < lines->len) {
        ssize_t n = write(w->fd, lines->data + at, part(lines->len - at));
        CRASH_POINT();
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        w->written += (size_t)n;
    }
    return true;
}

/* After a failed fdatasync(2) the kernel may have dropped the pages: the batch is written again. */
static bool sync_lines(struct sink *w)
{
    if (fdatasync(w->fd) == 0)
        return true;
    int saved = errno;
    sink_rollback(w);
    errno = saved;
    return false;
}

bool sink_commit(struct sink *w, const struct buf *lines, struct stream_id id)
{
    if (!prepare(w, lines) || !append(w, lines) || (w->sync_batch && !sync_lines(w)) ||
        !write_state(w, id))
        return false;
    w->base += (int64_t)w->written;
    w->done += w->written;
    w->written = 0;
    w->id = id;
    CRASH_POINT();
    if (w->sync_batch && !state_sync(&w->state))
        return false;
    w->done = 0;
    return true;
}

int64_t sink_offset(const struct sink *s)
{
    return s->base;
}

bool sink_rollback(struct sink *w)
{
    struct stat st;
    if (w->written == 0)
        return true;
    if (fstat(w->fd, &st) != 0)
        return false;
    CRASH_POINT();
    /* A size of somebody else's making is left alone: cutting could take what is not ours. */
    if (st.st_size == w->base + (int64_t)w->written && ftruncate(w->fd, (off_t)w->base) != 0)
        return false;
    CRASH_POINT();
    w->written = 0;
    return true;
}

bool sink_reopen(struct sink *w)
{
    struct stat new;
    int fd = open_log(w, &new);
    if (fd < 0)
        return false;
    if (w->dev == new.st_dev && w->ino == new.st_ino) {
        close(fd);
        return true;
    }
    if (!sink_rollback(w) || (w->sync_batch && fdatasync(w->fd) != 0)) {
        int saved = errno;
        close(fd);
        errno = saved;
        return false;
    }
    close(w->fd);
    w->fd = fd;
    rebase(w, &new);
    CRASH_POINT();
    /* With a tail undecided, the state must go on speaking of it; else a failure here is made good
     * before the next line. */
    if (w->tail_fd < 0 && w->lineage[0] != '\0')
        note(w);
    return true;
}

bool sink_sync(struct sink *w)
{
    return fdatasync(w->fd) == 0 && state_sync(&w->state);
}

void sink_close(struct sink *w)
{
    forget_tail(w);
    if (w->fd >= 0 && close(w->fd) != 0)
        diag_error("closing %s: %s", w->path, strerror(errno));
    w->fd = -1;
    state_close(&w->state);
}
