/* connection.h: what logd knows of each HTTP connection: its state, what has arrived, and how it
 * ends. Only http.c includes it.
 *
 * evhttp reads and writes on a bufferevent that belongs to us, so that its buffers can be watched:
 * the first byte of a request starts its deadline, and an error page that evhttp writes on its own
 * is replaced by an answer of ours. */
#ifndef COMMON_HTTP_CONNECTION_H
#define COMMON_HTTP_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include "common/http/chunks.h"
#include "common/http/deadlines.h"
#include "common/http/failure.h"
#include "common/http/farewell.h"
#include "common/http/server.h"

#define CONN_HEAD_MAX 16384 /* bytes of request line and headers */

struct bufferevent;
struct evhttp_connection;
struct evhttp_request;

enum conn_state {
    CONN_IDLE,      /* no byte of the next request is here */
    CONN_READING,   /* a request is arriving; what evhttp writes now is an error page of its own */
    CONN_WRITING,   /* the answer is being written */
    CONN_LINGERING, /* the last answer is written by us, evhttp is cut off; reads and throws away so
                       that the client sees the answer rather than a reset */
    /* Without a deadline: */
    CONN_NEW,      /* accepted, evhttp has not told us its connection yet */
    CONN_HANDLING, /* a request is complete and waits for its answer */
};

struct http_exchange {
    struct http_server *server;
    struct conn_pool *pool;
    enum conn_state state;
    struct deadline deadline;
    struct bufferevent *bev;
    struct evhttp_connection *evcon; /* NULL in CONN_NEW */
    struct evhttp_request *req;      /* in CONN_HANDLING */
    bool is_head;                    /* the request is a HEAD */
    struct farewell farewell;        /* in CONN_LINGERING */
    size_t received;                 /* bytes of the request so far */
    struct chunks chunks;            /* of the request that is arriving */
    bool bad_chunks;                 /* they are malformed */
    int page_status; /* evhttp has written an error page with this status; 0: none */
    size_t page_at;  /* where in the output it begins */
    bool overload;   /* max_reading was passed while this request arrived */
    bool on_agenda;
    TAILQ_ENTRY(http_exchange) agenda; /* connections that need work outside evhttp's callbacks */
    TAILQ_ENTRY(http_exchange) all;
    void (*gone)(void *arg);
    void *gone_arg;
};

/* An exchange is the connection that it is on. */
typedef struct http_exchange conn;

TAILQ_HEAD(conn_list, http_exchange);

struct conn_pool {
    const struct http_config *config; /* borrowed */
    struct event_base *base;
    struct deadlines deadlines;
    struct conn_list all;
    struct conn_list agenda;
    struct event *agenda_event;
    size_t reading_bytes; /* sum of `received` */
    /* Runs for a new connection before the loop looks at its socket; must set CONN_IDLE, or free
     * it. */
    void (*attach)(conn *c);
    /* Must end the connection, with conn_free(). */
    void (*end)(conn *c);
};

/* False: out of memory; conn_pool_free() is due all the same. The callbacks are the caller's to
 * set. */
bool conn_pool_init(struct conn_pool *p, struct event_base *base, const struct http_config *config);

/* Attaches what is still new, so that the caller can end all. */
void conn_pool_settle(struct conn_pool *p);

void conn_pool_free(struct conn_pool *p);

/* A new connection, whose bufferevent has one reference more than evhttp's, until attach() has run.
 * Ends the process when out of memory. */
conn *conn_new(struct conn_pool *p, struct http_server *server);

/* Frees what is ours; the bufferevent is evhttp's. */
void conn_free(conn *c);

void conn_set_state(conn *c, enum conn_state state);

/* Whether the chunks of the request that has arrived, if there are any, are well-formed; else *f is
 * set and the connection must be closed. */
bool conn_chunks_ok(const conn *c, struct failure *f);

/* The request has arrived whole. */
void conn_request_complete(conn *c);

/* The answer is written; evhttp waits for the next request. */
void conn_answered(conn *c);

/* Answers and ends the connection, in any state but CONN_NEW, also in the middle of a request. */
void conn_fail(conn *c, const struct failure *f);

#endif
