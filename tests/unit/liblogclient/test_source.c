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

#include "liblogclient/report-internal.h"
#include "liblogclient/ring-write-internal.h"
#include "liblogclient/source-internal.h"

static char path[64];
static logclient_t client;
static struct lc_sources sources;

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

static void start(void)
{
    lc_sources_init(&sources, &client);
}

/* True when there are adopted rings. */
static bool search_once(void)
{
    return lc_sources_search(&sources, 0);
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
    assert_int_equal(lc_ringdir_create(client.dirs.fds[0], &ring, LC_RING_MIN_BYTES, name), 0);
    for (int i = 0; i < records; i++)
        put(&ring, "left behind");
    lc_ring_close(&ring);
}

static bool exists(const char *name, const char *suffix)
{
    char file[LC_RING_NAME_MAX + 16];
    struct stat st;
    snprintf(file, sizeof(file), "%s%s", name, suffix);
    return fstatat(client.dirs.fds[0], file, &st, 0) == 0;
}

static struct lc_source *adopted(void)
{
    struct lc_source *source = sources.adopted[0];
    assert_true(lc_source_may_send(&sources, source, 0));
    return source;
}

/* Reads all of the source, and acknowledges it. */
static enum lc_ring_read drain(struct lc_source *source)
{
    struct lc_record record = {.number = lc_source_ack(source)->number - 1};
    struct lc_reader reader = lc_source_reader(source);
    uint64_t position = lc_source_tail(source), n = 0;
    enum lc_ring_read result;
    while ((result = reader.read(reader.from, &position, &record)) == LC_RING_RECORD)
        n++;
    lc_source_acknowledge(&sources, source, position, record.number + 1, n);
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
    client.options = logclient_options_new();
    lc_ringdirs_open(&client.dirs, path, NULL, why, sizeof(why));
    lc_init_progress(&client);
    if (client.options == NULL || !client.dirs.own)
        return -1;
    return lc_ringdir_create(client.dirs.fds[0], &client.ring, LC_RING_MIN_BYTES, client.name);
}

static int tear_down(void **state)
{
    char command[80];
    (void)state;
    lc_sources_free(&sources);
    lc_ring_close(&client.ring);
    lc_ringdirs_close(&client.dirs);
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
    assert_true(search_once());
    assert_int_equal(sources.adopted_count, 1);
    struct lc_source *source = adopted();
    assert_string_equal(source->name, name);
    assert_int_equal(lc_source_ack(source)->number, 1);
    assert_int_equal(drain(source), LC_RING_EMPTY);
    assert_int_equal(lc_source_ack(source)->number, 4);
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
    assert_int_equal(lc_ringdir_create(client.dirs.fds[0], &ring, LC_RING_MIN_BYTES, name), 0);
    put(&ring, "mine");
    start();
    assert_false(search_once());
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
    assert_false(search_once());
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
        struct lc_source *source = adopted();
        lc_source_release(&sources, source, drain(source));
    }
    search_once();
    assert_int_equal(sources.adopted_count, 1);
}

static void test_what_is_not_drained_is_left_to_others(void **state)
{
    char name[LC_RING_NAME_MAX];
    struct lc_adoption search;
    struct lc_leftover leftover;
    (void)state;
    leave_ring(name, 2);
    start();
    search_once();
    assert_int_equal(sources.adopted_count, 1);
    lc_sources_free(&sources);
    assert_true(exists(name, ""));
    assert_true(lc_adoption_begin(&search, client.dirs.fds[0], 0));
    assert_int_equal(lc_adoption_next(&search, &leftover, name), LC_ADOPT_RING);
    lc_leftover_close(&leftover);
    lc_adoption_end(&search);
}

/* ---- Damage ---- */

static void test_a_file_that_is_no_ring_is_set_aside_and_the_search_goes_on(void **state)
{
    char name[LC_RING_NAME_MAX];
    (void)state;
    int fd = openat(client.dirs.fds[0], "junk.ring", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "junk", 4), 4);
    close(fd);
    leave_ring(name, 1);
    start();
    search_once();
    assert_int_equal(sources.adopted_count, 1);
    assert_true(exists("junk.ring", ".damaged"));
    assert_false(exists("junk.ring", ""));
    assert_int_equal(client.count.damaged, 1);
    assert_int_equal(report.count, 1);
    assert_int_equal(report.status, LOGCLIENT_RING_DAMAGED);
    assert_string_equal(report.text, "ring junk.ring cannot be read; moved to junk.ring.damaged");
}

static void test_a_damaged_ring_is_delivered_but_for_the_damage_and_set_aside(void **state)
{
    char name[LC_RING_NAME_MAX];
    const uint64_t junk = UINT64_MAX;
    (void)state;
    leave_ring(name, 3);
    int fd = openat(client.dirs.fds[0], name, O_WRONLY | O_CLOEXEC);
    off_t second = LC_RING_HEADER_BYTES + sizeof(struct lc_slot) + 16;
    assert_int_equal(pwrite(fd, &junk, sizeof(junk), second), sizeof(junk));
    close(fd);
    start();
    search_once();
    struct lc_source *source = adopted();
    assert_int_equal(report.status, LOGCLIENT_RECORDS_MISSING);
    assert_int_equal(drain(source), LC_RING_EMPTY);
    assert_int_equal(client.count.adopted, 2);
    lc_source_release(&sources, source, LC_RING_EMPTY);
    assert_true(exists(name, ".damaged"));
    assert_false(exists(name, ""));
    assert_int_equal(client.count.damaged, 1);
    assert_int_equal(report.status, LOGCLIENT_RING_DAMAGED);
    assert_non_null(strstr(report.text, "is damaged; what could be read of it was delivered"));
}

