/* test_ring_crash.c: the owner of a ring and its heir die at their k-th store, for every k.
 * Afterwards each accepted record has been delivered exactly once, in order.
 *
 * The world outside the dying process lies in shared memory: what send returned 0 for, and a logd
 * that compares sequence numbers as the Redis script does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/crash.h"
#include "liblogclient/batch-internal.h"
#include "liblogclient/leftover-internal.h"
#include "liblogclient/ring-read-internal.h"
#include "liblogclient/ring-write-internal.h"
#include "liblogclient/ringdir-internal.h"

#define RECORDS_MAX 4096
#define THREADS     3

/* With many threads, each third crash point is tried. ThreadSanitizer is slow, and tries fewer. */
#ifdef __SANITIZE_THREAD__
#define STEP 30
#else
#define STEP 3
#endif

_Atomic long crash_countdown;

/* A process that dies here leaves its threads behind. ThreadSanitizer must not complain of that. */
const char *__tsan_default_options(void) __attribute__((visibility("default")));
const char *__tsan_default_options(void)
{
    return "report_thread_leaks=0";
}

/* A world has one producer. Each store is whole: another thread may end the process at any time. */
struct world {
    _Atomic bool accepted[RECORDS_MAX]; /* by id */
    int delivered[RECORDS_MAX];
    _Atomic int delivered_count;
    _Atomic uint64_t last; /* number that was stored last */
    char producer[LC_ID_HEX + 1];
    int gaps, strangers;
    bool rebooted;
};

static struct world *world;
static char dir_path[64];
static int dir;

/* ---- The outside ---- */

/* What logd and its script do with a batch. */
static void deliver(const struct lc_batch *batch, const struct lc_ring_ack *ack)
{
    char producer[LC_ID_HEX + 1];
    uint64_t number = batch->first, skip = number - ack->stored;
    lc_id_hex(ack->producer, producer);
    if (world->producer[0] == '\0')
        strcpy(world->producer, producer);
    if (strcmp(world->producer, producer) != 0)
        world->strangers++;
    if (number > world->last + 1 + skip)
        world->gaps++;
    const char *at = batch->body.data, *end = at + batch->body.len;
    for (; at < end; number++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *id = memmem(at, (size_t)(newline - at), "\"message\":\"", 11);
        if (number > world->last) {
            world->delivered[world->delivered_count] = atoi(id + 11);
            world->delivered_count++;
            world->last = number;
        }
        at = newline + 1;
    }
}

/* ---- What dies ---- */

static char padding[60000];

static void send_one(struct lc_ring *ring, int id)
{
    char text[sizeof(padding) + 32];
    /* Some are long, so that the ring wraps soon. */
    int n = snprintf(text, sizeof(text), "%d %.*s", id,
                     id % 3 == 0 ? (int)sizeof(padding) - 1 : id % 50, padding);
    struct lc_record r = {
        .service = SPAN_LIT("svc"), .message = {text, (size_t)n}, .level = LEVEL_ERROR};
    if (lc_ring_write(ring, &r) == 0)
        world->accepted[id] = true;
}

static enum lc_ring_read read_ring(void *from, uint64_t *position, struct lc_record *record)
{
    return lc_ring_read(from, position, record);
}

static enum lc_ring_read read_leftover(void *from, uint64_t *position, struct lc_record *record)
{
    return lc_leftover_read(from, position, record);
}

/* Delivers up to `batches` batches of `size` records, as the sender does. */
static void drain(struct lc_ring *ring, int batches, size_t size)
{
    const struct lc_reader reader = {read_ring, ring};
    struct lc_batch batch;
    assert_true(lc_batch_init(&batch, size));
    while (batches-- > 0) {
        lc_batch_fill(&batch, &reader, ring->ack.position, UINT64_MAX, size, SIZE_MAX, 65536);
        if (batch.count == 0)
            break;
        uint64_t next = batch.first + batch.count;
        atomic_store(&ring->header->sent, next);
        CRASH_POINT();
        deliver(&batch, &ring->ack);
        CRASH_POINT();
        lc_ring_acknowledge(ring, batch.ends[batch.count - 1], next, next);
        lc_ring_reserve(ring);
    }
    lc_batch_free(&batch);
}

