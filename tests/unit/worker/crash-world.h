/* crash-world.h: workers that die at their k-th crash point, beside a stream in shared memory that
 * outlives them as Redis would. For the crash tests of the sink; they are compiled with
 * -DCRASH_POINTS.
 *
 * A worker here reads, asks the sink, writes and commits as consumer.c, batch.c and commit.c do. A
 * commit is one step, as the script is in Redis. */
#ifndef TESTS_UNIT_WORKER_CRASH_WORLD_H
#define TESTS_UNIT_WORKER_CRASH_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/crash.h"
#include "worker/prints.h"
#include "worker/sink.h"
#include "worker/state.h"

#define ENTRIES   12 /* entry i has the id i-0; 0 is not used */
#define BATCH     4
#define LOGS      2
#define LINE      150 /* bytes; the state file is shorter than two batches */
#define NOTE      22  /* bytes of a note at most */
#define LOOK_BACK (1 << 20)

/* What happens around the worker. Each happens once. */
struct plan {
    bool sync;
    bool rotate;       /* the log is renamed after the first batch, and SIGHUP comes */
    bool late;         /* one batch later */
    bool full;         /* the disk is full in the midst of the last batch; then as rotate */
    bool lose_state;   /* the state file is removed under the worker */
    bool breaks;       /* the connection breaks while the second commit is unanswered, */
    bool in_vain;      /* which then did not take place; */
    bool hang_up;      /* the log is renamed, and SIGHUP comes, before the stream is opened again */
    bool fresh;        /* the log is new, and Redis has entries already */
    bool rotate_dead;  /* the log is renamed while nobody runs */
    bool forget_state; /* so is the state file removed */
    unsigned put_back; /* so is Redis put back by so many entries */
};

struct place {
    char path[64], rotated[80], state[80];
};

/* What Redis holds. */
struct stream {
    bool there[ENTRIES + 1];
    int owner;                            /* log that owned the stream last; -1: none */
    bool claims[LOGS];                    /* logs for which commits note their lines */
    char notes[LOGS][ENTRIES * NOTE + 1]; /* of the lines that others have committed */
    size_t noted[LOGS];                   /* bytes of them */
    bool rotated, filled, lost, broken;   /* what has happened */
};

_Atomic long crash_countdown;

/* Deaths are tried at each so-many-th point of the first life: a life takes ten times as long under
 * a sanitizer. */
#ifdef __SANITIZE_ADDRESS__
#define STRIDE 4
#else
#define STRIDE 1
#endif

static struct stream *stream; /* shared */
static struct place places[LOGS];
static bool equal_lines; /* one record is like the other */
static char crash_dir[] = "/tmp/test_crash.XXXXXX";

/* ---- Redis ---- */

static inline struct stream_id id(unsigned i)
{
    return (struct stream_id){.ms = i};
}

static inline unsigned first_after(unsigned cursor)
{
    for (unsigned i = cursor + 1; i <= ENTRIES; i++)
        if (stream->there[i])
            return i;
    return 0;
}

static inline unsigned last_there(void)
{
    unsigned last = 0;
    for (unsigned i = 1; i <= ENTRIES; i++)
        if (stream->there[i])
            last = i;
    return last;
}

/* The opening script, as far as it concerns the sink. */
static inline void take_stream(int log)
{
    if (stream->owner >= 0)
        stream->claims[stream->owner] = true;
    stream->claims[log] = false;
    stream->noted[log] = 0;
    stream->owner = log;
}

/* The commit script. */
static inline void trim(int log, struct stream_id first, struct stream_id last,
                        const struct buf *notes)
{
    if (stream->owner != log || first_after(0) != first.ms)
        abort(); /* nothing of the kind happens here */
    for (int other = 0; other < LOGS; other++) {
        if (!stream->claims[other] || notes->len == 0)
            continue;
        if (stream->noted[other] + notes->len > sizeof(stream->notes[other]))
            abort();
        memcpy(stream->notes[other] + stream->noted[other], notes->data, notes->len);
        stream->noted[other] += notes->len;
    }
    for (unsigned i = 1; i <= last.ms; i++)
        stream->there[i] = false;
}

