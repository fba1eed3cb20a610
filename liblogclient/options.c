/* options.c: the table of properties, and a client's settings as the public API sees them. */
#include "options-internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "ring-internal.h"
#include "url-internal.h"

/* A property has the name of its member. */
#define ROW(kind, member) OPTION_ROW(#member, kind, struct logclient_options, member)
#define DAY_MS            86400000
#define PREFIX            "LOGCLIENT_"
#define PREFIX_BYTES      (sizeof(PREFIX) - 1)

static const char *check_urls(const char *value)
{
    struct lc_url urls[LC_URLS_MAX];
    const char *why = NULL;
    int count = lc_urls_parse(value, urls, &why);
    lc_urls_free(urls, count);
    return why;
}

static const struct option_spec properties[] = {
    {ROW(OPTION_STRING, url), .default_text = "http://127.0.0.1:4000", .check = check_urls,
     .help = "logd's URL, or several separated by commas, tried in turn"},
    {ROW(OPTION_STRING, ring_dir), .default_text = "",
     .help = "directory for ring files; empty: a private one in the runtime directory or /dev/shm; "
             "off: "
             "memory only"},
    {ROW(OPTION_BYTES, ring_bytes), .default_text = "64m", .min = LC_RING_MIN_BYTES,
     .max = LC_RING_MAX_BYTES, .help = "size of the queue, rounded up to a power of two"},
    {ROW(OPTION_CHOICE, on_full), .default_text = "drop",
     .choices = OPTION_CHOICES({"drop", LC_DROP}, {"block", LC_BLOCK}),
     .help = "when the queue is full: drop the new record, or block"},
    {ROW(OPTION_NUMBER, block_ms), .default_text = "1000", .min = 1, .max = DAY_MS,
     .help = "with on_full=block: how long a call may wait"},
    {ROW(OPTION_NUMBER, batch_records), .default_text = "1000", .min = 1, .max = 10000,
     .help = "records in a batch, at most"},
    {ROW(OPTION_BYTES, batch_bytes), .default_text = "512k", .min = 1024, .max = 64 << 20,
     .help = "bytes of a batch after which no record is added"},
    {ROW(OPTION_NUMBER, linger_ms), .default_text = "5", .min = 1, .max = 60000,
     .help = "how long a record may wait for others to share its batch"},
    {ROW(OPTION_NUMBER, request_timeout_ms), .default_text = "10000", .min = 1, .max = DAY_MS,
     .help = "how long an answer may take; then the batch is halved and sent again"},
    {ROW(OPTION_NUMBER, backoff_min_ms), .default_text = "100", .min = 1, .max = DAY_MS,
     .help = "first wait after a failure; doubles, with jitter"},
    {ROW(OPTION_NUMBER, backoff_max_ms), .default_text = "10000", .min = 1, .max = DAY_MS,
     .help = "longest wait after a failure"},
    {ROW(OPTION_NUMBER, exit_timeout_ms), .default_text = "2000", .max = DAY_MS,
     .help = "how long exit and logclient_free() deliver what is queued"},
    {ROW(OPTION_BYTES, max_message_bytes), .default_text = "64k", .min = 1, .max = 256 << 10,
     .help = "longer messages are cut"},
    {ROW(OPTION_BOOL, adopt), .default_text = "on",
     .help = "deliver the rings that dead processes of this user left"},
    {ROW(OPTION_CHOICE, report), .default_text = "off",
     .choices = OPTION_CHOICES({"off", LC_REPORT_OFF}, {"stderr", LC_STDERR}),
     .help = "stderr: print what the error callback would be told, when there is none"},
};

#define COUNT (sizeof(properties) / sizeof(properties[0]))

/* ---- Names that are none ---- */

/* How many letters must be changed, added or left out to make one name of the other; case does not
 * matter. `other` is a property's. */
static size_t distance(const char *name, const char *other)
{
    size_t row[32], n = strlen(other);
    for (size_t i = 0; i <= n; i++)
        row[i] = i;
    for (; *name != '\0'; name++) {
        size_t corner = row[0]++;
        for (size_t i = 1; i <= n; i++) {
            size_t same = corner + (strncasecmp(name, &other[i - 1], 1) != 0);
            corner = row[i];
            size_t least = row[i - 1] < row[i] ? row[i - 1] + 1 : row[i] + 1;
            row[i] = same < least ? same : least;
        }
    }
    return row[n];
}

