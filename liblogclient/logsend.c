/* logsend.c: the command-line client. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "common/diag.h"
#include "common/jsontext.h"
#include "common/options.h"
#include "common/record.h"
#include "common/timestamp.h"
#include "logsend-internal.h"
#include "send-internal.h"

#define POLL_MS     20
#define PROGRESS_MS 200

struct settings {
    const char *service, *url, *drain, *inspect; /* NULL: not given */
    enum level level;
    bool json, print, quiet, properties;
    int64_t timeout_ms;
};

/* A run that sends something. */
struct run {
    struct settings set;
    logclient_t *client;
    bool stuck;                  /* the queue stayed full: nothing more is read */
    bool failed;                 /* something was not sent */
    _Atomic bool progress_shown; /* and the cursor stands behind it */
};

static const char *check_service(const char *value)
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

#define ROW(name, kind, member) OPTION_ROW(name, kind, struct settings, member)

static const struct option_spec specs[] = {
    {ROW("service", OPTION_STRING, service), .letter = 's', .default_text = "logsend",
     .metavar = "NAME", .check = check_service, .help = "service that the records are of"},
    {ROW("level", OPTION_LEVEL, level), .letter = 'l', .default_text = "info", .metavar = "LEVEL",
     .help = "level of the records: " LEVEL_NAMES},
    {ROW("json", OPTION_BOOL, json), .letter = 'j', .default_text = "no",
     .help = "read whole records from standard input, one JSON object a line; service and level\n"
             "stand in for those that a record lacks"},
    {ROW("url", OPTION_STRING, url), .letter = 'u', .metavar = "URL",
     .help = "logd's URL, or several separated by commas (default: LOGCLIENT_URL, else\n"
             "http://127.0.0.1:4000)"},
    {ROW("timeout", OPTION_MS, timeout_ms), .letter = 't', .default_text = "30s", .max = 86400000,
     .metavar = "TIME", .help = "how long to wait for logd without any progress"},
    {ROW("quiet", OPTION_BOOL, quiet), .letter = 'q', .default_text = "no",
     .help = "show no progress"},
    {ROW("drain", OPTION_STRING, drain), .metavar = "DIR",
     .help = "deliver the rings that dead processes left in DIR, and exit"},
    {ROW("inspect", OPTION_STRING, inspect), .metavar = "DIR",
     .help = "list the rings in DIR: owner, records waiting; change nothing"},
    {ROW("print", OPTION_BOOL, print), .default_text = "no",
     .help = "with --inspect: print the waiting records instead, one JSON object a line"},
    {ROW("properties", OPTION_BOOL, properties), .default_text = "no",
     .help = "list the properties of the library, which LOGCLIENT_… variables set"},
};

