/* logsend-input.c: turns words and lines into records, and puts them into the queue. */
#include "logsend-input-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "common/diag.h"
#include "common/jsontext.h"
#include "common/record.h"
#include "common/timestamp.h"
#include "send-internal.h"

const char *logsend_check_service(const char *value)
{
    static char text[128];
    const char *error = record_service_error(value, strlen(value));
    if (error == NULL)
        return NULL;
    snprintf(text, sizeof(text), "%s; a service has 1 to %d bytes without control characters",
             error, RECORD_SERVICE_MAX);
    return text;
}

static const char *check_level(const char *value)
{
    return level_parse(value, strlen(value)) == LEVEL_INVALID ? "is no level; use " LEVEL_NAMES
                                                              : NULL;
}

/* Puts a text into the queue, which may have to drain first. False, with errno, when it could not:
 * EAGAIN when nothing has moved for the timeout, EINTR after a signal. */
static bool send_text(struct logsend_run *run, const char *of, const char *at, const char *text,
                      size_t n, unsigned flags)
{
    struct logsend_progress p = logsend_begin_progress(run->client);
    while (lc_send_bytes(run->client, of, at, text, n, flags) != 0) {
        if (errno == EAGAIN && logsend_interrupted)
            errno = EINTR;
        run->stuck = errno == EAGAIN && logsend_is_still(run, &p);
        if (errno != EAGAIN || run->stuck)
            return false;
        logsend_show_progress(run, false);
    }
    return true;
}

/* Tells of a text that could not be sent, by errno. Line 0: it was no line. */
static void report_unsent(const struct logsend_run *run, size_t line)
{
    char which[40] = "the message";
    if (line > 0)
        snprintf(which, sizeof(which), "line %zu", line);
    logsend_clear_progress(run);
    if (run->stuck)
        diag_error("%s was not sent%s: the queue stayed full for %" PRId64
                   " ms, since logd does not take records",
                   which, line > 0 ? ", nor what follows it" : "", run->set.timeout_ms);
    else
        diag_error("%s was not sent: %s", which,
                   errno == EMSGSIZE ? "the record is longer than 512 KiB" : strerror(errno));
}

static void send_message(struct logsend_run *run, const char *text, size_t n, size_t line)
{
    if (send_text(run, run->set.service, level_name(run->set.level), text, n, 0))
        return;
    report_unsent(run, line);
    run->failed = true;
}

void logsend_operands(struct logsend_run *run, int count, char **words)
{
    struct buf text = {0};
    for (int i = 0; i < count; i++)
        buf_printf(&text, "%s%s", i > 0 ? " " : "", words[i]);
    if (text.failed)
        diag_die(EXIT_ENVIRONMENT, "out of memory");
    send_message(run, text.len > 0 ? text.data : "", text.len, 0);
    buf_free(&text);
}

/* Checks a text member; when it is missing, adds it to `added` with the text *value, else sets
 * *value to its text. False, with a message, when it is of another type or wrong. */
static bool member(const json_t *object, const char *name, const char **value,
                   const char *(*check)(const char *), struct buf *added, size_t line)
{
    const json_t *found = json_object_get(object, name);
    if (found == NULL) {
        buf_printf(added, "\"%s\":", name);
        jsontext_string(added, *value, strlen(*value));
        buf_add_char(added, ',');
        return true;
    }
    if (!json_is_string(found)) {
        diag_error("line %zu: \"%s\" must be a string", line, name);
        return false;
    }
    *value = json_string_value(found);
    const char *wrong = check == NULL ? NULL : check(*value);
    if (wrong != NULL)
        diag_error("line %zu: \"%s\": \"%.60s\" %s", line, name, *value, wrong);
    return wrong == NULL;
}

/* Puts a checked object into the ring as it was written, behind what was added; logd checks the
 * rest. False with errno. */
static bool send_object(struct logsend_run *run, const char *of, const char *at, struct buf *added,
                        struct span text, bool empty)
{
    const char *members = (const char *)memchr(text.p, '{', text.n) + 1;
    if (added->len > 0 && empty)
        added->len--; /* no comma before nothing */
    struct buf whole = {0};
    buf_add_char(&whole, '{');
    buf_add(&whole, added->data, added->len);
    buf_add(&whole, members, (size_t)(text.p + text.n - members));
    bool sent = false;
    if (whole.failed || added->failed)
        errno = ENOMEM;
    else if (whole.len > LC_JSON_MAX)
        errno = EMSGSIZE;
    else
        sent = send_text(run, of, at, whole.data, whole.len, LC_FLAG_JSON);
    int saved = errno;
    buf_free(&whole);
    errno = saved;
    return sent;
}

static bool send_json_line(struct logsend_run *run, const char *text, size_t n, size_t line)
{
    json_error_t error;
    json_t *object = json_loadb(
        text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    if (object == NULL) {
        diag_error("line %zu: not JSON: %s (column %d); one object a line is wanted", line,
                   error.text, error.column);
        return false;
    }
    char now[TIMESTAMP_LEN + 1] = "";
    timestamp_format(timestamp_now_ms(), now);
    const char *of = run->set.service, *at = level_name(run->set.level);
    const char *message = "", *timestamp = now;
    struct buf added = {0};
    bool good = json_is_object(object);
    if (!good)
        diag_error("line %zu: not an object; one object a line is wanted", line);
    good = good && member(object, "service", &of, logsend_check_service, &added, line) &&
           member(object, "level", &at, check_level, &added, line) &&
           member(object, "message", &message, NULL, &added, line) &&
           member(object, "timestamp", &timestamp, NULL, &added, line);
    if (good &&
        !send_object(run, of, at, &added, (struct span){text, n}, json_object_size(object) == 0)) {
        report_unsent(run, line);
        good = false;
    }
    buf_free(&added);
    json_decref(object);
    return good;
}

void logsend_lines(struct logsend_run *run)
{
    const bool json = run->set.json;
    char *text = NULL;
    size_t size = 0, line = 0;
    ssize_t n;
    while (!logsend_interrupted && !run->stuck && (n = getline(&text, &size, stdin)) >= 0) {
        line++;
        if (n > 0 && text[n - 1] == '\n')
            text[--n] = '\0';
        if (json && n > 0)
            run->failed = !send_json_line(run, text, (size_t)n, line) || run->failed;
        else if (!json)
            send_message(run, text, (size_t)n, line);
        logsend_show_progress(run, false);
    }
    if (ferror(stdin) && !logsend_interrupted) {
        diag_error("reading standard input failed: %s", strerror(errno));
        run->failed = true;
    }
    free(text);
}
