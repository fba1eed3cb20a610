/* connection.h: one HTTP connection: its state, what has arrived, and how it ends. For answer.c and
 * server.c only.
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
#include "common/http/message.h"

#define CONN_HEAD_MAX 16384 /* bytes of request line and headers */

struct bufferevent;
struct evhttp_connection;
struct evhttp_request;

/* The first four have a deadline, and are its states. */
enum conn_state {
    CONN_IDLE,      /* no byte of the next request is here */
    CONN_READING,   /* a request arrives; what evhttp writes now is an error page of its own */
    CONN_WRITING,   /* the answer is being written */
    CONN_LINGERING, /* evhttp is cut off; we write the last answer, and throw away what still comes
                       so that the client sees the answer rather than a reset */
    CONN_NEW,       /* accepted; evhttp has not told us its connection yet */
    CONN_HANDLING,  /* a request is complete and waits for its answer */
    CONN_CLOSED,    /* is being freed */
};

struct http_exchange {
    struct conn_pool *pool;
    enum conn_state state;
    struct deadline deadline;
    int fd; /* -1 in CONN_NEW */
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
    void (*gone)(void *arg); /* in CONN_HANDLING: the connection ends unanswered; or NULL */
    void *gone_arg;
};

/* An exchange is the connection that it is on. */
typedef struct http_exchange conn;

TAILQ_HEAD(conn_list, http_exchange);

/* All connections of a server. */
struct conn_pool {
    const struct http_config *config; /* borrowed */
    struct event_base *base;
    struct http_stats stats;
    struct deadlines deadlines;
    struct conn_list all;
    conn **by_fd; /* evhttp gives its callbacks no room for a pointer of ours */
    size_t by_fd_len;
    struct conn_list agenda;
    struct event *agenda_event;
    size_t reading_bytes;      /* sum of `received` */
    bool closing;              /* each answer closes its connection */
    void (*closed)(void *arg); /* a connection has ended and is freed */
    void *arg;
};

/* Config and arg are borrowed. False: out of memory; conn_pool_free() is due all the same. */
bool conn_pool_init(struct conn_pool *p, struct event_base *base, const struct http_config *config,
                    void (*closed)(void *arg), void *arg);

/* Lets no connection be CONN_NEW, so that evhttp_free() ends all. */
void conn_pool_settle(struct conn_pool *p);

/* When all connections have ended. */
void conn_pool_free(struct conn_pool *p);

/* Returns the bufferevent of a new connection, for evhttp. Ends the process when out of memory. */
struct bufferevent *conn_new(struct conn_pool *p);

/* The connection that is evhttp's `evcon`. */
conn *conn_find(const struct conn_pool *p, struct evhttp_connection *evcon);

void conn_set_state(conn *c, enum conn_state state);

/* Closes and frees it, in any state but CONN_NEW. */
void conn_end(conn *c);

/* Whether the chunks of the request that has arrived, if there are any, are well-formed; else *f is
 * set and the connection must be closed. */
bool conn_chunks_ok(const conn *c, struct failure *f);

/* The request has arrived whole. */
void conn_request_complete(conn *c, struct evhttp_request *req);

/* The answer is written; evhttp waits for the next request. */
void conn_answered(conn *c);

/* Answers and ends the connection, in any state but CONN_NEW, also in the middle of a request. */
void conn_fail(conn *c, const struct failure *f);

/* Counts an answer. */
void conn_count_answer(conn *c, int status);

#endif