static const struct options_program program = {
    .name = "logsend",
    .version = LOGCLIENT_VERSION,
    .usage = "logsend [OPTION…] [MESSAGE…]\n       logsend [OPTION…] < LINES\n       logsend "
             "--drain DIR\n       logsend --inspect DIR [--print]",
    .summary =
        "Sends log records to logd: one of the words given, or one a line of standard input.\n"
        "Exits with 0 when all were delivered, 1 when not, 64 for wrong usage, 69 when something "
        "is missing.",
    .specs = specs,
    .count = sizeof(specs) / sizeof(specs[0]),
    .operands = true,
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

/* ---- The client ---- */

/* So that a message gets a line of its own. */
static void clear_progress(const struct run *run)
{
    if (run->progress_shown)
        fputs("\r\033[K", stderr);
}

static void on_error(logclient_t *client, logclient_status_t status, const char *text, void *arg)
{
    (void)client;
    clear_progress(arg);
    if (status == LOGCLIENT_RING_FALLBACK)
        diag_warn("%s; what is not delivered is lost when logsend ends", text);
    else
        diag_warn("%s", text);
}

static void set(logclient_options_t *options, const char *name, const char *value)
{
    char why[400];
    if (logclient_options_set(options, name, value, why, sizeof(why)) != LOGCLIENT_OK)
        diag_die(EXIT_USAGE, "%s", why);
}

static logclient_t *open_client(struct run *run)
{
    const char *url = run->set.url, *drain = run->set.drain;
    char why[400];
    logclient_options_t *options = lc_options_from_environment(why, sizeof(why));
    if (options == NULL)
        diag_die(EXIT_USAGE, "%s", why);
    if (url != NULL)
        set(options, "url", url);
    if (drain != NULL)
        set(options, "ring_dir", drain);
    /* A full queue holds the reader of standard input back, as a pipe would. */
    set(options, "on_full", "block");
    set(options, "block_ms", "200");
    set(options, "exit_timeout_ms", "0");
    if (drain != NULL)
        set(options, "adopt", "on");
    logclient_options_set_error_cb(options, on_error, run);
    logclient_t *client = logclient_new(options, why, sizeof(why));
    if (client == NULL)
        diag_die(EXIT_ENVIRONMENT, "%s", why);
    logclient_options_free(options);
    return client;
}

/* ---- Progress ---- */

static uint64_t done(logclient_t *client)
{
    return logclient_stat(client, LOGCLIENT_STAT_DELIVERED) +
           logclient_stat(client, LOGCLIENT_STAT_REJECTED) +
           logclient_stat(client, LOGCLIENT_STAT_ADOPTED) +
           logclient_stat(client, LOGCLIENT_STAT_ADOPTED_REJECTED);
}

static void show_progress(struct run *run, bool last)
{
    static int64_t next;
    logclient_t *client = run->client;
    int64_t now = run->set.quiet ? 0 : monotonic_now_ms();
    if (run->set.quiet || (last ? !run->progress_shown : now < next))
        return;
    fprintf(stderr, "\r%" PRIu64 " sent, %" PRIu64 " delivered, %" PRIu64 " waiting \033[K%s",
            logclient_stat(client, LOGCLIENT_STAT_LOGGED) -
                logclient_stat(client, LOGCLIENT_STAT_DROPPED),
            logclient_stat(client, LOGCLIENT_STAT_DELIVERED) +
                logclient_stat(client, LOGCLIENT_STAT_ADOPTED),
            logclient_stat(client, LOGCLIENT_STAT_QUEUED), last ? "\n" : "");
    next = now + PROGRESS_MS;
    run->progress_shown = !last;
}

/* When something was delivered last, and how much it was in all. */
struct progress {
    int64_t moved_ms;
    uint64_t done;
};

static struct progress begin_progress(logclient_t *client)
{
    return (struct progress){monotonic_now_ms(), done(client)};
}

/* Whether nothing has moved for the timeout. Keeps errno. */
static bool is_still(const struct run *run, struct progress *p)
{
    uint64_t now = done(run->client);
    if (now != p->done)
        p->moved_ms = monotonic_now_ms();
    p->done = now;
    return monotonic_now_ms() - p->moved_ms >= run->set.timeout_ms;
}

/* Waits until finished() says so, or nothing has moved for the timeout, or a signal came. */
static bool wait_until(struct run *run, bool (*finished)(logclient_t *client))
{
    struct progress p = begin_progress(run->client);
    while (!finished(run->client)) {
        if (is_still(run, &p) || interrupted)
            return false;
        show_progress(run, false);
        logclient_flush(run->client, POLL_MS);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    return true;
}

static bool all_delivered(logclient_t *client)
{
    return logclient_flush(client, 0) == LOGCLIENT_OK;
}

static bool all_adopted(logclient_t *client)
{
    return atomic_load(&client->count.idle_searches) > 0;
}

/* ---- Input ---- */

/* Puts a text into the queue, which may have to drain first. False, with errno, when it could not:
 * EAGAIN when nothing has moved for the timeout, EINTR after a signal. */
static bool send_text(struct run *run, const char *of, const char *at, const char *text, size_t n,
                      unsigned flags)
{
    struct progress p = begin_progress(run->client);
    while (lc_send_bytes(run->client, of, at, text, n, flags) != 0) {
        if (errno == EAGAIN && interrupted)
            errno = EINTR;
        run->stuck = errno == EAGAIN && is_still(run, &p);
        if (errno != EAGAIN || run->stuck)
            return false;
        show_progress(run, false);
    }
    return true;
}

/* Tells of a text that could not be sent, by errno. Line 0: it was no line. */
static void report_unsent(const struct run *run, size_t line)
{
    char which[40] = "the message";
    if (line > 0)
        snprintf(which, sizeof(which), "line %zu", line);
    clear_progress(run);
    if (run->stuck)
        diag_error("%s was not sent%s: the queue stayed full for %" PRId64
                   " ms, since logd does not take records",
                   which, line > 0 ? ", nor what follows it" : "", run->set.timeout_ms);
    else
        diag_error("%s was not sent: %s", which,
                   errno == EMSGSIZE ? "the record is longer than 512 KiB" : strerror(errno));
}

static void send_message(struct run *run, const char *text, size_t n, size_t line)
{
    if (send_text(run, run->set.service, level_name(run->set.level), text, n, 0))
        return;
    report_unsent(run, line);
    run->failed = true;
}

static void send_operands(struct run *run, int count, char **words)
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
static bool send_object(struct run *run, const char *of, const char *at, struct buf *added,
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

static bool send_json_line(struct run *run, const char *text, size_t n, size_t line)
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
    good = good && member(object, "service", &of, check_service, &added, line) &&
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

static void send_lines(struct run *run)
{
    const bool json = run->set.json;
    char *text = NULL;
    size_t size = 0, line = 0;
    ssize_t n;
    while (!interrupted && !run->stuck && (n = getline(&text, &size, stdin)) >= 0) {
        line++;
        if (n > 0 && text[n - 1] == '\n')
            text[--n] = '\0';
        if (json && n > 0)
            run->failed = !send_json_line(run, text, (size_t)n, line) || run->failed;
        else if (!json)
            send_message(run, text, (size_t)n, line);
        show_progress(run, false);
    }
    if (ferror(stdin) && !interrupted) {
        diag_error("reading standard input failed: %s", strerror(errno));
        run->failed = true;
    }
    free(text);
}

/* ---- Main ---- */

static int list_properties(void)
{
    const struct option_spec *p;
    for (size_t i = 0; (p = lc_property(i)) != NULL; i++) {
        printf("%-20s %-24s %s", p->name, p->default_text[0] != '\0' ? p->default_text : "-",
               p->help);
        if (p->max > 0)
            printf(" (%" PRId64 " to %" PRId64 ")", p->min, p->max);
        puts("");
    }
    return fflush(stdout) == 0 ? EXIT_OK : EXIT_ENVIRONMENT;
}

static int finish(struct run *run)
{
    logclient_t *client = run->client;
    const char *drain = run->set.drain;
    bool delivered = wait_until(run, drain != NULL ? all_adopted : all_delivered);
    show_progress(run, true);
    uint64_t waiting = logclient_stat(client, LOGCLIENT_STAT_QUEUED);
    uint64_t rejected = logclient_stat(client, LOGCLIENT_STAT_REJECTED) +
                        logclient_stat(client, LOGCLIENT_STAT_ADOPTED_REJECTED) +
                        (drain != NULL ? logclient_stat(client, LOGCLIENT_STAT_DAMAGED) : 0);
    bool kept = client->name[0] != '\0';
    if (!delivered && drain != NULL)
        diag_error("not all rings of \"%s\" were drained; what is left is kept, try again", drain);
    else if (!delivered)
        diag_error("not delivered: %" PRIu64 " record%s, %s", waiting, waiting == 1 ? "" : "s",
                   kept ? "kept in the ring directory, for the next client or logsend --drain"
                        : "lost");
    logclient_free(client);
    return delivered && rejected == 0 && !run->failed ? EXIT_OK : EXIT_UNDELIVERED;
}

static void check_usage(const struct settings *s, const char *message)
{
    if (s->print && s->inspect == NULL)
        diag_die(EXIT_USAGE, "option --print goes with --inspect DIR");
    if (s->drain != NULL && s->inspect != NULL)
        diag_die(EXIT_USAGE, "give either --drain DIR or --inspect DIR");
    if (message != NULL && (s->drain != NULL || s->inspect != NULL || s->json || s->properties))
        diag_die(EXIT_USAGE,
                 "\"%s\": --json, --drain, --inspect and --properties take no message; options "
                 "come before the message",
                 message);
}

static void check_directory(const char *drain)
{
    DIR *there = opendir(drain);
    if (there == NULL)
        diag_die(EXIT_ENVIRONMENT, "--drain: cannot open the directory \"%s\": %s", drain,
                 strerror(errno));
    closedir(there);
}

int main(int argc, char **argv)
{
    struct run run = {0};
    struct settings *set = &run.set;
    struct sigaction action = {.sa_handler = on_signal};
    diag_init("logsend");
    int first = options_parse_or_exit(&program, set, argc, argv);
    check_usage(set, first < argc ? argv[first] : NULL);
    if (set->properties)
        return list_properties();
    if (set->inspect != NULL)
        return logsend_inspect(set->inspect, set->print);
    set->quiet = set->quiet || !isatty(STDERR_FILENO);
    if (set->drain != NULL)
        check_directory(set->drain);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    run.client = open_client(&run);
    if (set->drain == NULL && first < argc)
        send_operands(&run, argc - first, argv + first);
    else if (set->drain == NULL)
        send_lines(&run);
    return finish(&run);
}
