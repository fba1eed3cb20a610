/* test_sink_crash.c: the worker's commit dies at its k-th store, for every k; after each death the
 * log holds every entry once and in order. The stream is a list in shared memory, which outlives
 * the worker as Redis would. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/crash.h"
#include "worker/sink.h"
#include "worker/state.h"

#define ENTRIES      24
#define BATCH        4
#define ROTATE_AFTER 10 /* the first batch at or after this entry finds the log renamed */
#define LINEAGE      "00112233445566778899aabbccddeeff"

_Atomic long crash_countdown;

/* What Redis would hold. */
struct stream {
    bool delivered[ENTRIES + 1]; /* entry i has the id i-0; 0 is not used */
    bool deleted[ENTRIES + 1];
    bool renamed;
};

static struct stream *stream; /* shared with the children */
static char dir[] = "/tmp/test_crash.XXXXXX";
static char path[64], rotated[64], state_path[64];
static bool sync_batch;

static void write_entry(struct buf *lines, unsigned i)
{
    buf_printf(lines, "{\"level\":\"warn\",\"message\":\"entry %u\"}\n", i);
}

/* Fills ids with entries that are pending (`again`) or new, above `after`; returns how many. */
static size_t read_stream(unsigned ids[BATCH], unsigned after, bool again)
{
    size_t n = 0;
    for (unsigned i = after + 1; i <= ENTRIES && n < BATCH; i++)
        if (!stream->deleted[i] && stream->delivered[i] == again)
            ids[n++] = i;
    for (size_t i = 0; i < n; i++)
        stream->delivered[ids[i]] = true;
    return n;
}

static void acknowledge(const unsigned ids[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        CRASH_POINT();
        stream->deleted[ids[i]] = true;
    }
}

static void commit(struct sink *w, const unsigned ids[], size_t n, bool again)
{
    struct buf lines = {0};
    unsigned fresh = 0;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] <= sink_id(w).ms)
            continue;
        write_entry(&lines, ids[i]);
        fresh = ids[i];
    }
    if (fresh > 0 &&
        (!sink_settle(w, again) || !sink_commit(w, &lines, (struct stream_id){.ms = fresh})))
        abort();
    buf_free(&lines);
    acknowledge(ids, n);
}

/* What logrotate does, once: rename, then SIGHUP. Returns whether it did. */
static bool rotate(void)
{
    if (stream->renamed || !stream->deleted[ROTATE_AFTER])
        return false;
    if (rename(path, rotated) != 0)
        abort();
    stream->renamed = true;
    CRASH_POINT();
    return true;
}

static struct sink *open_sink(bool sync)
{
    char err[512];
    struct sink *w = sink_open(path, sync, err, sizeof(err));
    if (w == NULL) {
        fprintf(stderr, "%s\n", err);
        abort();
    }
    sink_adopt(w, LINEAGE);
    return w;
}

/* One life of the worker, until the stream is empty. `late` tells when the signal of the rotation
 * comes: before, or one batch after, so that a batch goes to the renamed file. */
static void work(bool late)
{
    unsigned ids[BATCH], cursor = 0;
    size_t n;
    struct sink *w = open_sink(sync_batch);
    while ((n = read_stream(ids, cursor, true)) > 0) {
        commit(w, ids, n, true);
        cursor = ids[n - 1];
    }
    while ((n = read_stream(ids, 0, false)) > 0) {
        bool now = rotate();
        if (now && late)
            commit(w, ids, n, false);
        if (now && !sink_reopen(w))
            abort();
        if (!(now && late))
            commit(w, ids, n, false);
    }
    sink_close(w);
}

static void append_file(struct buf *out, const char *name)
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

static void remove_files(void)
{
    unlink(path);
    unlink(rotated);
    unlink(state_path);
}

static void check_log(long first, long second)
{
    struct buf expected = {0}, got = {0};
    for (unsigned i = 1; i <= ENTRIES; i++)
        write_entry(&expected, i);
    append_file(&got, rotated);
    append_file(&got, path);
    if (got.len != expected.len || memcmp(got.data, expected.data, got.len) != 0)
        fail_msg("after deaths at points %ld and %ld the log is\n%.*s", first, second, (int)got.len,
                 got.data);
    for (unsigned i = 1; i <= ENTRIES; i++)
        assert_true(stream->deleted[i]);
    buf_free(&expected);
    buf_free(&got);
}

/* A worker that dies at its k-th crash point (0: never). Returns whether it died. */
static bool live(long k, bool late)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            abort();
        crash_countdown = k;
        work(late);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == CRASH_EXIT);
    return WEXITSTATUS(status) == CRASH_EXIT;
}

/* Dies at `first`, the next life at `second` (0: not), the third lives. Returns whether all deaths
 * came. */
