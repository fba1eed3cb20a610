/* The table of properties, which also yields the environment variables. */
#include "options-internal.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ring-internal.h"

enum kind { TEXT, URLS, NUMBER, BYTES, CHOICE };

struct property {
    const char *name;
    enum kind kind;
    size_t offset; /* in struct logclient_options */
    const char *default_text;
    int64_t min, max;
    const char *const *choices; /* of CHOICE, by value; ends with NULL */
    const char *help;
};

static const char *const on_full_names[] = {"drop", "block", NULL};
static const char *const report_names[] = {"off", "stderr", NULL};
static const char *const switch_names[] = {"off", "on", NULL};

#define FIELD(f) offsetof(struct logclient_options, f)
#define DAY_MS   86400000

static const struct property properties[] = {
    {"url", URLS, FIELD(url), "http://127.0.0.1:4000", 0, 0, NULL,
     "logd's URL, or several separated by commas, tried in turn"},
    {"ring_dir", TEXT, FIELD(ring_dir), "", 0, 0, NULL,
     "directory for ring files; empty: a private one in $XDG_RUNTIME_DIR or /dev/shm; off: memory "
     "only"},
    {"ring_bytes", BYTES, FIELD(ring_bytes), "64m", LC_RING_MIN_BYTES, LC_RING_MAX_BYTES, NULL,
     "size of the queue, rounded up to a power of two"},
    {"on_full", CHOICE, FIELD(on_full), "drop", 0, 0, on_full_names,
     "when the queue is full: drop the new record, or block"},
    {"block_ms", NUMBER, FIELD(block_ms), "1000", 1, DAY_MS, NULL,
     "with on_full=block: how long a call may wait"},
    {"batch_records", NUMBER, FIELD(batch_records), "1000", 1, 10000, NULL,
     "records in a batch, at most"},
    {"batch_bytes", BYTES, FIELD(batch_bytes), "512k", 1024, 64 << 20, NULL,
     "bytes of a batch after which no record is added"},
    {"linger_ms", NUMBER, FIELD(linger_ms), "5", 1, 60000, NULL,
     "how long a record may wait for others to share its batch"},
    {"request_timeout_ms", NUMBER, FIELD(request_timeout_ms), "10000", 1, DAY_MS, NULL,
     "how long an answer may take; then the batch is halved and sent again"},
    {"backoff_min_ms", NUMBER, FIELD(backoff_min_ms), "100", 1, DAY_MS, NULL,
     "first wait after a failure; doubles, with jitter"},
    {"backoff_max_ms", NUMBER, FIELD(backoff_max_ms), "10000", 1, DAY_MS, NULL,
     "longest wait after a failure"},
    {"exit_timeout_ms", NUMBER, FIELD(exit_timeout_ms), "2000", 0, DAY_MS, NULL,
     "how long exit and logclient_free() deliver what is queued"},
    {"max_message_bytes", BYTES, FIELD(max_message_bytes), "64k", 1, 256 << 10, NULL,
     "longer messages are cut"},
    {"adopt", CHOICE, FIELD(adopt), "on", 0, 0, switch_names,
     "deliver the rings that dead processes left in ring_dir"},
    {"report", CHOICE, FIELD(report), "off", 0, 0, report_names,
     "stderr: print what the error callback would be told, when there is none"},
};

#define COUNT (sizeof(properties) / sizeof(properties[0]))

static int64_t *number_at(logclient_options_t *o, const struct property *p)
{
    return (int64_t *)(void *)((char *)o + p->offset);
}

static char **text_at(logclient_options_t *o, const struct property *p)
{
    return (char **)(void *)((char *)o + p->offset);
}

static void complain(char *errbuf, size_t errlen, const struct property *p, const char *value,
                     const char *remedy)
{
    if (errbuf != NULL && errlen > 0)
        snprintf(errbuf, errlen, "%s: \"%.60s\" %s", p->name, value, remedy);
}

static logclient_status_t set_number(logclient_options_t *o, const struct property *p,
                                     const char *value, char *errbuf, size_t errlen)
{
    char *end;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    int shift = 0;
    if (p->kind == BYTES && *end != '\0' && end[1] == '\0') {
        const char *suffix = strchr("kmg", tolower((unsigned char)*end));
        shift = suffix == NULL ? 0 : 10 * (int)(suffix - "kmg" + 1);
    }
    bool valid = isdigit((unsigned char)value[0]) && errno == 0 && (shift > 0 || *end == '\0') &&
                 n <= INT64_MAX >> shift;
    n = valid ? n << shift : 0;
    if (valid && n >= p->min && n <= p->max) {
        *number_at(o, p) = n;
        return LOGCLIENT_OK;
    }
    char remedy[160];
    snprintf(remedy, sizeof(remedy), "is not %s from %lld to %lld; for example %s",
             p->kind == BYTES ? "a number of bytes (k, m and g are allowed)" : "a whole number",
             (long long)p->min, (long long)p->max, p->default_text);
    complain(errbuf, errlen, p, value, remedy);
    return LOGCLIENT_BAD_VALUE;
}

static logclient_status_t set_choice(logclient_options_t *o, const struct property *p,
                                     const char *value, char *errbuf, size_t errlen)
{
    for (int i = 0; p->choices[i] != NULL; i++) {
        if (strcmp(value, p->choices[i]) == 0) {
            *number_at(o, p) = i;
            return LOGCLIENT_OK;
        }
    }
    char remedy[80];
    snprintf(remedy, sizeof(remedy), "must be %s or %s", p->choices[0], p->choices[1]);
    complain(errbuf, errlen, p, value, remedy);
    return LOGCLIENT_BAD_VALUE;
}