static enum lc_ring_read drain_leftover(struct lc_leftover *leftover, size_t size)
{
    const struct lc_reader reader = {read_leftover, leftover};
    enum lc_ring_read result;
    struct lc_batch batch;
    assert_true(lc_batch_init(&batch, size));
    while (!leftover->searched)
        assert_int_equal(lc_leftover_search(leftover), 0);
    for (;;) {
        result = lc_batch_fill(&batch, &reader, leftover->tail, UINT64_MAX, size, SIZE_MAX, 65536);
        if (batch.count == 0)
            break;
        uint64_t next = batch.first + batch.count;
        CRASH_POINT();
        deliver(&batch, &leftover->ack);
        CRASH_POINT();
        if (lc_leftover_acknowledge(leftover, batch.ends[batch.count - 1], next, next) != 0)
            _exit(1);
    }
    lc_batch_free(&batch);
    return leftover->damaged ? LC_RING_DAMAGED : result;
}

/* At the end of a process. */
static void leave(struct lc_ring *ring, const char *name)
{
    if (lc_ring_seal(ring))
        unlinkat(dir, name, 0);
    else
        lc_ring_shrink(ring);
    CRASH_POINT();
}

static void own_one(uint64_t capacity, uint64_t keep, int rounds)
{
    struct lc_ring ring;
    char name[LC_RING_NAME_MAX];
    int id = 1;
    if (lc_ringdir_create(dir, &ring, capacity, name) != 0)
        _exit(1);
    ring.keep = keep;
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < 10; i++)
            send_one(&ring, id++);
        drain(&ring, 3, 2 + (size_t)round % 3);
    }
    drain(&ring, 100, 7);
    lc_ring_rewind(&ring);
    while (lc_ring_trim(&ring))
        ;
    for (int i = 0; i < 5; i++)
        send_one(&ring, id++);
    drain(&ring, 2, 2);
    leave(&ring, name);
}

static void own(void)
{
    own_one(LC_RING_MIN_BYTES, UINT64_MAX, 6);
}

/* More than what keeps its blocks, so that the others are given back, and more than one lap. */
static void own_a_large_one(void)
{
    own_one(2 * LC_RING_MIN_BYTES, 2 * LC_RING_CHUNK, 14);
}

static void *write_some(void *arg)
{
    struct lc_ring *ring = ((void **)arg)[0];
    int base = (int)(intptr_t)((void **)arg)[1];
    for (int i = 1; i <= 40; i++)
        send_one(ring, base + i);
    return NULL;
}

static void own_with_threads(void)
{
    struct lc_ring ring;
    char name[LC_RING_NAME_MAX];
    pthread_t threads[THREADS];
    void *args[THREADS][2];
    if (lc_ringdir_create(dir, &ring, LC_RING_MIN_BYTES * 8, name) != 0)
        _exit(1);
    ring.keep = 4 * LC_RING_CHUNK;
    for (int t = 0; t < THREADS; t++) {
        args[t][0] = &ring;
        args[t][1] = (void *)(intptr_t)(t * 1000);
        if (pthread_create(&threads[t], NULL, write_some, args[t]) != 0)
            _exit(1);
    }
    while (ring.ack.number < 20 * THREADS) {
        drain(&ring, 1, 5);
        sched_yield();
    }
    leave(&ring, name); /* while they write */
    drain(&ring, 1000, 5);
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    drain(&ring, 10, 5);
    lc_ring_shrink(&ring);
}

static void inherit(void)
{
    struct lc_adoption search;
    struct lc_leftover leftover;
    char name[LC_RING_NAME_MAX];
    enum lc_adopt found;
    CRASH_POINT();
    if (!lc_adoption_begin(&search, dir, 0))
        _exit(1);
    while ((found = lc_adoption_next(&search, &leftover, name)) != LC_ADOPT_NONE) {
        if (found != LC_ADOPT_RING || drain_leftover(&leftover, 3) != LC_RING_EMPTY)
            _exit(1);
        CRASH_POINT();
        unlinkat(dir, name, 0);
        CRASH_POINT();
        lc_leftover_close(&leftover);
    }
    lc_adoption_end(&search);
}

/* Runs f in a process that dies at its k-th crash point (0: lives). True when it died. */
static bool dies(void (*f)(void), long k)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        crash_countdown = k;
        f();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == CRASH_EXIT);
    return WEXITSTATUS(status) == CRASH_EXIT;
}

/* ---- What must be true afterwards ---- */

