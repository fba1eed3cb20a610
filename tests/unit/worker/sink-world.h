/* sink-world.h: a sink on a log in a directory of its own, for the tests of sink.c and of what it
 * stands on. */
#ifndef TESTS_UNIT_WORKER_SINK_WORLD_H
#define TESTS_UNIT_WORKER_SINK_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/prints.h"
#include "worker/sink.h"
#include "worker/state.h"

#define LOOK_BACK (1 << 20)

static char dir[] = "/tmp/test_sink.XXXXXX";
static char path[64], rotated[64], state_path[64], link_path[64], link_state[64];
static struct sink *w;

static inline struct stream_id id(uint64_t ms)
{
    return (struct stream_id){ms, 0};
}

/* The slot that counts, of the file; all zero when there is none. */
static inline struct state_slot last_slot(void)
{
    char slots[2 * STATE_SLOT_BYTES] = {0};
    struct state_slot s, newest = {0};
    int fd = open(state_path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(pread(fd, slots, sizeof(slots), 0) >= 0);
    close(fd);
    for (size_t i = 0; i < 2; i++)
        if (state_parse(&s, slots + i * STATE_SLOT_BYTES) && s.gen > newest.gen)
            newest = s;
    return newest;
}

/* Which batch the slot has in hand, and from which offset on. */
static inline void assert_slot(uint64_t first, uint64_t last, int64_t offset)
{
    struct state_slot s = last_slot();
    assert_true(stream_id_equal(s.first, id(first)));
    assert_true(stream_id_equal(s.last, id(last)));
    assert_int_equal(s.offset, offset);
}

static inline void assert_idle(uint64_t last, int64_t offset)
{
    struct state_slot s = last_slot();
    assert_true(stream_id_equal(s.first, stream_id_next(id(last))));
    assert_true(stream_id_equal(s.last, id(last)));
    assert_int_equal(s.offset, offset);
}

static inline void open_sink(bool sync_batch)
{
    char err[512];
    w = sink_open(path, sync_batch, LOOK_BACK, err, sizeof(err));
    if (w == NULL)
        fail_msg("%s", err);
}

/* Writes the lines of a batch that has the entries from first-0 to last-0. */
static inline bool try_write(enum entry_class class, const char *text, uint64_t first,
                             uint64_t last)
{
    struct buf lines = {0};
    buf_add(&lines, text, strlen(text));
    const struct sink_batch batch = {
        .lines = &lines, .class = class, .first = id(first), .last = id(last)};
    bool done = sink_write(w, &batch);
    int saved = errno;
    buf_free(&lines);
    errno = saved;
    return done;
}

static inline void write_batch(enum entry_class class, const char *text, uint64_t first,
                               uint64_t last)
{
    assert_true(try_write(class, text, first, last));
}

/* A batch of one new entry, which is committed. */
static inline void write_new(const char *text, uint64_t ms)
{
    write_batch(ENTRY_NEW, text, ms, ms);
    sink_confirm(w, sink_last(w));
}

static inline enum line_found find_line(enum entry_class class, const char *line)
{
    return sink_find(w, class, line, strlen(line));
}

/* The stream was opened, and begins with this entry; 0: it is empty. */
static inline void begin(uint64_t first)
{
    const struct stream_id entry = id(first);
    assert_true(sink_begin(w, first == 0 ? NULL : &entry, entry));
}

/* Other logs have noted these lines, as those of this entry. */
static inline bool surrender_as(uint64_t ms, const char *lines)
{
    struct buf notes = {0};
    for (const char *end; (end = strchr(lines, '\n')) != NULL; lines = end + 1)
        prints_add(&notes, id(ms), lines, (size_t)(end + 1 - lines));
    bool good = sink_surrender(w, (struct span){notes.len > 0 ? notes.data : "", notes.len});
    int saved = errno;
    buf_free(&notes);
    errno = saved;
    return good;
}

static inline bool surrender(const char *lines)
{
    return surrender_as(2, lines);
}

static inline bool is_in_hand(void)
{
    struct stream_id first, last;
    return sink_in_hand(w, &first, &last);
}

static inline void put(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static inline void assert_text(const char *name, const char *expected)
{
    char text[8192];
    FILE *f = fopen(name, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    fclose(f);
    assert_string_equal(text, expected);
}

static inline ino_t inode_of(const char *name)
{
    struct stat st;
    assert_int_equal(stat(name, &st), 0);
    return st.st_ino;
}

/* A new life of the worker, up to its opening. */
static inline void restart(uint64_t first)
{
    sink_close(w);
    open_sink(false);
    begin(first);
}

static inline void rotate(void)
{
    assert_int_equal(rename(path, rotated), 0);
}

/* The log has one line, of entry 1-0. */
static inline int set_up(void **arg)
{
    (void)arg;
    open_sink(false);
    begin(0);
    write_new("{one}\n", 1);
    return 0;
}

static inline int tear_down(void **arg)
{
    (void)arg;
    sink_close(w);
    unlink(rotated);
    unlink(link_path);
    unlink(link_state);
    return unlink(path) != 0 || unlink(state_path) != 0;
}

static inline int make_dir(void **arg)
{
    (void)arg;
    signal(SIGXFSZ, SIG_IGN);
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/app.log", dir);
    snprintf(rotated, sizeof(rotated), "%s/app.log.1", dir);
    snprintf(state_path, sizeof(state_path), "%s/app.log.state", dir);
    snprintf(link_path, sizeof(link_path), "%s/link.log", dir);
    snprintf(link_state, sizeof(link_state), "%s/link.log.state", dir);
    return 0;
}

static inline int remove_dir(void **arg)
{
    (void)arg;
    return rmdir(dir);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

#endif