static logclient_status_t set_text(logclient_options_t *o, const struct property *p,
                                   const char *value, char *errbuf, size_t errlen)
{
    if (p->kind == URLS) {
        struct lc_url urls[LC_URLS_MAX];
        char why[256];
        int count = lc_urls_parse(value, urls, why, sizeof(why));
        if (count < 0) {
            complain(errbuf, errlen, p, value, why);
            return LOGCLIENT_BAD_VALUE;
        }
        lc_urls_free(urls, count);
    }
    char *copy = NULL;
    if (value[0] != '\0' && (copy = strdup(value)) == NULL)
        return LOGCLIENT_NO_MEMORY;
    free(*text_at(o, p));
    *text_at(o, p) = copy;
    return LOGCLIENT_OK;
}

static logclient_status_t set(logclient_options_t *o, const struct property *p, const char *value,
                              char *errbuf, size_t errlen)
{
    switch (p->kind) {
    case NUMBER:
    case BYTES:
        return set_number(o, p, value, errbuf, errlen);
    case CHOICE:
        return set_choice(o, p, value, errbuf, errlen);
    case TEXT:
    case URLS:
        break;
    }
    return set_text(o, p, value, errbuf, errlen);
}

logclient_status_t logclient_options_set(logclient_options_t *options, const char *name,
                                         const char *value, char *errbuf, size_t errlen)
{
    for (size_t i = 0; i < COUNT; i++) {
        if (strcmp(properties[i].name, name) != 0)
            continue;
        logclient_status_t status = set(options, &properties[i], value, errbuf, errlen);
        if (status == LOGCLIENT_OK)
            options->wrong &= ~((uint32_t)1 << i);
        return status;
    }
    if (errbuf != NULL && errlen > 0)
        snprintf(errbuf, errlen, "there is no property \"%.60s\"; logclient(3) lists them", name);
    return LOGCLIENT_UNKNOWN_PROPERTY;
}

/* Overrides a property from LOGCLIENT_NAME. secure_getenv(3): a set-user-id program must not be
 * told where to write. */
static logclient_status_t set_from_environment(logclient_options_t *o, const struct property *p,
                                               char *errbuf, size_t errlen)
{
    char variable[64] = "LOGCLIENT_", why[320];
    size_t n = strlen(variable);
    for (const char *c = p->name; *c != '\0'; c++)
        variable[n++] = (char)toupper((unsigned char)*c);
    variable[n] = '\0';
    const char *value = secure_getenv(variable);
    if (value == NULL)
        return LOGCLIENT_OK;
    logclient_status_t status = set(o, p, value, why, sizeof(why));
    if (status == LOGCLIENT_BAD_VALUE && errbuf != NULL && errlen > 0)
        snprintf(errbuf, errlen, "environment variable %s: %s", variable, why);
    return status;
}

logclient_options_t *logclient_options_new(void)
{
    logclient_options_t *o = calloc(1, sizeof(*o));
    if (o == NULL)
        return NULL;
    for (size_t i = 0; i < COUNT; i++) {
        logclient_status_t status = set(o, &properties[i], properties[i].default_text, NULL, 0);
        if (status == LOGCLIENT_OK)
            status = set_from_environment(o, &properties[i], NULL, 0);
        if (status == LOGCLIENT_BAD_VALUE)
            o->wrong |= (uint32_t)1 << i; /* until it is set; a client is not made before */
        else if (status != LOGCLIENT_OK) {
            logclient_options_free(o);
            return NULL;
        }
    }
    return o;
}

bool lc_options_valid(const logclient_options_t *options, char *errbuf, size_t errlen)
{
    for (size_t i = 0; i < COUNT; i++) {
        if ((options->wrong & (uint32_t)1 << i) == 0)
            continue;
        logclient_options_t scratch = {0};
        set_from_environment(&scratch, &properties[i], errbuf, errlen);
        free(scratch.url);
        free(scratch.ring_dir);
        return false;
    }
    return true;
}

logclient_options_t *lc_options_from_environment(char *errbuf, size_t errlen)
{
    logclient_options_t *o = logclient_options_new();
    if (o == NULL && errbuf != NULL && errlen > 0)
        snprintf(errbuf, errlen, "out of memory");
    if (o == NULL || lc_options_valid(o, errbuf, errlen))
        return o;
    logclient_options_free(o);
    errno = EINVAL;
    return NULL;
}

void logclient_options_set_error_cb(logclient_options_t *options, logclient_error_cb *cb, void *arg)
{
    options->error_cb = cb;
    options->error_arg = arg;
}

logclient_options_t *lc_options_copy(const logclient_options_t *options)
{
    logclient_options_t *copy = malloc(sizeof(*copy));
    if (copy == NULL)
        return NULL;
    *copy = *options;
    copy->url = strdup(options->url);
    copy->ring_dir = options->ring_dir == NULL ? NULL : strdup(options->ring_dir);
    if (copy->url != NULL && (copy->ring_dir != NULL) == (options->ring_dir != NULL))
        return copy;
    logclient_options_free(copy);
    return NULL;
}

void logclient_options_free(logclient_options_t *options)
{
    if (options == NULL)
        return;
    free(options->url);
    free(options->ring_dir);
    free(options);
}

bool lc_property_info(size_t i, struct lc_property_info *info)
{
    if (i >= COUNT)
        return false;
    const struct property *p = &properties[i];
    *info = (struct lc_property_info){p->name, p->default_text, p->help, p->min, p->max};
    return true;
}
