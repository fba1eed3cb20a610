/* bare.c: an evhttp server that parses the body with jansson and answers 200 with fixed JSON, and
 * nothing else. logd is compared with it.
 *
 * bare --sink takes any body unread and answers as logd does when all is stored: so a client is
 * measured with nothing behind it. */
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <jansson.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "util.h"

static void answer(struct evhttp_request *request, int status, size_t accepted)
{
    struct evbuffer *out = evhttp_request_get_output_buffer(request);
    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type",
                      "application/json");
    evbuffer_add_printf(out, "{\"accepted\":%zu}", accepted);
    evhttp_send_reply(request, status, NULL, NULL);
}

static void on_record(struct evhttp_request *request, void *arg)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(request);
    size_t n = evbuffer_get_length(in);
    json_t *record = json_loadb((const char *)evbuffer_pullup(in, -1), n, 0, NULL);
    (void)arg;
    answer(request, record != NULL ? 200 : 400, record != NULL);
    json_decref(record);
}

static void on_batch(struct evhttp_request *request, void *arg)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(request);
    size_t n = evbuffer_get_length(in), lines = 0;
    const char *p = (const char *)evbuffer_pullup(in, -1), *end = p + n;
    (void)arg;
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
        lines++;
        p++;
    }
    answer(request, 200, lines);
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    event_base_loopbreak(arg);
}

static unsigned port_of(evutil_socket_t fd)
{
    struct sockaddr_in address;
    socklen_t n = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &n) != 0)
        die("getsockname", "failed");
    return ntohs(address.sin_port);
}

int main(int argc, char **argv)
{
    bool sink = argc > 1 && strcmp(argv[1], "--sink") == 0;
    struct event_base *base = event_base_new();
    struct evhttp *http = base != NULL ? evhttp_new(base) : NULL;
    struct evhttp_bound_socket *bound =
        http != NULL ? evhttp_bind_socket_with_handle(http, "127.0.0.1", 0) : NULL;
    struct event *term = base != NULL ? evsignal_new(base, SIGTERM, on_signal, base) : NULL;
    if (bound == NULL || term == NULL || event_add(term, NULL) != 0)
        die("127.0.0.1", "cannot listen");
    evhttp_set_gencb(http, sink ? on_batch : on_record, NULL);
    say("bare: listening on 127.0.0.1:%u", port_of(evhttp_bound_socket_get_fd(bound)));
    if (event_base_dispatch(base) < 0)
        die("event loop", "failed");
    event_free(term);
    evhttp_free(http);
    event_base_free(base);
    return 0;
}