/* ---- The worker ---- */

struct worker {
    const struct plan *plan;
    int log;
    struct sink *sink;
    unsigned cursor;
    enum entry_class class;
    struct stream_id first, last; /* of the batch */
    struct buf lines, notes;
};

static inline void must(bool good)
{
    if (!good)
        abort();
}

static inline void write_line(struct buf *out, unsigned i)
{
    size_t start = out->len;
    buf_printf(out, "{\"level\":\"warn\",\"message\":\"entry %u ", equal_lines ? 0 : i);
    while (out->len < start + LINE - 3)
        buf_add_char(out, 'x');
    buf_add_lit(out, "\"}\n");
}

static inline struct sink *open_sink(int log, bool sync)
{
    char err[512];
    struct sink *s = sink_open(places[log].path, sync, LOOK_BACK, err, sizeof(err));
    must(s != NULL);
    return s;
}

/* What another log has is given up before anything else, by a worker that stands by, too. */
static inline void surrender(struct worker *k)
{
    struct stream_id first, last;
    const struct span notes = {stream->notes[k->log], stream->noted[k->log]};
    if (notes.n > 0 && sink_in_hand(k->sink, &first, &last))
        must(sink_surrender(k->sink, notes));
}

static inline void open_stream(struct worker *k)
{
    surrender(k);
    take_stream(k->log);
    CRASH_POINT();
    const struct stream_id first = id(first_after(0));
    must(sink_begin(k->sink, first.ms == 0 ? NULL : &first, id(ENTRIES)));
    k->cursor = 0;
}

/* Reads the next batch: that in hand as a whole, else entries of one class. False: none. */
static inline bool read_batch(struct worker *k)
{
    unsigned i = first_after(k->cursor), end = ENTRIES;
    struct stream_id first, last;
    buf_clear(&k->lines);
    buf_clear(&k->notes);
    if (i == 0)
        return false;
    bool whole = k->cursor == 0 && sink_in_hand(k->sink, &first, &last) && first.ms == i;
    if (whole)
        end = (unsigned)last.ms;
    k->first = id(i);
    k->class = sink_class(k->sink, id(i));
    for (unsigned n = 0;
         i > 0 && i <= end && (whole || n < BATCH) && sink_class(k->sink, id(i)) == k->class;
         i = first_after(i), n++) {
        size_t start = k->lines.len;
        write_line(&k->lines, i);
        prints_add(&k->notes, id(i), k->lines.data + start, LINE);
        if (k->class != ENTRY_NEW &&
            sink_find(k->sink, k->class, k->lines.data + start, LINE) == LINE_FOUND)
            k->lines.len = start;
        k->last = id(i);
    }
    k->cursor = (unsigned)k->last.ms;
    return true;
}

static inline bool write_lines(struct worker *k)
{
    const struct sink_batch batch = {
        .lines = &k->lines, .class = k->class, .first = k->first, .last = k->last};
    return k->lines.len == 0 || sink_write(k->sink, &batch);
}

static inline void rename_log(int log)
{
    must(rename(places[log].path, places[log].rotated) == 0);
    stream->rotated = true;
}

static inline void commit(struct worker *k)
{
    bool breaks = k->plan->breaks && !stream->broken && k->first.ms > BATCH;
    must(write_lines(k));
    CRASH_POINT();
    if (breaks)
        stream->broken = true;
    if (!breaks || !k->plan->in_vain)
        trim(k->log, k->first, k->last, &k->notes);
    CRASH_POINT();
    if (!breaks) {
        sink_confirm(k->sink, k->last);
        CRASH_POINT();
        return;
    }
    if (k->plan->hang_up) { /* SIGHUP comes before the next opening */
        rename_log(k->log);
        CRASH_POINT();
        must(sink_reopen(k->sink));
    }
    open_stream(k);
}

