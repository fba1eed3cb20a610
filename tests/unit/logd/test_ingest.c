/* test_ingest.c: logd/ingest.c and parse.c. The cases are files in tests/unit/logd/ingest: a body
 * NAME.json or NAME.ndjson, and what comes of it. valid/NAME.lines holds the lines of app.log;
 * invalid/NAME.expect holds STATUS INDEX "FIELD" and a part of the error's text, separated by
 * spaces. Bodies may have 10 records, messages 1000 bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/record.h"
#include "common/timestamp.h"
#include "logd/ingest.h"

#define DATA        "tests/unit/logd/ingest/"
#define NOW_MS      1795478400000 /* 2026-11-24T00:00:00.000Z */
#define MAX_RECORDS 10
#define MAX_MESSAGE 1000

static struct buf read_file(const char *path)
{
    struct buf b = {0};
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        fail_msg("cannot open %s (tests run from the root of the repository)", path);
    do
        assert_true(buf_reserve(&b, 65536));
    while ((b.len += fread(b.data + b.len, 1, 65536, f)) > 0 && !feof(f));
    assert_false(ferror(f));
    fclose(f);
    return b;
}

struct result {
    struct buf args, lines;
    size_t count;
    struct failure failure;
};

static struct result ingest(struct span body, enum ingest_format format)
{
    struct result r = {0};
    const struct ingest in = {.max_records = MAX_RECORDS,
                              .max_message = MAX_MESSAGE,
                              .now_ms = NOW_MS,
                              .args = &r.args,
                              .lines = &r.lines};
    r.count = ingest_body(&in, format, body, &r.failure);
    return r;
}

/* A body of the exact size, so that AddressSanitizer sees a read behind its end. */
static struct result ingest_file(const char *path)
{
    struct buf file = read_file(path);
    char *body = malloc(file.len > 0 ? file.len : 1);
    assert_non_null(body);
    if (file.len > 0)
        memcpy(body, file.data, file.len);
    struct result r = ingest((struct span){body, file.len},
                             strstr(path, ".ndjson") != NULL ? INGEST_LINES : INGEST_JSON);
    free(body);
    buf_free(&file);
    return r;
}

static void free_result(struct result *r)
{
    buf_free(&r->args);
    buf_free(&r->lines);
}

/* ---- Redis arguments ---- */

static struct span take_arg(const char **at, const char *end)
{
    char *after;
    assert_true(*at < end && **at == '$');
    unsigned long n = strtoul(*at + 1, &after, 10);
    assert_memory_equal(after, "\r\n", 2);
    struct span s = {after + 2, n};
    assert_true(s.p + n + 2 <= end);
    assert_memory_equal(s.p + n, "\r\n", 2);
    *at = s.p + n + 2;
    return s;
}

/* What the worker will make of the arguments must be what the echo prints. */
static void assert_args_are_lines(const struct result *r)
{
    struct buf lines = {0};
    const char *at = r->args.data, *end = at + r->args.len;
    for (size_t i = 0; i < r->count; i++) {
        struct record record;
        record.service = take_arg(&at, end);
        struct span level = take_arg(&at, end);
        record.level = level_parse(level.p, level.n);
        assert_int_not_equal(record.level, LEVEL_INVALID);
        assert_int_equal(level.n, strlen(level_name(record.level)));
        assert_memory_equal(level.p, level_name(record.level), level.n);
        record.message = take_arg(&at, end);
        struct span timestamp = take_arg(&at, end);
        assert_int_equal(timestamp.n, TIMESTAMP_LEN);
        assert_true(timestamp_parse(timestamp.p, timestamp.n, &record.timestamp_ms));
        record.fields = take_arg(&at, end);
        record_write_line(&lines, &record);
    }
    assert_ptr_equal(at, end);
    assert_int_equal(lines.len, r->lines.len);
    assert_memory_equal(lines.data, r->lines.data, lines.len);
    buf_free(&lines);
}

/* ---- Cases in files ---- */

