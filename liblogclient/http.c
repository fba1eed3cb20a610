/* http.c: one connection to logd, one request at a time. */
#include "http-internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/http.h>

#include "common/timer.h"
#include "logclient.h"

#define ANSWER_MAX  65536
#define HEADERS_MAX 16384
#define WRITE_BYTES (1 << 20)
#define PROBE_BYTES 16384 /* more than libevent takes in one of its calls */
#define HEAD_BYTES  1024  /* of a request, without path and host */

struct lc_http {
    struct event_base *base;
    struct evdns_base *dns;               /* NULL until a host name is to be resolved */
    struct evhttp_connection *connection; /* NULL: none */
    const struct lc_url *connected_url;   /* whose connection it is */
    struct event *timer;                  /* the deadline of the request under way */
    struct event *completion;             /* runs `done` in a fresh call from the loop */
    bool pending;                         /* a request is under way */
    bool broken;                          /* the connection is to be freed before the completion */
    lc_http_done *done;
    void *arg;

    bool connecting; /* not connected yet; meanwhile on_connecting() comes before these: */
    bufferevent_event_cb connecting_cb;
    void *connecting_arg;
    char connect_error[100]; /* why connecting failed, or empty */

    struct lc_http_answer answer;
    char error[200];
    char body[ANSWER_MAX + 1];
};

/* The socket, or -1. */
static int socket_of(const struct lc_http *http)
{
    if (http->connection == NULL)
        return -1;
    return (int)bufferevent_getfd(evhttp_connection_get_bufferevent(http->connection));
}

/* Whether something lies behind the answer. It would be taken for the next one. */
static bool has_more(const struct lc_http *http)
{
    struct bufferevent *bev = evhttp_connection_get_bufferevent(http->connection);
    return evbuffer_get_length(bufferevent_get_input(bev)) > 0;
}

static void complete(struct lc_http *http)
{
    if (!http->pending)
        return;
    http->pending = false;
    http->broken = http->answer.status == 0 || has_more(http);
    event_del(http->timer);
    event_active(http->completion, EV_TIMEOUT, 1);
}

static void fail(struct lc_http *http, const char *what, const char *detail)
{
    http->answer.status = 0;
    snprintf(http->error, sizeof(http->error), "%s%s%s", what, detail[0] != '\0' ? ": " : "",
             detail);
    complete(http);
}

static void disconnect(struct lc_http *http)
{
    struct evhttp_connection *connection = http->connection;
    http->connection = NULL;
    if (connection == NULL)
        return;
    /* A look-up under way would outlive the connection, and connect. libevent 2.1 cancels it here,
     * but not when a bufferevent is freed. */
    struct bufferevent *bev = evhttp_connection_get_bufferevent(connection);
    if (bufferevent_getfd(bev) < 0)
        bufferevent_setfd(bev, -1);
    evhttp_connection_free(connection);
}

/* libevent leaves Nagle's algorithm on, which holds back the end of each batch until the peer's
 * delayed acknowledgement has come, after 40 ms (RFC 1122, 4.2.3.4). */
