/* service.h: what the three example services share: a router over evhttp, JSON bodies, replies, and
 * a clean end on SIGTERM and SIGINT. */
#ifndef EXAMPLES_SERVICE_H
#define EXAMPLES_SERVICE_H

#include <stddef.h>

#include <event2/http.h>
#include <jansson.h>

/* `body` is the request's JSON object, borrowed until the handler returns. The handler answers
 * before it returns, with service_reply() or service_refuse(). */
typedef void service_handler(struct evhttp_request *req, const json_t *body);

struct route {
    const char *path; /* exact */
    service_handler *post;
};

struct service {
    const char *name;     /* "auth": stands in the log records and the ready line */
    const char *port_env; /* "AUTH_PORT": environment variable of the port; --port wins */
    int port;             /* the default; 0 takes a free one */
    const struct route *routes;
    size_t route_count;
};

/* Serves on 127.0.0.1 until SIGTERM or SIGINT. Returns the exit code of the program. */
int service_main(const struct service *service, int argc, char **argv);

/* Takes what send_log() and its siblings return. Counts refused records, and reports the first one
 * on standard error, since no other place is left. */
void check_log(int result);

/* Answers with a JSON body, taken even on failure. NULL means "out of memory": a 500. */
void service_reply(struct evhttp_request *req, int status, json_t *body);

/* Answers {"error":"..."}. */
void service_refuse(struct evhttp_request *req, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The string `name` of the body, 1 to `max` bytes, borrowed from it. NULL when there is none; then
 * the request is answered with a 400 that names the field. */
const char *service_text(struct evhttp_request *req, const json_t *body, const char *name,
                         size_t max);

/* The same for a whole number from min to max. Returns -1 when it has answered; min is not
 * negative. */
json_int_t service_number(struct evhttp_request *req, const json_t *body, const char *name,
                          json_int_t min, json_int_t max);

#endif