/* It was said to be where it was not. */
static void test_a_damaged_ring_that_cannot_be_moved_is_said_to_be_there(void **state)
{
    char name[LC_RING_NAME_MAX], longer[251];
    const uint64_t junk = UINT64_MAX;
    (void)state;
    leave_ring(name, 3);
    memset(longer, 'a', sizeof(longer));
    strcpy(longer + sizeof(longer) - sizeof(".ring"), ".ring");
    assert_int_equal(renameat(client.dirs.fds[0], name, client.dirs.fds[0], longer), 0);
    int fd = openat(client.dirs.fds[0], longer, O_WRONLY | O_CLOEXEC);
    off_t second = LC_RING_HEADER_BYTES + sizeof(struct lc_slot) + 16;
    assert_int_equal(pwrite(fd, &junk, sizeof(junk), second), sizeof(junk));
    close(fd);
    start();
    search_once();
    struct lc_source *source = adopted();
    assert_int_equal(drain(source), LC_RING_EMPTY);
    lc_source_release(&sources, source, LC_RING_EMPTY);
    assert_true(exists(longer, ""));
    assert_non_null(strstr(report.text, "; it cannot be moved aside"));
}

/* ---- Numbers ---- */

/* When a batch was halved, its first half lowered what was known to be sent; then the second half's
 * repetition looked like the records of somebody else. */
static void test_what_was_sent_stays_sent(void **state)
{
    char name[LC_RING_NAME_MAX];
    (void)state;
    leave_ring(name, 4);
    start();
    search_once();
    struct lc_source *sent[] = {adopted(), &sources.own};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(lc_source_sent(sent[i]), 1);
        assert_true(lc_source_note_sent(&sources, sent[i], 5, 0));
        assert_true(lc_source_note_sent(&sources, sent[i], 3, 0));
        assert_int_equal(lc_source_sent(sent[i]), 5);
    }
}

static void test_a_twin_gives_a_new_id_under_which_nothing_was_sent(void **state)
{
    char name[LC_RING_NAME_MAX];
    (void)state;
    leave_ring(name, 4);
    start();
    search_once();
    struct lc_source *twins[] = {adopted(), &sources.own};
    for (int i = 0; i < 2; i++) {
        struct lc_ring_ack before = *lc_source_ack(twins[i]);
        assert_true(lc_source_knows_sent(twins[i]));
        assert_true(lc_source_note_sent(&sources, twins[i], 5, 0));
        lc_source_renew(&sources, twins[i], 1);
        assert_memory_not_equal(lc_source_ack(twins[i])->producer, before.producer, LC_ID_BYTES);
        assert_int_equal(lc_source_ack(twins[i])->number, before.number);
        assert_int_equal(lc_source_sent(twins[i]), 1);
        assert_int_equal(report.status, LOGCLIENT_PRODUCER_TWIN);
    }
}

/* A ring that logd does not take waits by itself. */
static void test_a_leftover_that_is_not_taken_waits(void **state)
{
    char name[LC_RING_NAME_MAX];
    (void)state;
    leave_ring(name, 1);
    start();
    search_once();
    struct lc_source *source = adopted();
    lc_source_back_off(&sources, source, 1000);
    assert_false(lc_source_may_send(&sources, source, 1000));
    assert_true(lc_source_may_send(&sources, &sources.own, 1000));
    assert_in_range(lc_sources_deadline(&sources, 1000), 1001, 1000 + 100);
    assert_true(lc_source_may_send(&sources, source, 1100));
}

/* ---- The own ring ---- */

static void test_a_refused_record_goes_with_its_number(void **state)
{
    struct lc_record record;
    (void)state;
    start();
    put(&client.ring, "bad");
    put(&client.ring, "good");
    sources.own.bad = client.ring.ack.position;
    strcpy(sources.own.bad_text, "logd refused it");
    lc_source_reject(&sources, &sources.own);
    assert_int_equal(sources.own.bad, LC_NOWHERE);
    assert_int_equal(lc_source_skip(&sources.own, 2), 1);
    assert_int_equal(client.ring.ack.number, 2);
    assert_int_equal(client.acknowledged, 2);
    assert_int_equal(client.count.rejected, 1);
    assert_int_equal(client.count.adopted_rejected, 0);
    assert_int_equal(report.status, LOGCLIENT_BAD_RECORD);
    assert_string_equal(report.text, "logd refused it");
    uint64_t position = client.ring.ack.position;
    assert_int_equal(lc_ring_read(&client.ring, &position, &record), LC_RING_RECORD);
    assert_memory_equal(record.message.p, "good", record.message.n);
}

static void test_a_ring_file_that_somebody_removed_is_reported_once(void **state)
{
    (void)state;
    start();
    search_once();
    assert_int_equal(report.count, 0);
    assert_int_equal(unlinkat(client.dirs.fds[0], client.name, 0), 0);
    for (int i = 0; i < 2; i++) {
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
        CASE(test_a_damaged_ring_is_delivered_but_for_the_damage_and_set_aside),
        CASE(test_a_damaged_ring_that_cannot_be_moved_is_said_to_be_there),
        CASE(test_what_was_sent_stays_sent),
        CASE(test_a_twin_gives_a_new_id_under_which_nothing_was_sent),
        CASE(test_a_leftover_that_is_not_taken_waits),
        CASE(test_a_refused_record_goes_with_its_number),
        CASE(test_a_ring_file_that_somebody_removed_is_reported_once),
    };
    return cmocka_run_group_tests_name("source", tests, NULL, NULL);
}