static void set_up_socket(const struct lc_http *http)
{
    int fd = socket_of(http), one = 1;
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* ---- Evhttp's ways to end a request ---- */

static void on_error(enum evhttp_request_error error, void *arg)
{
    static const char *const texts[] = {
        [EVREQ_HTTP_TIMEOUT] = "the connection timed out",
        [EVREQ_HTTP_EOF] = "the connection was closed before the answer",
        [EVREQ_HTTP_INVALID_HEADER] = "the answer's headers are not HTTP",
        [EVREQ_HTTP_BUFFER_ERROR] = "reading or writing failed",
        [EVREQ_HTTP_REQUEST_CANCEL] = "canceled",
        [EVREQ_HTTP_DATA_TOO_LONG] = "the answer is too long",
    };
    struct lc_http *http = arg;
    if (http->connecting && error != EVREQ_HTTP_TIMEOUT)
        fail(http, "connecting failed", http->connect_error);
    else
        fail(http, texts[error], "");
}

/* Retry-After in seconds (RFC 9110, 10.2.3). logd does not use the form with a date, which counts
 * as none. */
static int64_t retry_after(struct evhttp_request *request)
{
    const char *value =
        evhttp_find_header(evhttp_request_get_input_headers(request), "Retry-After");
    if (value == NULL || value[0] < '0' || value[0] > '9')
        return -1;
    char *end;
    long seconds = strtol(value, &end, 10);
    return *end != '\0' || seconds > 86400 ? -1 : seconds * (int64_t)1000;
}

/* request is NULL after on_error(); its code is 0 when connecting failed. */
static void on_answer(struct evhttp_request *request, void *arg)
{
    struct lc_http *http = arg;
    if (!http->pending)
        return;
    if (request == NULL) {
        fail(http, "the request failed", "");
        return;
    }
    set_up_socket(http); /* when a name had to be resolved, there was none before */
    int status = evhttp_request_get_response_code(request);
    if (status == 0) {
        fail(http, "connecting failed", http->connect_error);
        return;
    }
    ev_ssize_t n =
        evbuffer_copyout(evhttp_request_get_input_buffer(request), http->body, ANSWER_MAX);
    http->body[n > 0 ? n : 0] = '\0';
    http->answer.status = status;
    http->answer.retry_after_ms = retry_after(request);
    complete(http);
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
    struct lc_http *http = arg;
    (void)fd, (void)what;
    http->answer.late = !http->connecting;
    fail(http, http->connecting ? "no connection in time" : "no answer in time", "");
}

static void on_complete(evutil_socket_t fd, short what, void *arg)
{
    struct lc_http *http = arg;
    (void)fd, (void)what;
    if (http->broken)
        disconnect(http);
    http->broken = false;
    struct lc_http_answer answer = http->answer;
    answer.error = http->error;
    answer.body = http->body;
    http->done(&answer, http->arg);
}

/* ---- Memory ---- */

/* libevent 2.1 crashes in the midst of making a connection or a request when there is no memory.
 * What is freed here it can have. */
static bool has_memory(void)
{
    void *volatile probe = malloc(PROBE_BYTES);
    bool found = probe != NULL;
    free(probe);
    return found;
}

/* Without space, evhttp would leave parts of the head out and say nothing. */
static bool make_space(const struct lc_http *http, const struct lc_url *url)
{
    struct bufferevent *bev = evhttp_connection_get_bufferevent(http->connection);
    size_t head = HEAD_BYTES + strlen(url->path) + strlen(url->host_header);
    return evbuffer_expand(bufferevent_get_output(bev), head) == 0;
}

/* ---- Connect ---- */

static bool is_address(const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

static void discard_dns_log(int warning, const char *text)
{
    (void)warning, (void)text;
}

/* A resolver that does not keep the loop alive. */
static struct evdns_base *new_dns(struct event_base *base)
{
    /* evdns would print to standard error. This silences it for the whole process. */
    evdns_set_log_fn(discard_dns_log);
    return evdns_base_new(base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
}

/* For each connection: the network may have come, or changed, since the last. */
static void read_system_files(struct evdns_base *dns)
{
    evdns_base_clear_nameservers_and_suspend(dns);
    evdns_base_clear_host_addresses(dns);
    /* Without resolv.conf evdns asks 127.0.0.1, as resolv.conf(5) says. */
    evdns_base_resolv_conf_parse(dns, DNS_OPTIONS_ALL & ~DNS_OPTION_HOSTSFILE, "/etc/resolv.conf");
    evdns_base_load_hosts(dns, "/etc/hosts");
    evdns_base_resume(dns);
}

/* Whether the peer has neither closed the connection nor sent what nobody asked for. evhttp would
 * take that for the answer to the next request. */
static bool is_quiet(const struct lc_http *http)
{
    int fd = socket_of(http);
    char byte;
    return fd >= 0 && recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           (errno == EAGAIN || errno == EWOULDBLOCK);
}

static bool is_connected_to(const struct lc_http *http, const struct lc_url *url)
{
    return http->connection != NULL && http->connected_url == url && is_quiet(http);
}

static bool connect_to(struct lc_http *http, const struct lc_url *url)
{
    disconnect(http);
    bool address = is_address(url->host);
    if (!address && http->dns == NULL)
        http->dns = new_dns(http->base);
    if (!address && http->dns != NULL)
        read_system_files(http->dns);
    if (has_memory())
        http->connection = evhttp_connection_base_new(http->base, address ? NULL : http->dns,
                                                      url->host, (unsigned short)url->port);
    if (http->connection == NULL) {
        fail(http, "out of memory", "");
        return false;
    }
    http->connected_url = url;
    evhttp_connection_set_max_body_size(http->connection, ANSWER_MAX);
    evhttp_connection_set_max_headers_size(http->connection, HEADERS_MAX);
    /* By default 16 KiB, each with a turn of the loop. */
    bufferevent_set_max_single_write(evhttp_connection_get_bufferevent(http->connection),
                                     WRITE_BYTES);
    return true;
}

/* Gets the event before evhttp, which calls shutdown(2) first and so loses the reason. */
static void on_connecting(struct bufferevent *bev, short what, void *arg)
{
    struct lc_http *http = arg;
    int error = EVUTIL_SOCKET_ERROR(), dns = bufferevent_socket_get_dns_error(bev);
    if (what & BEV_EVENT_CONNECTED) {
        http->connecting = false;
    } else {
        snprintf(http->connect_error, sizeof(http->connect_error), "%s",
                 dns != 0 ? evutil_gai_strerror(dns) : evutil_socket_error_to_string(error));
    }
    EVUTIL_SET_SOCKET_ERROR(error); /* evhttp looks at it */
    http->connecting_cb(bev, what, http->connecting_arg);
}

static void watch_connecting(struct lc_http *http)
{
    struct bufferevent *bev = evhttp_connection_get_bufferevent(http->connection);
    bufferevent_data_cb reader, writer;
    bufferevent_getcb(bev, &reader, &writer, &http->connecting_cb, &http->connecting_arg);
    bufferevent_setcb(bev, reader, writer, on_connecting, http);
}

/* ---- The interface ---- */

struct lc_http *lc_http_new(struct event_base *base, lc_http_done *done, void *arg)
{
    struct lc_http *http = calloc(1, sizeof(*http));
    if (http == NULL)
        return NULL;
    http->base = base;
    http->done = done;
    http->arg = arg;
    http->timer = evtimer_new(base, on_timeout, http);
    http->completion = evtimer_new(base, on_complete, http);
    if (http->timer != NULL && http->completion != NULL)
        return http;
    lc_http_free(http);
    return NULL;
}

static int add_headers(struct evhttp_request *request, const struct lc_http_request *r)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    char sequence[24], skip[24], length[24];
    snprintf(length, sizeof(length), "%zu", r->body->len);
    snprintf(sequence, sizeof(sequence), "%llu", (unsigned long long)r->sequence);
    snprintf(skip, sizeof(skip), "%llu", (unsigned long long)r->skip);
    int failed = evhttp_add_header(headers, "Host", r->url->host_header) |
                 evhttp_add_header(headers, "User-Agent", "liblogclient/" LOGCLIENT_VERSION) |
                 evhttp_add_header(headers, "Content-Type", "application/x-ndjson") |
                 evhttp_add_header(headers, "Content-Length", length) |
                 evhttp_add_header(headers, "Log-Producer", r->producer) |
                 evhttp_add_header(headers, "Log-Sequence", sequence);
    if (r->skip > 0)
        failed |= evhttp_add_header(headers, "Log-Skip", skip);
    return failed;
}

static void send_request(struct lc_http *http, const struct lc_http_request *r)
{
    struct timeval timeout = timer_timeval(r->timeout_ms);
    event_add(http->timer, &timeout);
    if (http->connecting && !connect_to(http, r->url))
        return;
    /* evhttp's own limits, of 45 and 50 seconds, must not come first. */
    timeout.tv_sec++;
    evhttp_connection_set_timeout_tv(http->connection, &timeout);
    struct evhttp_request *request = has_memory() ? evhttp_request_new(on_answer, http) : NULL;
    if (request == NULL) {
        fail(http, "out of memory", "");
        return;
    }
    evhttp_request_set_error_cb(request, on_error);
    if (!make_space(http, r->url) || add_headers(request, r) != 0 ||
        evbuffer_add_reference(evhttp_request_get_output_buffer(request), r->body->data,
                               r->body->len, NULL, NULL) != 0) {
        evhttp_request_free(request);
        fail(http, "out of memory", "");
        return;
    }
    /* evhttp owns the request from here on, also on failure. on_error() and on_answer() may run
     * inside. */
    if (evhttp_make_request(http->connection, request, EVHTTP_REQ_POST, r->url->path) != 0)
        fail(http, "connecting failed", "");
    if (http->connecting && http->pending)
        watch_connecting(http);
    set_up_socket(http);
}

void lc_http_post(struct lc_http *http, const struct lc_http_request *r)
{
    http->pending = true;
    http->answer = (struct lc_http_answer){.retry_after_ms = -1};
    http->error[0] = http->body[0] = http->connect_error[0] = '\0';
    http->connecting = !is_connected_to(http, r->url);
    send_request(http, r);
}

/* A look-up that was given up is freed in a turn of the loop, in which nothing else shall come. */
static void free_dns(struct lc_http *http)
{
    event_base_loop(http->base, EVLOOP_NONBLOCK);
    evdns_base_free(http->dns, 0);
}

void lc_http_free(struct lc_http *http)
{
    if (http == NULL)
        return;
    http->pending = false;
    disconnect(http);
    if (http->timer != NULL)
        event_free(http->timer);
    if (http->completion != NULL)
        event_free(http->completion);
    if (http->dns != NULL)
        free_dns(http);
    free(http);
}
