/* options-internal.h: a client's settings, parsed. A client owns a copy; its parts read it. */
#ifndef LC_OPTIONS_INTERNAL_H
#define LC_OPTIONS_INTERNAL_H

#include <stdbool.h>

#include "common/option.h"
#include "logclient.h"

enum lc_on_full { LC_DROP, LC_BLOCK };
enum lc_report_to { LC_REPORT_OFF, LC_STDERR };

#define LC_UNKNOWN_MAX   8 /* variables that are reported */
#define LC_UNKNOWN_BYTES 64

struct logclient_options {
    char *url;       /* the list, as given; owned, as the directories */
    char *ring_dir;  /* NULL: the default directory; "off": none */
    char *drain_dir; /* NULL: the default ones, or ring_dir. Else the only directory that is
                        searched for leftover rings, and none is made in it */
    int64_t ring_bytes;
    enum lc_on_full on_full;
    int64_t block_ms;
    int64_t batch_records;
    int64_t batch_bytes;
    int64_t linger_ms;
    int64_t request_timeout_ms;
    int64_t backoff_min_ms, backoff_max_ms;
    int64_t exit_timeout_ms;
    int64_t max_message_bytes;
    bool adopt;
    enum lc_report_to report;
    uint32_t wrong; /* bit i: property i has a bad value from the environment */
    /* Variables of the environment that look like the library's and are not, cut, without
     * LOGCLIENT_; empty: no more. */
    char unknown[LC_UNKNOWN_MAX][LC_UNKNOWN_BYTES];
    logclient_error_cb *error_cb;
    void *error_arg;
};

/* False, with a sentence in errbuf, when a bad value from the environment was not set since. */
bool lc_options_valid(const logclient_options_t *options, char *errbuf, size_t errlen);

/* The i-th sentence about a variable of the environment that begins with LOGCLIENT_ and sets
 * nothing: a slip of the pen would else pass in silence. False when there are fewer. */
bool lc_options_unknown(const logclient_options_t *options, size_t i, char *text, size_t size);

/* For logsend --drain: leftover rings are looked for in this directory only, which may be another
 * user's when root asks; the client's own ring is in memory. False when out of memory. */
bool lc_options_drain(logclient_options_t *options, const char *dir);

/* A copy, or NULL when out of memory. */
logclient_options_t *lc_options_copy(const logclient_options_t *options);

/* New options from defaults and environment. On an error returns NULL with errno and a sentence in
 * errbuf. */
logclient_options_t *lc_options_from_environment(char *errbuf, size_t errlen);

/* The i-th property, or NULL when there are fewer. */
const struct option_spec *lc_property(size_t i);

#endif
