/* farewell.c: writes an answer by hand, then reads to the end. */
#include "common/http/farewell.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/util.h>
#include <sys/socket.h>

const char *farewell_reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 413:
        return "Content Too Large";
    case 415:
        return "Unsupported Media Type";
    case 417:
        return "Expectation Failed";
    case 503:
        return "Service Unavailable";
    default:
        return "Error";
    }
}

static void on_read(struct bufferevent *bev, void *arg)
{
    (void)arg; /* may be evhttp's: it has its own way to call this */
    struct evbuffer *input = bufferevent_get_input(bev);
    evbuffer_drain(input, evbuffer_get_length(input));
}

static void on_written(struct bufferevent *bev, void *arg)
{
    struct farewell *l = arg;
    if (l->peer_done)
        l->done(l->arg);
    else
        shutdown(bufferevent_getfd(bev), SHUT_WR);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    struct farewell *l = arg;
    bool unsent = evbuffer_get_length(bufferevent_get_output(bev)) > 0;
    if ((what & BEV_EVENT_EOF) != 0 && (what & BEV_EVENT_READING) != 0 && unsent)
        l->peer_done = true;
    else
        l->done(l->arg);
}

static void write_answer(struct evbuffer *out, const struct failure *f, bool is_head)
{
    char date[64];
    struct buf body = {0};
    failure_write(f, &body);
    evutil_date_rfc1123(date, sizeof(date), NULL);
    evbuffer_add_printf(out, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n", f->status,
                        farewell_reason(f->status));
    evbuffer_add_printf(out, "Content-Length: %zu\r\nConnection: close\r\nDate: %s\r\n", body.len,
                        date);
    if (f->retry_after > 0)
        evbuffer_add_printf(out, "Retry-After: %d\r\n", f->retry_after);
    evbuffer_add(out, "\r\n", 2);
    if (!is_head)
        evbuffer_add(out, body.data, body.len);
    buf_free(&body);
}

bool farewell_begin(struct farewell *l, struct bufferevent *bev, const struct failure *f,
                    bool is_head, void (*done)(void *arg), void *arg)
{
    *l = (struct farewell){.bev = bev, .done = done, .arg = arg};
    write_answer(bufferevent_get_output(bev), f, is_head);
    bufferevent_setcb(bev, on_read, on_written, on_event, l);
    on_read(bev, NULL);
    return bufferevent_enable(bev, EV_READ | EV_WRITE) == 0;
}