/* The property that is meant, or NULL when none is near. */
static const char *nearest(const char *name)
{
    const char *found = NULL;
    size_t best = strlen(name) / 4 + 2;
    for (size_t i = 0; i < COUNT; i++) {
        size_t d = distance(name, properties[i].name);
        if (d < best) {
            best = d;
            found = properties[i].name;
        }
    }
    return found;
}

static bool is_property(const char *upper, size_t length)
{
    char variable[64];
    for (size_t i = 0; i < COUNT; i++) {
        option_env_name(variable, sizeof(variable), "logclient", properties[i].name);
        if (strlen(variable) == length && memcmp(variable, upper, length) == 0)
            return true;
    }
    return false;
}

/* Notes the variables that begin as the library's do and are none of them. A set-user-id program
 * takes nothing from the environment, so there is nothing to say. */
static void note_unknown(logclient_options_t *o)
{
    size_t count = 0;
    if (environ == NULL || getauxval(AT_SECURE) != 0)
        return;
    for (char **v = environ; *v != NULL && count < LC_UNKNOWN_MAX; v++) {
        size_t length = strcspn(*v, "=");
        if (length <= PREFIX_BYTES || strncmp(*v, PREFIX, PREFIX_BYTES) != 0 ||
            is_property(*v, length))
            continue;
        char *out = o->unknown[count++];
        for (size_t i = PREFIX_BYTES; i < length && i < PREFIX_BYTES + LC_UNKNOWN_BYTES - 1; i++)
            *out++ = (*v)[i] > ' ' && (*v)[i] < 0x7f ? (*v)[i] : '?';
    }
}

bool lc_options_unknown(const logclient_options_t *o, size_t i, char *text, size_t size)
{
    if (i >= LC_UNKNOWN_MAX || o->unknown[i][0] == '\0')
        return false;
    const char *name = o->unknown[i], *near = nearest(name);
    char meant[64], hint[96] = "unset it; logclient(3) lists the properties";
    if (near != NULL) {
        option_env_name(meant, sizeof(meant), "logclient", near);
        snprintf(hint, sizeof(hint), "did you mean %s?", meant);
    }
    snprintf(text, size, "environment variable " PREFIX "%s sets no property: %s", name, hint);
    return true;
}

/* ---- Values ---- */

/* Sets a property; texts are copied, and an empty one becomes NULL. */
static logclient_status_t set(logclient_options_t *o, const struct option_spec *p,
                              const char *source, const char *value, char *errbuf, size_t errlen)
{
    char **text = p->type == OPTION_STRING ? option_member(p, o) : NULL;
    char *old = text != NULL ? *text : NULL;
    int saved = errno;
    errno = 0;
    bool good = option_set(p, o, source, value, errbuf, errlen), full = errno == ENOMEM;
    errno = saved;
    if (!good)
        return full ? LOGCLIENT_NO_MEMORY : LOGCLIENT_BAD_VALUE;
    if (text == NULL)
        return LOGCLIENT_OK;
    *text = value[0] != '\0' ? strdup(value) : NULL;
    if (*text == NULL && value[0] != '\0') {
        *text = old;
        return LOGCLIENT_NO_MEMORY;
    }
    free(old);
    return LOGCLIENT_OK;
}

__attribute__((format(printf, 3, 4))) static void explain(char *errbuf, size_t errlen,
                                                          const char *format, ...)
{
    va_list args;
    if (errbuf == NULL || errlen == 0)
        return;
    va_start(args, format);
    vsnprintf(errbuf, errlen, format, args);
    va_end(args);
}

static logclient_status_t refuse_name(const char *name, char *errbuf, size_t errlen)
{
    const char *near = name != NULL ? nearest(name) : NULL;
    if (name == NULL)
        explain(errbuf, errlen, "the name of a property is NULL; logclient(3) lists them");
    else if (near != NULL)
        explain(errbuf, errlen, "there is no property \"%.60s\"; did you mean \"%s\"?", name, near);
    else
        explain(errbuf, errlen, "there is no property \"%.60s\"; logclient(3) lists them", name);
    return LOGCLIENT_UNKNOWN_PROPERTY;
}

