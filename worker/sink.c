/* sink.c: opens the log and its state, and knows what an opening of the stream finds in them. */
#include "worker/sink-internal.h"

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

void sink_rebase(struct sink *s, const struct stat *st)
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
    else
        errno = ENOENT;
    if (fd < 0 && !logfile_is_gone(errno)) {
        snprintf(err, errlen, "cannot open what %s was when its last batch was written: %m",
                 s->path);
        return false;
    }
    if (fd >= 0) {
        close(s->fd);
        s->fd = fd;
        s->late = true;
        if (fstat(fd, st) != 0) {
            snprintf(err, errlen, "cannot look at what %s was: %m", s->path);
            return false;
        }
    }
    sink_rebase(s, st);
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

bool sink_sync_slot(struct sink *s)
{
    return !s->sync_batch || !s->state.dirty || state_sync(&s->state);
}

bool sink_write_slot(struct sink *s, const struct state_slot *slot)
{
    struct state_slot next = *slot;
    memcpy(next.token, s->token, sizeof(next.token));
    return state_write(&s->state, &next) && sink_sync_slot(s);
}

bool sink_write_idle_slot(struct sink *s, struct stream_id last)
{
    return sink_write_slot(s, &(struct state_slot){.dev = s->dev,
                                                   .ino = s->ino,
                                                   .offset = s->base,
                                                   .first = stream_id_next(last),
                                                   .last = last});
}

bool sink_new_token(struct sink *s)
{
    state_new_token(s->token);
    return s->state.slot.gen == 0 || sink_write_slot(s, &s->state.slot);
}

/* A log that has no byte yet has none of what Redis holds. */
static bool write_first_slot(struct sink *s, struct stream_id upto)
{
    bool none;
    return past_none(s->path, s->fd, &none) &&
           sink_write_idle_slot(s, none ? (struct stream_id){0, 0} : upto);
}

/* ---- After an opening ---- */

bool sink_begin(struct sink *s, const struct stream_id *first, struct stream_id last)
{
    struct stat st;
    if (fstat(s->fd, &st) != 0)
        return false;
    sink_rebase(s, &st);
    s->done = 0;
    s->noted = s->settled = s->fresh = false;
    if (first == NULL || stream_id_after(*first, s->state.slot.last))
        s->in_hand = false;
    sink_turn_late(s);
    if (s->state.slot.gen == 0 && !write_first_slot(s, last))
        return false;
    reconcile_begin(&s->reconcile, s->path, s->look_back, s->fd, &s->state.slot);
    return first == NULL || reconcile_look(&s->reconcile, *first, s->sync_batch);
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
    sink_rebase(s, &st);
    s->done = 0;
    s->in_hand = !sink_write_idle_slot(s, stream_id_previous(s->state.slot.first));
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

/* ---- The end ---- */

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