static inline void limit_file_size(rlim_t bytes)
{
    struct rlimit limit;
    must(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = bytes;
    must(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

/* The disk is full in the second line of the batch. Then the log is rotated to another disk. */
static inline void fill_disk(struct worker *k)
{
    struct stat st;
    must(stat(places[k->log].path, &st) == 0);
    stream->filled = true;
    limit_file_size((rlim_t)st.st_size + LINE + 20);
    must(k->lines.len <= LINE || !write_lines(k));
    rename_log(k->log);
    limit_file_size(RLIM_INFINITY);
    CRASH_POINT();
    must(sink_reopen(k->sink));
}

/* What happens to the log while the worker has a batch to write. */
static inline void meet(struct worker *k)
{
    bool renamed = false;
    if (k->plan->rotate && !stream->rotated && k->first.ms > BATCH) {
        rename_log(k->log);
        CRASH_POINT();
        renamed = true;
    }
    if (k->plan->lose_state && !stream->lost && k->first.ms > BATCH) {
        stream->lost = true;
        unlink(places[k->log].state);
        CRASH_POINT();
    }
    if (k->plan->full && !stream->filled && k->first.ms > 2 * BATCH)
        fill_disk(k);
    if (renamed && !k->plan->late)
        must(sink_reopen(k->sink));
    commit(k);
    if (renamed && k->plan->late)
        must(sink_reopen(k->sink));
}

/* One life, until the stream is empty. */
static inline void work(int log, const struct plan *plan)
{
    struct worker k = {.plan = plan, .log = log, .sink = open_sink(log, plan->sync)};
    open_stream(&k);
    while (read_batch(&k))
        meet(&k);
    sink_close(k.sink);
    buf_free(&k.lines);
    buf_free(&k.notes);
}

/* The life of a worker that finds another one. */
static inline void stand_by(int log, const struct plan *plan)
{
    struct worker k = {.plan = plan, .log = log, .sink = open_sink(log, plan->sync)};
    surrender(&k);
    sink_close(k.sink);
}

/* Lives in a process of its own, which dies at the k-th crash point (0: never). Returns whether it
 * did. */
static inline bool live(void (*life)(int log, const struct plan *plan), int log,
                        const struct plan *plan, long k)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            abort();
        signal(SIGXFSZ, SIG_IGN);
        crash_countdown = k;
        life(log, plan);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == CRASH_EXIT);
    return WEXITSTATUS(status) == CRASH_EXIT;
}

/* ---- The files ---- */

static inline void append_file(struct buf *out, const char *name)
{
    char chunk[4096];
    FILE *f = fopen(name, "r");
    size_t n;
    if (f == NULL)
        return;
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
        buf_add(out, chunk, n);
    fclose(f);
}

static inline void remove_files(void)
{
    for (int i = 0; i < LOGS; i++) {
        unlink(places[i].path);
        unlink(places[i].rotated);
        unlink(places[i].state);
    }
}

/* A log without entries, and then all entries in Redis. */
static inline void begin_world(bool fresh)
{
    remove_files();
    memset(stream, 0, sizeof(*stream));
    stream->owner = -1;
    for (int i = 0; i < LOGS && !fresh; i++) {
        struct sink *s = open_sink(i, false);
        must(sink_begin(s, NULL, id(0)));
        sink_close(s);
    }
    for (unsigned i = 1; i <= ENTRIES; i++)
        stream->there[i] = true;
}

static inline int make_world(void **arg)
{
    (void)arg;
    stream = mmap(NULL, sizeof(*stream), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (stream == MAP_FAILED || mkdtemp(crash_dir) == NULL)
        return -1;
    for (int i = 0; i < LOGS; i++) {
        struct place *p = &places[i];
        const char *name = i == 0 ? "app.log" : "other.log";
        snprintf(p->path, sizeof(p->path), "%s/%s", crash_dir, name);
        snprintf(p->rotated, sizeof(p->rotated), "%s/%s.1", crash_dir, name);
        snprintf(p->state, sizeof(p->state), "%s/%s.state", crash_dir, name);
    }
    return 0;
}

static inline int remove_world(void **arg)
{
    (void)arg;
    remove_files();
    return rmdir(crash_dir) != 0 || munmap(stream, sizeof(*stream)) != 0;
}

#endif
