/* farewell.h: the last answer on a connection, written past evhttp, for connection.c.
 *
 * What the client still sends is read and thrown away for a while, since closing a socket with
 * unread input resets the connection, and a reset can overtake the answer. */
#ifndef COMMON_HTTP_FAREWELL_H
#define COMMON_HTTP_FAREWELL_H

#include <stdbool.h>

#include "common/http/failure.h"

struct bufferevent;

struct farewell {
    struct bufferevent *bev;
    bool peer_done; /* the client sends no more */
    void (*done)(void *arg);
    void *arg;
};

/* Appends the answer to the output and takes the bufferevent's callbacks over. `done` runs once
 * when the client has closed, or the connection failed; the caller ends it earlier when it takes
 * too long. Only the head is sent when is_head. False: nothing can be written, and `done` does not
 * run. */
bool farewell_begin(struct farewell *l, struct bufferevent *bev, const struct failure *f,
                    bool is_head, void (*done)(void *arg), void *arg);

/* The reason phrase of a status. */
const char *farewell_reason(int status);

#endif
