/* service.c: the HTTP server of the example services. */
#include "service.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/keyvalq_struct.h>

#include <logclient.h>

#define HEADERS_MAX   8192   /* bytes */
#define BODY_MAX      16384  /* bytes: larger ones get a JSON 413 */
#define BODY_HARD_MAX 262144 /* bytes: evhttp itself refuses more, before it has read them */
#define DEPTH_MAX     16     /* nested arrays and objects */
#define IDLE_S        30     /* a connection may be silent for so long */
#define FLUSH_MS      2000
#define STOP_GRACE_MS 100 /* for answers that are still being written */

#define ALL_METHODS                                                                                \
    (EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE |     \
     EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH)

struct server {
    const struct service *service; /* borrowed from service_main()'s caller */
    struct event_base *base;
    struct evhttp *http;
    struct evhttp_bound_socket *socket; /* owned by http; NULL once it no longer listens */
    struct event *sigterm, *sigint;
};

static const char *service_name = "service"; /* set once, before anything is logged */
static unsigned long refused_records;

void check_log(int result)
{
    if (result == 0) {
        return;
    }
    if (refused_records++ == 0) {
        fprintf(stderr, "%s: a log record was refused: %s\n", service_name, strerror(errno));
    }
}

/* ---- Replies ---- */

static const char *method_name(const struct evhttp_request *req)
{
    switch (evhttp_request_get_command(req)) {
    case EVHTTP_REQ_GET:
        return "GET";
    case EVHTTP_REQ_POST:
        return "POST";
    case EVHTTP_REQ_HEAD:
        return "HEAD";
    case EVHTTP_REQ_PUT:
        return "PUT";
    case EVHTTP_REQ_DELETE:
        return "DELETE";
    default:
        return "(other)";
    }
}

static const char *request_path(const struct evhttp_request *req)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
    return path ? path : "";
}

static bool write_json(struct evhttp_request *req, struct evbuffer *out, json_t *body)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    char *text = json_dumps(body, JSON_COMPACT);
    bool ok = text && evbuffer_add_printf(out, "%s\n", text) > 0 &&
              evhttp_add_header(headers, "Content-Type", "application/json") == 0;
    free(text);
    return ok;
}

void service_reply(struct evhttp_request *req, int status, json_t *body)
{
    struct evbuffer *out = body ? evbuffer_new() : NULL;
    check_log(send_logf(service_name, "debug", "%s %.200s answered %d", method_name(req),
                        request_path(req), status));
    if (out && write_json(req, out, body)) {
        evhttp_send_reply(req, status, NULL, out);
    } else {
        evhttp_send_error(req, HTTP_INTERNAL, NULL);
    }
    if (out) {
        evbuffer_free(out);
    }
    json_decref(body);
}

void service_refuse(struct evhttp_request *req, int status, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    service_reply(req, status, n < 0 ? NULL : json_pack("{s:s}", "error", text));
}

/* ---- Bodies ---- */

const char *service_text(struct evhttp_request *req, const json_t *body, const char *name,
                         size_t max)
{
    const json_t *value = json_object_get(body, name);
    size_t n = json_string_length(value);
    if (!json_is_string(value) || n == 0 || n > max) {
        service_refuse(req, 400, "%s must be a string of 1 to %zu bytes", name, max);
        return NULL;
    }
    return json_string_value(value);
}

json_int_t service_number(struct evhttp_request *req, const json_t *body, const char *name,
                          json_int_t min, json_int_t max)
{
    const json_t *value = json_object_get(body, name);
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < min || n > max) {
        service_refuse(req, 400,
                       "%s must be a whole number from %" JSON_INTEGER_FORMAT
                       " to %" JSON_INTEGER_FORMAT,
                       name, min, max);
        return -1;
    }
    return n;
}

static bool is_json_type(const char *type)
{
    static const char json[] = "application/json";
    size_t n = sizeof json - 1;
    return type && strncasecmp(type, json, n) == 0 && (type[n] == '\0' || strchr("; \t", type[n]));
}

