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

#include "worker/sink.h"
#include "worker/state.h"

#define LINEAGE "00112233445566778899aabbccddeeff"
#define OTHER   "ffffffffffffffffffffffffffffffff"

static char dir[] = "/tmp/test_sink.XXXXXX";
static char path[64], rotated[64], state_path[64], link_path[64], link_state[64];
static struct sink *w;

/* The commit that counts, of the file; all zero when there is none. */
static inline struct state_commit last_commit(void)
{
    char slots[2 * STATE_SLOT_BYTES] = {0};
    struct state_commit c, newest = {0};
    int fd = open(state_path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(pread(fd, slots, sizeof(slots), 0) >= 0);
    close(fd);
    for (size_t i = 0; i < 2; i++)
        if (state_parse(&c, slots + i * STATE_SLOT_BYTES) && c.gen > newest.gen)
            newest = c;
    return newest;
}

static inline void open_sink(bool sync_batch)
{
    char err[512];
    w = sink_open(path, sync_batch, err, sizeof(err));
    if (w == NULL)
        fail_msg("%s", err);
}

static inline bool try_commit(const char *text, uint64_t id)
{
    struct buf lines = {0};
    buf_add(&lines, text, strlen(text));
    bool done = sink_commit(w, &lines, (struct stream_id){id, 0});
    int saved = errno;
    buf_free(&lines);
    errno = saved;
    return done;
}

static inline void commit(const char *text, uint64_t id)
{
    assert_true(try_commit(text, id));
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

static inline int set_up(void **arg)
{
    (void)arg;
    open_sink(false);
    sink_adopt(w, LINEAGE);
    commit("one\n", 1);
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

/* A new life of the worker. */
static inline void restart(void)
{
    sink_close(w);
    open_sink(false);
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
