/* tail.c: finds what was written but not committed, and cuts it or keeps it. For sink.c. */
#include "worker/tail.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crash.h"
#include "common/diag.h"
#include "worker/logfile.h"

void tail_find(struct tail *t, const char *path, int log, const struct stat *st,
               const struct state_commit *last)
{
    struct stat found;
    t->fd = state_speaks_of(last, st) ? fcntl(log, F_DUPFD_CLOEXEC, 0)
                                      : logfile_open_renamed(path, last->dev, last->ino);
    if (t->fd < 0) {
        t->lost = errno;
        return;
    }
    /* Shorter: it was copied and cut, or is a new one with the number of one that is gone. */
    if (fstat(t->fd, &found) != 0 || !state_speaks_of(last, &found) || found.st_size < last->offset)
        t->lost = ENOENT;
    else
        t->size = found.st_size - last->offset;
    if (t->size == 0)
        tail_close(t);
}

static void say_kept(const struct tail *t)
{
    diag_warn("%" PRId64 " bytes after the last commit stay in the log: Redis does not deliver "
              "their entries again. If it was put back to an older copy, or --group or "
              "--consumer was changed, they may follow as new ones, and stand twice",
              t->size);
}

static void say_lost(const struct tail *t, const char *path)
{
    diag_warn("what was written last is not in the directory of %s any more, or cannot be "
              "opened (%s), and Redis delivers entries again: up to a batch of them may stand "
              "twice, there and here; rotate without olddir, and compress only with "
              "delaycompress",
              path, strerror(t->lost));
}

/* False: errno. */
static bool cut(const struct tail *t, int64_t offset, bool sync)
{
    CRASH_POINT();
    if (ftruncate(t->fd, offset) != 0)
        return false;
    /* The next commit moves the state to another file: nothing would cut this one again. */
    if (sync && fdatasync(t->fd) != 0)
        return false;
    CRASH_POINT();
    diag_info("%" PRId64 " bytes after the last commit are cut from the log: Redis has delivered "
              "their entries again",
              t->size);
    return true;
}

bool tail_settle(struct tail *t, const char *path, const struct state_commit *last, bool sync,
                 bool again)
{
    if (t->lost != 0 && again)
        say_lost(t, path);
    t->lost = 0;
    if (t->fd < 0)
        return true;
    if (again && !cut(t, last->offset, sync))
        return false;
    if (!again)
        say_kept(t);
    tail_close(t);
    return true;
}

void tail_close(struct tail *t)
{
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
}
