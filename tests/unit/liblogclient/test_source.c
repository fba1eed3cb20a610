/* test_source.c: the rings that a sender drains: what is adopted, refused, given back, set aside.
 * There is no sender, and a fake takes the reports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "liblogclient/report-internal.h"
#include "liblogclient/ring-write-internal.h"
#include "liblogclient/source-internal.h"

static char path[64];
static logclient_t client;
static struct event_base *base;
static struct lc_sources sources;
static int found; /* calls */

static struct {
    logclient_status_t status;
    char text[600];
    int count;
} report;

void lc_report(logclient_t *c, logclient_status_t status, const char *text)
{
    assert_ptr_equal(c, &client);
    report.status = status;
    snprintf(report.text, sizeof(report.text), "%s", text);
    report.count++;
}

static void on_found(void *arg)
{
    assert_ptr_equal(arg, &found);
    found++;
}

static void start(void)
{
    assert_true(lc_sources_init(&sources, &client, base, on_found, &found));
}

/* Lets the timer of the search run once. */
static void search_once(void)
{
    assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);
}

static void put(struct lc_ring *ring, const char *text)
{
    struct lc_record r = {
        .service = SPAN_LIT("svc"), .message = {text, strlen(text)}, .level = LEVEL_INFO};
    assert_int_equal(lc_ring_write(ring, &r), 0);
}

/* A ring with so many records whose owner is dead. */
static void leave_ring(char name[LC_RING_NAME_MAX], int records)
{
    struct lc_ring ring;
    assert_int_equal(lc_ringdir_create(client.dir, &ring, LC_RING_MIN_BYTES, name), 0);
    for (int i = 0; i < records; i++)
        put(&ring, "left behind");
    lc_ring_close(&ring);
}

static bool exists(const char *name, const char *suffix)
{
    char file[LC_RING_NAME_MAX + 16];
    struct stat st;
    snprintf(file, sizeof(file), "%s%s", name, suffix);
    return fstatat(client.dir, file, &st, 0) == 0;
}

/* Reads all of the source's ring, and acknowledges it. */
static enum lc_ring_read drain(struct lc_source *source)
{
    struct lc_record record;
    uint64_t position = source->ring->tail, n = 0;
    enum lc_ring_read result;
    while ((result = lc_ring_read(source->ring, &position, &record)) == LC_RING_RECORD)
        n++;
    lc_source_acknowledge(&sources, source, position, n, &client.count.adopted);
    return result;
}

static int set_up(void **state)
{
    char why[200];
    (void)state;
    strcpy(path, "/tmp/test-source-XXXXXX");
    if (mkdtemp(path) == NULL)
        return -1;
    memset(&client, 0, sizeof(client));
    memset(&report, 0, sizeof(report));
    found = 0;
    client.options = logclient_options_new();
    client.dir = lc_ringdir_open(path, why, sizeof(why));
    base = event_base_new();
    lc_init_progress(&client);
    if (client.options == NULL || client.dir < 0 || base == NULL)
        return -1;
    return lc_ringdir_create(client.dir, &client.ring, LC_RING_MIN_BYTES, client.name);
}

static int tear_down(void **state)
{
    char command[80];
    (void)state;
    lc_sources_free(&sources);
    event_base_free(base);
    lc_ring_close(&client.ring);
    close(client.dir);
    logclient_options_free(client.options);
    snprintf(command, sizeof(command), "rm -rf %s", path);
    return system(command);
}

/* ---- Adoption ---- */

static void test_the_ring_of_a_dead_process_is_adopted_and_removed_when_it_is_empty(void **state)
{
    char name[LC_RING_NAME_MAX];
    (void)state;
    leave_ring(name, 3);
    start();
    search_once();
    assert_int_equal(found, 1);
    assert_int_equal(sources.adopted_count, 1);
    struct lc_source *source = lc_sources_next(&sources);
    if (source == &sources.own)
        source = lc_sources_next(&sources);
    assert_string_equal(source->name, name);
    assert_int_equal(source->ring->sequence, 1);
    assert_int_equal(drain(source), LC_RING_EMPTY);
    assert_int_equal(source->ring->sequence, 4);
    assert_int_equal(client.count.adopted, 3);
    lc_source_release(&sources, source, LC_RING_EMPTY);
    assert_int_equal(sources.adopted_count, 0);
    assert_false(exists(name, ""));
    assert_int_equal(client.acknowledged, 0); /* a flush is not told of others' records */
}

static void test_the_ring_of_a_living_process_is_left_alone(void **state)
{
    char name[LC_RING_NAME_MAX];
    struct lc_ring ring;
    (void)state;
    assert_int_equal(lc_ringdir_create(client.dir, &ring, LC_RING_MIN_BYTES, name), 0);
    put(&ring, "mine");
    start();
    search_once();
    assert_int_equal(found, 0);
    assert_int_equal(client.count.idle_searches, 1);
    assert_true(exists(name, ""));
    lc_ring_close(&ring);
}

static void test_nothing_is_adopted_when_the_setting_says_so(void **state)
{
    char name[LC_RING_NAME_MAX];
    (void)state;
    leave_ring(name, 1);
    assert_int_equal(logclient_options_set(client.options, "adopt", "off", NULL, 0), LOGCLIENT_OK);
    start();
    search_once();
    assert_int_equal(found, 0);
    assert_int_equal(sources.adopted_count, 0);
    assert_true(exists(name, ""));
}

