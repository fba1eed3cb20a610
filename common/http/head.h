/* head.h: the headers of a request that mean something: those that say where its body ends and what
 * it is, and those that the program asks for. */
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
    HEAD_NAMES,
};

#define HEAD_OWN_MAX 8

/* Zero-initialised, then filled by head_take(). Values are borrowed; NULL: not sent. */
struct head {
    const char *value[HEAD_NAMES];
    const char *own[HEAD_OWN_MAX]; /* of the program's names, by their index */
    const char *repeated;          /* a name that was sent more than once; NULL: none */
    bool bad_name;                 /* a name holds white space or control characters */
};

/* One header. `own` are the program's names: at most HEAD_OWN_MAX, then NULL, borrowed as long as
 * the head; or NULL. */
void head_take(struct head *h, const char *const *own, const char *name, const char *value);

/* Whether the framing is one that nobody between the client and the server can read in another way
 * (doc/protocol.md, section 2.3), and no header above was sent twice; else *f is set and the
 * connection must be closed. `has_body` says whether the HTTP library reads a body with this
 * method. */
bool head_framing_ok(const struct head *h, bool has_body, struct failure *f);

#endif