/* jansson itself allows 2,048 levels. */
static bool too_deep(const char *text, size_t n)
{
    bool in_string = false;
    int depth = 0;
    for (size_t i = 0; i < n; i++) {
        if (in_string && text[i] == '\\') {
            i++;
        } else if (text[i] == '"') {
            in_string = !in_string;
        } else if (!in_string && (text[i] == '{' || text[i] == '[')) {
            if (++depth > DEPTH_MAX) {
                return true;
            }
        } else if (!in_string && (text[i] == '}' || text[i] == ']')) {
            depth--;
        }
    }
    return false;
}

/* The body as an object that the caller owns, or NULL when the request has been answered. */
static json_t *read_body(struct evhttp_request *req)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(req);
    size_t n = evbuffer_get_length(in);
    json_error_t error;
    if (!is_json_type(evhttp_find_header(evhttp_request_get_input_headers(req), "Content-Type"))) {
        service_refuse(req, 415, "Content-Type must be application/json");
        return NULL;
    }
    if (n > BODY_MAX) {
        service_refuse(req, 413, "the body may have at most %d bytes; it has %zu", BODY_MAX, n);
        return NULL;
    }
    const char *text = n > 0 ? (const char *)evbuffer_pullup(in, -1) : "";
    if (!text) {
        service_reply(req, 500, NULL);
        return NULL;
    }
    if (too_deep(text, n)) {
        service_refuse(req, 400, "the body is nested deeper than %d levels", DEPTH_MAX);
        return NULL;
    }
    json_t *body = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(body)) {
        service_refuse(req, 400, "the body must be a JSON object: %s",
                       body ? "it is another type" : error.text);
        json_decref(body);
        return NULL;
    }
    return body;
}

/* ---- Router ---- */

static const struct route *find_route(const struct service *service, const char *path)
{
    for (size_t i = 0; i < service->route_count; i++) {
        if (strcmp(service->routes[i].path, path) == 0) {
            return &service->routes[i];
        }
    }
    return NULL;
}

static void refuse_method(struct evhttp_request *req)
{
    if (evhttp_add_header(evhttp_request_get_output_headers(req), "Allow", "POST") != 0) {
        service_reply(req, 500, NULL);
        return;
    }
    service_refuse(req, 405, "only POST is allowed here");
}

static void on_request(struct evhttp_request *req, void *arg)
{
    const struct server *server = arg;
    const char *path = request_path(req);
    const struct route *route = find_route(server->service, path);
    check_log(send_logf(service_name, "debug", "%s %.200s, %zu bytes", method_name(req), path,
                        evbuffer_get_length(evhttp_request_get_input_buffer(req))));
    if (!route) {
        check_log(send_logf(service_name, "warn", "no such path: %.200s", path));
        service_refuse(req, 404, "no such path");
        return;
    }
    if (evhttp_request_get_command(req) != EVHTTP_REQ_POST) {
        refuse_method(req);
        return;
    }
    json_t *body = read_body(req);
    if (body) {
        route->post(req, body);
        json_decref(body);
    }
}

/* ---- Life ---- */

static void on_stop(evutil_socket_t sig, short what, void *arg)
{
    static const struct timeval grace = {.tv_usec = STOP_GRACE_MS * 1000};
    struct server *server = arg;
    (void)what;
    if (!server->socket) {
        return;
    }
    check_log(send_logf(service_name, "info", "stopping: %s", strsignal((int)sig)));
    evhttp_del_accept_socket(server->http, server->socket);
    server->socket = NULL;
    event_base_loopexit(server->base, &grace);
}

static bool server_init(struct server *server)
{
    server->base = event_base_new();
    server->http = server->base ? evhttp_new(server->base) : NULL;
    if (!server->http) {
        return false;
    }
    evhttp_set_max_headers_size(server->http, HEADERS_MAX);
    evhttp_set_max_body_size(server->http, BODY_HARD_MAX);
    evhttp_set_timeout(server->http, IDLE_S);
    evhttp_set_allowed_methods(server->http, ALL_METHODS);
    evhttp_set_gencb(server->http, on_request, server);
    server->sigterm = evsignal_new(server->base, SIGTERM, on_stop, server);
    server->sigint = evsignal_new(server->base, SIGINT, on_stop, server);
    return server->sigterm && server->sigint && event_add(server->sigterm, NULL) == 0 &&
           event_add(server->sigint, NULL) == 0;
}