logclient_status_t logclient_options_set(logclient_options_t *options, const char *name,
                                         const char *value, char *errbuf, size_t errlen)
{
    if (options == NULL) {
        explain(errbuf, errlen, "there are no options to set: out of memory");
        return LOGCLIENT_NO_MEMORY;
    }
    size_t i = 0;
    while (i < COUNT && (name == NULL || strcmp(properties[i].name, name) != 0))
        i++;
    if (i == COUNT)
        return refuse_name(name, errbuf, errlen);
    if (value == NULL) {
        explain(errbuf, errlen, "%s: the value is NULL: give a text", name);
        return LOGCLIENT_BAD_VALUE;
    }
    logclient_status_t status = set(options, &properties[i], name, value, errbuf, errlen);
    if (status == LOGCLIENT_OK)
        options->wrong &= ~((uint32_t)1 << i);
    else if (status == LOGCLIENT_NO_MEMORY)
        explain(errbuf, errlen, "%s: out of memory", name);
    return status;
}

/* Overrides a property from LOGCLIENT_NAME. secure_getenv(3): a set-user-id program must not be
 * told where to write. */
static logclient_status_t set_from_environment(logclient_options_t *o, const struct option_spec *p,
                                               char *errbuf, size_t errlen)
{
    char variable[64], source[128];
    option_env_name(variable, sizeof(variable), "logclient", p->name);
    snprintf(source, sizeof(source), "environment variable %s: %s", variable, p->name);
    const char *value = secure_getenv(variable);
    return value == NULL ? LOGCLIENT_OK : set(o, p, source, value, errbuf, errlen);
}

logclient_options_t *logclient_options_new(void)
{
    logclient_options_t *o = calloc(1, sizeof(*o));
    if (o == NULL)
        return NULL;
    for (size_t i = 0; i < COUNT; i++) {
        const struct option_spec *p = &properties[i];
        logclient_status_t status = set(o, p, p->name, p->default_text, NULL, 0);
        if (status == LOGCLIENT_OK)
            status = set_from_environment(o, p, NULL, 0);
        if (status == LOGCLIENT_BAD_VALUE)
            o->wrong |= (uint32_t)1 << i; /* until it is set; a client is not made before */
        else if (status != LOGCLIENT_OK) {
            logclient_options_free(o);
            errno = ENOMEM;
            return NULL;
        }
    }
    note_unknown(o);
    return o;
}

bool lc_options_valid(const logclient_options_t *options, char *errbuf, size_t errlen)
{
    for (size_t i = 0; i < COUNT; i++) {
        if ((options->wrong & (uint32_t)1 << i) == 0)
            continue;
        logclient_options_t scratch = {0};
        explain(errbuf, errlen, "%s: its value in the environment was not valid",
                properties[i].name);
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
    if (o == NULL)
        explain(errbuf, errlen, "out of memory");
    if (o == NULL || lc_options_valid(o, errbuf, errlen))
        return o;
    logclient_options_free(o);
    errno = EINVAL;
    return NULL;
}

void logclient_options_set_error_cb(logclient_options_t *options, logclient_error_cb *cb, void *arg)
{
    if (options == NULL)
        return;
    options->error_cb = cb;
    options->error_arg = arg;
}

bool lc_options_drain(logclient_options_t *options, const char *dir)
{
    char *copy = strdup(dir);
    if (copy == NULL ||
        logclient_options_set(options, "ring_dir", "off", NULL, 0) != LOGCLIENT_OK) {
        free(copy);
        return false;
    }
    free(options->drain_dir);
    options->drain_dir = copy;
    options->adopt = true;
    return true;
}

/* A copy of a text that may be NULL. False when out of memory. */
static bool copy_text(char **out, const char *text)
{
    *out = text == NULL ? NULL : strdup(text);
    return text == NULL || *out != NULL;
}

logclient_options_t *lc_options_copy(const logclient_options_t *options)
{
    logclient_options_t *copy = malloc(sizeof(*copy));
    if (copy == NULL)
        return NULL;
    *copy = *options;
    bool url = copy_text(&copy->url, options->url);
    bool ring = copy_text(&copy->ring_dir, options->ring_dir);
    bool drain = copy_text(&copy->drain_dir, options->drain_dir);
    if (url && ring && drain)
        return copy;
    logclient_options_free(copy);
    errno = ENOMEM;
    return NULL;
}

void logclient_options_free(logclient_options_t *options)
{
    if (options == NULL)
        return;
    free(options->url);
    free(options->ring_dir);
    free(options->drain_dir);
    free(options);
}

const struct option_spec *lc_property(size_t i)
{
    return i < COUNT ? &properties[i] : NULL;
}