static void check_world(bool in_order)
{
    static int times[RECORDS_MAX];
    memset(times, 0, sizeof(times));
    for (int i = 0; i < world->delivered_count; i++) {
        times[world->delivered[i]]++;
        assert_int_equal(times[world->delivered[i]], 1); /* never doubled */
        if (in_order && i > 0)
            assert_true(world->delivered[i] > world->delivered[i - 1]);
    }
    int accepted = 0;
    for (int id = 0; id < RECORDS_MAX; id++) {
        if (!world->accepted[id])
            continue;
        assert_int_equal(times[id], 1); /* never lost */
        accepted++;
    }
    /* Besides, each writer may have died between its last store and its return. */
    assert_in_range(world->delivered_count, accepted, accepted + THREADS);
    /* After a power cut nobody knows whether a number was lost, or never accepted. */
    if (!world->rebooted)
        assert_int_equal(world->gaps, 0);
    assert_int_equal(world->strangers, 0);
}

/* The directory holds neither rings nor half-made files. */
static void check_directory_empty(void)
{
    assert_int_equal(unlinkat(dir, "adopt.lock", 0), 0);
    assert_int_equal(rmdir(dir_path), 0);
    assert_int_equal(mkdir(dir_path, 0700), 0);
    close(dir);
    dir = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dir >= 0);
}

static void reset_world(void)
{
    memset(world, 0, sizeof(*world));
}

/* Lets it die at each of its crash points. Returns how many there are. */
static long die_everywhere(void (*owner)(void), void (*meanwhile)(void))
{
    long k = 1;
    for (bool died = true; died; k++) {
        reset_world();
        died = dies(owner, k);
        meanwhile();
        assert_false(dies(inherit, 0));
        check_world(true);
        check_directory_empty();
    }
    print_message("the owner died at each of %ld crash points\n", k - 2);
    return k - 2;
}

static void nothing(void)
{
}

static void test_the_owner_may_die_anywhere(void **state)
{
    (void)state;
    assert_true(die_everywhere(own, nothing) > 500);
}

static void test_the_owner_of_a_large_ring_may_die_anywhere(void **state)
{
    (void)state;
    assert_true(die_everywhere(own_a_large_one, nothing) > 1200);
}

static void change_boot(const char *name)
{
    const char *dot = strrchr(name, '.');
    if (dot == NULL || strcmp(dot, ".ring") != 0)
        return;
    int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "another boot id.", LC_ID_BYTES, 48), LC_ID_BYTES);
    close(fd);
}

static void boot_again(void)
{
    DIR *files = opendir(dir_path);
    assert_non_null(files);
    for (struct dirent *file; (file = readdir(files)) != NULL;)
        change_boot(file->d_name);
    closedir(files);
    world->rebooted = true;
}

/* All was written back. Each record is found by itself. */
static void test_the_owner_may_die_anywhere_and_the_machine_after_it(void **state)
{
    (void)state;
    assert_true(die_everywhere(own_a_large_one, boot_again) > 1200);
}

static void test_the_heir_may_die_anywhere(void **state)
{
    long points = 0;
    (void)state;
    for (long k = 5; k < 600; k += 97) { /* different states to inherit */
        long j = 1;
        for (bool died = true; died; j++) {
            reset_world();
            assert_true(dies(own, k));
            died = dies(inherit, j);
            assert_false(dies(inherit, 0));
            check_world(true);
            check_directory_empty();
        }
        points += j - 2;
    }
    print_message("the heir died at %ld crash points\n", points);
    assert_true(points > 50);
}

static void test_an_owner_with_threads_may_die_anywhere(void **state)
{
    int deaths = 0;
    (void)state;
    for (long k = 1; k < 1200; k += STEP) {
        reset_world();
        deaths += dies(own_with_threads, k);
        assert_false(dies(inherit, 0));
        check_world(false);
        check_directory_empty();
    }
    assert_true(deaths > 900 / STEP);
}

static int set_up(void **state)
{
    (void)state;
    memset(padding, 'p', sizeof(padding) - 1);
    world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    /* On tmpfs blocks are given back. */
    snprintf(dir_path, sizeof(dir_path), "%s/ring-crash-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (world == MAP_FAILED || mkdtemp(dir_path) == NULL)
        return -1;
    dir = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", dir_path);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_owner_may_die_anywhere),
        cmocka_unit_test(test_the_owner_of_a_large_ring_may_die_anywhere),
        cmocka_unit_test(test_the_owner_may_die_anywhere_and_the_machine_after_it),
        cmocka_unit_test(test_the_heir_may_die_anywhere),
        cmocka_unit_test(test_an_owner_with_threads_may_die_anywhere),
    };
#ifdef __SANITIZE_THREAD__
    /* The others have one thread, and take more than a minute. */
    cmocka_set_test_filter("*threads*");
#endif
    return cmocka_run_group_tests_name("ring crash points", tests, set_up, tear_down);
}