static bool run(long first, long second, bool late)
{
    bool died;
    memset(stream, 0, sizeof(*stream));
    remove_files();
    died = live(first, late);
    if (died && second > 0)
        died = live(second, late);
    assert_false(live(0, late));
    check_log(first, second);
    remove_files();
    return died;
}

static void every_point(bool late)
{
    long k = 1;
    while (run(k, 0, late))
        k++;
    print_message("%ld crash points\n", k - 1);
    assert_true(k > 50); /* else the seam is not compiled in */
}

static void test_every_point(void **arg)
{
    (void)arg;
    every_point(false);
}

static void test_every_point_with_a_late_signal(void **arg)
{
    (void)arg;
    every_point(true);
}

static void test_every_point_with_fsync(void **arg)
{
    (void)arg;
    sync_batch = true;
    every_point(true);
    sync_batch = false;
}

/* The recovery itself dies too, at each of its first points. */
static void test_every_point_of_the_recovery(void **arg)
{
    (void)arg;
    for (long first = 1; run(first, 0, true); first += 5)
        for (long second = 1; second <= 16 && run(first, second, true); second++)
            ;
}

/* A worker dies again and again, soon after each start, but not before it can commit a batch. */
static void test_many_deaths(void **arg)
{
    long deaths = 0;
    (void)arg;
    memset(stream, 0, sizeof(*stream));
    while (live(14 + deaths % 11, deaths % 2 == 0))
        assert_true(++deaths < 1000);
    print_message("%ld deaths\n", deaths);
    check_log(deaths, 0);
    remove_files();
}

static void commit_text(struct sink *w, const char *text, uint64_t id)
{
    struct buf lines = {0};
    buf_add(&lines, text, strlen(text));
    if (!sink_commit(w, &lines, (struct stream_id){.ms = id}))
        abort();
    buf_free(&lines);
}

/* What a worker does that does not lock the log, as those of 0.1.0, when its state file is gone. */
static void rival_writes(const char *text, uint64_t id)
{
    struct state state;
    struct stat st;
    char err[512];
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0 || !state_open(&state, state_path, err, sizeof(err)) ||
        write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fstat(fd, &st) != 0)
        abort();
    struct state_commit commit = {.dev = st.st_dev,
                                  .ino = st.st_ino,
                                  .offset = st.st_size,
                                  .id = {.ms = id},
                                  .lineage = LINEAGE};
    if (!state_boot_id(commit.boot) || !state_write(&state, &commit))
        abort();
    state_close(&state);
    close(fd);
}

/* The state file is removed under a worker; another one takes the log, and ends; the first goes on,
 * and dies at its k-th point. Returns whether it did. */
static bool live_beside_a_rival(long k)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            abort();
        struct sink *w = open_sink(false);
        commit_text(w, "one\n", 1);
        unlink(state_path);
        rival_writes("rival two\nrival three\n", 3);
        crash_countdown = k;
        commit_text(w, "four\n", 4);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == CRASH_EXIT);
    return WEXITSTATUS(status) == CRASH_EXIT;
}

/* The first one wrote its old offset over the rival's, and cut what the rival had written. */
static void test_what_a_rival_has_written_is_never_cut(void **arg)
{
    static const char kept[] = "one\nrival two\nrival three\n";
    long k = 1;
    bool died = true;
    (void)arg;
    for (; died; k++) {
        struct buf got = {0};
        died = live_beside_a_rival(k);
        struct sink *w = open_sink(false);
        if (sink_id(w).ms < 4) {
            assert_true(sink_settle(w, true));
            commit_text(w, "four\n", 4);
        }
        sink_close(w);
        append_file(&got, path);
        if (got.len < strlen(kept) || memcmp(got.data, kept, strlen(kept)) != 0 ||
            memmem(got.data, got.len, "\nfour\n", 6) == NULL)
            fail_msg("after a death at point %ld the log is\n%.*s", k, (int)got.len, got.data);
        buf_free(&got);
        remove_files();
    }
    assert_true(k > 8);
}

static int set_up(void **arg)
{
    (void)arg;
    stream = mmap(NULL, sizeof(*stream), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (stream == MAP_FAILED || mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/app.log", dir);
    snprintf(rotated, sizeof(rotated), "%s/app.log.1", dir);
    snprintf(state_path, sizeof(state_path), "%s/app.log.state", dir);
    return 0;
}

static int tear_down(void **arg)
{
    (void)arg;
    remove_files();
    return rmdir(dir) != 0 || munmap(stream, sizeof(*stream)) != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_point),
        cmocka_unit_test(test_every_point_with_a_late_signal),
        cmocka_unit_test(test_every_point_with_fsync),
        cmocka_unit_test(test_every_point_of_the_recovery),
        cmocka_unit_test(test_many_deaths),
        cmocka_unit_test(test_what_a_rival_has_written_is_never_cut),
    };
    return cmocka_run_group_tests_name("worker crash points", tests, set_up, tear_down);
}
