/* head.h: the headers of a request that mean something to logd. */
#ifndef COMMON_HTTP_HEAD_H
#define COMMON_HTTP_HEAD_H

#include <stdbool.h>

#include "common/http/failure.h"

enum head_name {
    HEAD_HOST,
    HEAD_CONTENT_LENGTH,
    HEAD_CONTENT_TYPE,
    HEAD_CONTENT_ENCODING,
    HEAD_TRANSFER_ENCODING,
    HEAD_LOG_PRODUCER,
    HEAD_LOG_SEQUENCE,
    HEAD_LOG_SKIP,
    HEAD_NAMES,
};

/* Zero-initialised, then filled by head_take(). */
struct head {
    const char *value[HEAD_NAMES]; /* the first of each name, borrowed; NULL: not sent */
    unsigned repeated;             /* bit 1 << name: sent more than once */
    bool bad_name;                 /* a name holds white space or control characters */
};

void head_take(struct head *h, const char *name, const char *value);

/* Whether the framing is one that nobody between the client and logd can read in another way
 * (doc/protocol.md, section 2.3); else *f is set and the connection must be closed. `has_body` says
 * whether the HTTP library reads a body with this method. */
bool head_framing_ok(const struct head *h, bool has_body, struct failure *f);

enum head_media {
    MEDIA_JSON,
    MEDIA_LINES,
};

/* Finds out the format of the body; false with *f set (415) when logd does not take it. */
bool head_media(const struct head *h, enum head_media *media, struct failure *f);

#endif