static void check_valid(const char *path, const char *expect_path)
{
    struct buf expect = read_file(expect_path);
    struct result r = ingest_file(path);
    if (r.count == 0)
        fail_msg("%s: refused: %s", path, r.failure.text);
    if (r.lines.len != expect.len || memcmp(r.lines.data, expect.data, expect.len) != 0)
        fail_msg("%s: got\n%.*s", path, (int)r.lines.len, r.lines.data);
    assert_args_are_lines(&r);
    free_result(&r);
    buf_free(&expect);
}

static void check_invalid(const char *path, const char *expect_path)
{
    char head[128];
    struct buf expect = read_file(expect_path);
    struct result r = ingest_file(path);
    int n = snprintf(head, sizeof(head), "%d %ld \"%s\" ", r.failure.status, r.failure.index,
                     r.failure.field);
    assert_true(expect.len > 0 && expect.data[expect.len - 1] == '\n');
    expect.data[expect.len - 1] = '\0';
    if (r.count != 0)
        fail_msg("%s: was taken", path);
    if (strncmp(expect.data, head, (size_t)n) != 0 ||
        strstr(r.failure.text, expect.data + n) == NULL)
        fail_msg("%s: expected %s; got %s%s", path, expect.data, head, r.failure.text);
    free_result(&r);
    buf_free(&expect);
}

/* Runs `check` for each body in a directory, with its file of expectations. */
static void for_each_case(const char *dir, const char *suffix,
                          void (*check)(const char *path, const char *expect_path))
{
    size_t cases = 0;
    struct dirent *entry;
    DIR *d = opendir(dir);
    if (d == NULL)
        fail_msg("cannot open %s (tests run from the root of the repository)", dir);
    while ((entry = readdir(d)) != NULL) {
        char path[512], expect[512];
        const char *dot = strrchr(entry->d_name, '.');
        if (dot == NULL || (strcmp(dot, ".json") != 0 && strcmp(dot, ".ndjson") != 0))
            continue;
        snprintf(path, sizeof(path), "%s%s", dir, entry->d_name);
        snprintf(expect, sizeof(expect), "%s%.*s%s", dir, (int)(dot - entry->d_name), entry->d_name,
                 suffix);
        check(path, expect);
        cases++;
    }
    closedir(d);
    assert_true(cases >= 20);
}

static void test_valid_bodies_become_lines(void **state)
{
    (void)state;
    for_each_case(DATA "valid/", ".lines", check_valid);
}

static void test_invalid_bodies_name_record_and_member(void **state)
{
    (void)state;
    for_each_case(DATA "invalid/", ".expect", check_invalid);
}

/* ---- Others ---- */

/* Every prefix of a valid body is refused, and none makes the reader run past its end. */
static void test_cut_bodies_are_refused(void **state)
{
    static const char body[] = "[{\"service\":\"a\",\"level\":\"warn\",\"message\":\"\\u00e9\\\"\","
                               "\"x\":{\"y\":[1.5,\"z\"]}}]";
    (void)state;
    for (size_t n = 0; n < sizeof(body) - 1; n++) {
        char *cut = malloc(n > 0 ? n : 1);
        assert_non_null(cut);
        memcpy(cut, body, n);
        struct result r = ingest((struct span){cut, n}, INGEST_JSON);
        assert_int_equal(r.count, 0);
        assert_int_equal(r.failure.status, 400);
        free_result(&r);
        free(cut);
    }
    struct result r = ingest((struct span){body, sizeof(body) - 1}, INGEST_JSON);
    assert_int_equal(r.count, 1);
    free_result(&r);
}

static void test_echo_lines_are_optional(void **state)
{
    static const char body[] = "{\"service\":\"a\",\"level\":\"warn\",\"message\":\"m\"}";
    struct buf args = {0};
    struct failure f;
    const struct ingest in = {.max_records = 1, .max_message = 1, .now_ms = NOW_MS, .args = &args};
    (void)state;
    assert_int_equal(ingest_body(&in, INGEST_JSON, SPAN_LIT(body), &f), 1);
    assert_true(args.len > 0);
    buf_free(&args);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid_bodies_become_lines),
        cmocka_unit_test(test_invalid_bodies_name_record_and_member),
        cmocka_unit_test(test_cut_bodies_are_refused),
        cmocka_unit_test(test_echo_lines_are_optional),
    };
    return cmocka_run_group_tests_name("ingest", tests, NULL, NULL);
}
