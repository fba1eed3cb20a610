/* logsend.c: the command-line client: its options, and a run from beginning to end. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "client-internal.h"
#include "common/diag.h"
#include "common/options.h"
#include "logsend-input-internal.h"
#include "logsend-inspect-internal.h"
#include "logsend-run-internal.h"
#include "ringdir-internal.h"

#define ROW(name, kind, member) OPTION_ROW(name, kind, struct logsend_settings, member)

static const struct option_spec specs[] = {
    {ROW("service", OPTION_STRING, service), .letter = 's', .default_text = "logsend",
     .metavar = "NAME", .check = logsend_check_service, .help = "service that the records are of"},
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

static void on_signal(int number)
{
    (void)number;
    logsend_interrupted = 1;
}

/* ---- The client ---- */

static void on_error(logclient_t *client, logclient_status_t status, const char *text, void *arg)
{
    struct logsend_run *run = arg;
    (void)client;
    logsend_clear_progress(run);
    if (status == LOGCLIENT_RECORDS_MISSING || status == LOGCLIENT_RING_DAMAGED)
        run->incomplete = true;
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

static logclient_t *open_client(struct logsend_run *run)
{
    const char *url = run->set.url, *drain = run->set.drain;
    char why[400];
    logclient_options_t *options = lc_options_from_environment(why, sizeof(why));
    if (options == NULL)
        diag_die(errno == ENOMEM ? EXIT_ENVIRONMENT : EXIT_USAGE, "%s", why);
    if (url != NULL)
        set(options, "url", url);
    /* A full queue holds the reader of standard input back, as a pipe would. */
    set(options, "on_full", "block");
    set(options, "block_ms", "200");
    set(options, "exit_timeout_ms", "0");
    if (drain != NULL && !lc_options_drain(options, drain))
        diag_die(EXIT_ENVIRONMENT, "out of memory");
    logclient_options_set_error_cb(options, on_error, run);
    logclient_t *client = logclient_new(options, why, sizeof(why));
    if (client == NULL)
        diag_die(EXIT_ENVIRONMENT, "%s", why);
    logclient_options_free(options);
    return client;
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

static bool all_delivered(logclient_t *client)
{
    return logclient_flush(client, 0) == LOGCLIENT_OK;
}

static bool all_adopted(logclient_t *client)
{
    return atomic_load(&client->count.idle_searches) > 0;
}

static int finish(struct logsend_run *run)
{
    logclient_t *client = run->client;
    const char *drain = run->set.drain;
    bool delivered = logsend_wait_until(run, drain != NULL ? all_adopted : all_delivered);
    logsend_show_progress(run, true);
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
    return delivered && rejected == 0 && !run->failed && !(drain != NULL && run->incomplete)
               ? EXIT_OK
               : EXIT_UNDELIVERED;
}

static void check_usage(const struct logsend_settings *s, const char *message)
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
    char why[400];
    int dir = lc_ringdir_open_drain(drain, why, sizeof(why));
    if (dir < 0)
        diag_die(EXIT_ENVIRONMENT, "--drain: %s", why);
    close(dir);
}

int main(int argc, char **argv)
{
    struct logsend_run run = {0};
    struct logsend_settings *set = &run.set;
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
        logsend_operands(&run, argc - first, argv + first);
    else if (set->drain == NULL)
        logsend_lines(&run);
    return finish(&run);
}