static void server_free(struct server *server)
{
    if (server->http) {
        evhttp_free(server->http);
    }
    if (server->sigterm) {
        event_free(server->sigterm);
    }
    if (server->sigint) {
        event_free(server->sigint);
    }
    if (server->base) {
        event_base_free(server->base);
    }
}

/* The one record that explains why the service is not there. flush_log() delivers it. */
static int fatal(const char *what, int error)
{
    fprintf(stderr, "%s: %s: %s\n", service_name, what, strerror(error));
    check_log(send_logf(service_name, "fatal", "%s: %s", what, strerror(error)));
    return EX_UNAVAILABLE;
}

/* Says where it listens, to whoever waits for it. */
static int announce(struct server *server)
{
    struct sockaddr_in addr;
    socklen_t n = sizeof addr;
    if (getsockname(evhttp_bound_socket_get_fd(server->socket), (struct sockaddr *)&addr, &n) !=
        0) {
        return fatal("getsockname", errno);
    }
    int port = ntohs(addr.sin_port);
    if (printf("%s: listening on 127.0.0.1:%d\n", service_name, port) < 0 || fflush(stdout) != 0) {
        return fatal("standard output", errno);
    }
    check_log(send_logf(service_name, "info", "listening on 127.0.0.1:%d", port));
    return EX_OK;
}

static int serve(struct server *server, int port)
{
    char what[64];
    if (!server_init(server)) {
        return fatal("starting", ENOMEM);
    }
    server->socket =
        evhttp_bind_socket_with_handle(server->http, "127.0.0.1", (unsigned short)port);
    if (!server->socket) {
        int error = errno;
        snprintf(what, sizeof what, "cannot listen on 127.0.0.1:%d", port);
        return fatal(what, error);
    }
    int code = announce(server);
    if (code == EX_OK && event_base_dispatch(server->base) < 0) {
        code = fatal("event loop", errno);
    }
    return code;
}

/* What is not delivered by now stays in the ring file, for the next process that logs. */
static void flush_log(void)
{
    logclient_status_t status = logclient_flush(NULL, FLUSH_MS);
    if (status != LOGCLIENT_OK) {
        fprintf(stderr, "%s: %llu log records are not delivered yet: %s\n", service_name,
                (unsigned long long)logclient_stat(NULL, LOGCLIENT_STAT_QUEUED),
                logclient_strerror(status));
    }
    if (refused_records > 0) {
        fprintf(stderr, "%s: %lu log records were refused\n", service_name, refused_records);
    }
}

/* ---- Options ---- */

static bool parse_port(const char *text, int *port)
{
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || n < 0 || n > 65535) {
        fprintf(stderr, "%s: the port must be a number from 0 to 65535; got \"%s\"\n", service_name,
                text);
        return false;
    }
    *port = (int)n;
    return true;
}

static bool parse_options(const struct service *service, int argc, char **argv, int *port)
{
    const char *value = getenv(service->port_env);
    if (argc == 3 && strcmp(argv[1], "--port") == 0) {
        value = argv[2];
    } else if (argc != 1) {
        fprintf(stderr,
                "usage: %s [--port N]\nThe port is %d, or that of %s; 0 takes a free one.\n"
                "LOGCLIENT_URL says where logd is.\n",
                service->name, service->port, service->port_env);
        return false;
    }
    *port = service->port;
    return !value || parse_port(value, port);
}

int service_main(const struct service *service, int argc, char **argv)
{
    struct server server = {.service = service};
    int port;
    service_name = service->name;
    if (!parse_options(service, argc, argv, &port)) {
        return EX_USAGE;
    }
    /* A client that hangs up while it is being answered must not end the service. */
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        return fatal("SIGPIPE", errno);
    }
    int code = serve(&server, port);
    server_free(&server);
    if (code == EX_OK) {
        check_log(send_log(service_name, "info", "stopped"));
    }
    flush_log();
    return code;
}
