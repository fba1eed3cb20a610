/* options-internal.h: a client's settings, parsed. */
#ifndef LC_OPTIONS_INTERNAL_H
#define LC_OPTIONS_INTERNAL_H

#include <stdbool.h>

#include "logclient.h"

#define LC_URLS_MAX 8

/* One http:// URL. */
struct lc_url {
    char *host;        /* name or address, without brackets */
    char *path;        /* begins with '/' */
    char *host_header; /* host[:port], as the Host header wants it */
    char *text;        /* as given, without a trailing slash: for messages */
    int port;
};

struct logclient_options {
    char *url;      /* the list, as given */
    char *ring_dir; /* NULL: the default directory; "off": none */
    int64_t ring_bytes;
    int64_t on_full; /* enum lc_on_full */
    int64_t block_ms;
    int64_t batch_records;
    int64_t batch_bytes;
    int64_t linger_ms;
    int64_t request_timeout_ms;
    int64_t backoff_min_ms, backoff_max_ms;
    int64_t exit_timeout_ms;
    int64_t max_message_bytes;
    int64_t adopt;  /* enum lc_switch */
    int64_t report; /* enum lc_report_to */
    uint32_t wrong; /* bit i: property i has a bad value from the environment */
    logclient_error_cb *error_cb;
    void *error_arg;
};

enum lc_on_full { LC_DROP, LC_BLOCK };
enum lc_switch { LC_OFF, LC_ON };
enum lc_report_to { LC_REPORT_OFF, LC_STDERR };

/* False, with a sentence in errbuf, when a value from the environment is bad and was not set since.
 */
bool lc_options_valid(const logclient_options_t *options, char *errbuf, size_t errlen);

/* A copy, or NULL when out of memory. */
logclient_options_t *lc_options_copy(const logclient_options_t *options);

/* New options from defaults and environment. On an error returns NULL with errno and a sentence in
 * errbuf. */
logclient_options_t *lc_options_from_environment(char *errbuf, size_t errlen);

/* Splits the url property. Returns the number of URLs, or -1 with a sentence in errbuf. */
int lc_urls_parse(const char *list, struct lc_url urls[LC_URLS_MAX], char *errbuf, size_t errlen);
void lc_urls_free(struct lc_url *urls, int count);

/* The i-th property; false when there are fewer. */
struct lc_property_info {
    const char *name, *default_text, *help;
    int64_t min, max; /* of a number; else both are 0 */
};
bool lc_property_info(size_t i, struct lc_property_info *info);

#endif
