/* accepting.h: when the server's listening sockets accept: not while there are too many
 * connections, and not for half a second after accept(2) failed. */
#ifndef COMMON_HTTP_ACCEPTING_H
#define COMMON_HTTP_ACCEPTING_H

#include <stdbool.h>
#include <stddef.h>

struct event_base;
struct evconnlistener;

#define ACCEPT_LISTENERS_MAX 16

/* One a process. */
struct acceptor {
    struct evconnlistener *listener[ACCEPT_LISTENERS_MAX];
    size_t count;
    bool full;    /* as the server says */
    bool failing; /* accept(2) failed; until the timer runs */
    bool enabled; /* what the listeners are */
    struct event *again;
};

/* False: out of memory. */
bool acceptor_init(struct acceptor *a, struct event_base *base);
void acceptor_free(struct acceptor *a);

/* A listener on a listening socket, without a callback yet; owned by the caller, to be freed before
 * or after acceptor_forget(). fd is taken even on failure. NULL: out of memory, or too many. */
struct evconnlistener *acceptor_add(struct acceptor *a, struct event_base *base, int fd);

void acceptor_set_full(struct acceptor *a, bool full);

/* Leaves all listeners alone from now on. */
void acceptor_forget(struct acceptor *a);

#endif