static void test_no_more_rings_than_fit_are_adopted_and_the_rest_when_there_is_room(void **state)
{
    char name[LC_RING_NAME_MAX];
    (void)state;
    for (int i = 0; i < LC_ADOPTED_MAX + 1; i++)
        leave_ring(name, 1);
    start();
    search_once();
    assert_int_equal(sources.adopted_count, LC_ADOPTED_MAX);
    /* Each gets its turn, and the own ring, too. */
    bool seen[LC_ADOPTED_MAX + 1] = {false};
    for (int i = 0; i < LC_ADOPTED_MAX + 1; i++) {
        lc_sources_next(&sources);
        assert_false(seen[sources.turn]);
        seen[sources.turn] = true;
    }
    while (sources.adopted_count > 0) {
        struct lc_source *source = sources.adopted[0];
        lc_source_release(&sources, source, drain(source));
    }
    search_once();
    assert_int_equal(sources.adopted_count, 1);
}

static void test_what_is_not_drained_is_left_to_others(void **state)
{
    char name[LC_RING_NAME_MAX];
    struct lc_adoption search;
    struct lc_ring ring;
    (void)state;
    leave_ring(name, 2);
    start();
    search_once();
    assert_int_equal(sources.adopted_count, 1);
    lc_sources_free(&sources);
    sources.search = NULL;
    assert_true(exists(name, ""));
    assert_true(lc_adoption_begin(&search, client.dir, 0));
    assert_int_equal(lc_adoption_next(&search, &ring, name), LC_ADOPT_RING);
    lc_ring_close(&ring);
    lc_adoption_end(&search);
}

/* ---- Damage ---- */

static void test_a_file_that_is_no_ring_is_set_aside_and_the_search_goes_on(void **state)
{
    char name[LC_RING_NAME_MAX];
    (void)state;
    int fd = openat(client.dir, "junk.ring", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "junk", 4), 4);
    close(fd);
    leave_ring(name, 1);
    start();
    for (int i = 0; i < 3 && (found == 0 || report.count == 0); i++)
        search_once();
    assert_int_equal(sources.adopted_count, 1);
    assert_true(exists("junk.ring", ".damaged"));
    assert_false(exists("junk.ring", ""));
    assert_int_equal(client.count.damaged, 1);
    assert_int_equal(report.count, 1);
    assert_int_equal(report.status, LOGCLIENT_RING_DAMAGED);
    assert_string_equal(report.text, "ring junk.ring cannot be read; moved to junk.ring.damaged");
}

static void test_a_ring_that_turns_out_damaged_is_set_aside(void **state)
{
    char name[LC_RING_NAME_MAX];
    (void)state;
    leave_ring(name, 2);
    start();
    search_once();
    struct lc_source *source = sources.adopted[0];
    struct lc_record record;
    uint64_t second = source->ring->tail;
    assert_int_equal(lc_ring_read(source->ring, &second, &record), LC_RING_RECORD);
    memset(source->ring->data + second, 0xff, 8);
    assert_int_equal(drain(source), LC_RING_DAMAGED);
    assert_int_equal(source->ring->tail, second); /* what lies before was delivered */
    lc_source_release(&sources, source, LC_RING_DAMAGED);
    assert_true(exists(name, ".damaged"));
    assert_false(exists(name, ""));
    assert_int_equal(client.count.damaged, 1);
    assert_int_equal(report.status, LOGCLIENT_RING_DAMAGED);
    assert_non_null(strstr(report.text, "is damaged behind what was delivered; moved to "));
}

/* ---- The own ring ---- */

static void test_a_refused_record_goes_with_its_number(void **state)
{
    struct lc_record record;
    (void)state;
    start();
    put(&client.ring, "bad");
    put(&client.ring, "good");
    sources.own.bad = client.ring.tail;
    strcpy(sources.own.bad_text, "logd refused it");
    lc_source_reject(&sources, &sources.own);
    assert_int_equal(sources.own.bad, LC_NOWHERE);
    assert_int_equal(sources.own.skip, 1);
    assert_int_equal(client.ring.sequence, 2);
    assert_int_equal(client.acknowledged, client.ring.tail);
    assert_int_equal(client.count.rejected, 1);
    assert_int_equal(client.count.adopted_rejected, 0);
    assert_int_equal(report.status, LOGCLIENT_BAD_RECORD);
    assert_string_equal(report.text, "logd refused it");
    uint64_t position = client.ring.tail;
    assert_int_equal(lc_ring_read(&client.ring, &position, &record), LC_RING_RECORD);
    assert_memory_equal(record.message.p, "good", record.message.n);
}

static void test_a_ring_file_that_somebody_removed_is_reported_once(void **state)
{
    (void)state;
    start();
    search_once();
    assert_int_equal(report.count, 0);
    assert_int_equal(unlinkat(client.dir, client.name, 0), 0);
    for (int i = 0; i < 2; i++) {
        event_active(sources.search, EV_TIMEOUT, 1);
        search_once();
        assert_int_equal(report.count, 1);
    }
    assert_int_equal(report.status, LOGCLIENT_RING_FALLBACK);
    assert_int_equal(client.count.fallback, 1);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_the_ring_of_a_dead_process_is_adopted_and_removed_when_it_is_empty),
        CASE(test_the_ring_of_a_living_process_is_left_alone),
        CASE(test_nothing_is_adopted_when_the_setting_says_so),
        CASE(test_no_more_rings_than_fit_are_adopted_and_the_rest_when_there_is_room),
        CASE(test_what_is_not_drained_is_left_to_others),
        CASE(test_a_file_that_is_no_ring_is_set_aside_and_the_search_goes_on),
        CASE(test_a_ring_that_turns_out_damaged_is_set_aside),
        CASE(test_a_refused_record_goes_with_its_number),
        CASE(test_a_ring_file_that_somebody_removed_is_reported_once),
    };
    return cmocka_run_group_tests_name("source", tests, NULL, NULL);
}
