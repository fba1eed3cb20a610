/* test_accepting.c: when listening sockets accept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <event2/event.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/http/accepting.h"
#include "common/http/listening.h"
#include "common/timer.h"
#include "common/timestamp.h"

#define PATIENCE_MS 20000

struct world {
    struct event_base *base;
    struct event *tick;
    struct acceptor acceptor;
    struct evconnlistener *listener;
    struct sockaddr_in address;
    int client;
    unsigned accepted;
};

static void on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa, int len,
                      void *arg)
{
    (void)l, (void)sa, (void)len;
    struct world *w = arg;
    w->accepted++;
    close(fd);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
}

static void world_start(struct world *w)
{
    const struct timeval interval = timer_timeval(20);
    char shown[LISTEN_SHOWN_MAX], err[256];
    socklen_t len = sizeof(w->address);
    *w = (struct world){.base = event_base_new(), .client = -1};
    assert_non_null(w->base);
    w->tick = event_new(w->base, -1, EV_PERSIST, on_tick, NULL);
    assert_int_equal(event_add(w->tick, &interval), 0);
    assert_true(acceptor_init(&w->acceptor, w->base));
    int fd = listen_open("127.0.0.1:0", shown, err, sizeof(err));
    assert_true(fd >= 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&w->address, &len), 0);
    w->listener = acceptor_add(&w->acceptor, w->base, fd);
    assert_non_null(w->listener);
    evconnlistener_set_cb(w->listener, on_accept, w);
}

static void world_end(struct world *w)
{
    close(w->client);
    evconnlistener_free(w->listener);
    acceptor_forget(&w->acceptor);
    acceptor_free(&w->acceptor);
    event_free(w->tick);
    event_base_free(w->base);
}

static void visit(struct world *w)
{
    if (w->client >= 0)
        close(w->client);
    w->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(w->client >= 0);
    assert_int_equal(connect(w->client, (struct sockaddr *)&w->address, sizeof(w->address)), 0);
}

static void turn(struct world *w, int64_t end_ms)
{
    if (monotonic_now_ms() > end_ms)
        fail_msg("waited in vain");
    event_base_loop(w->base, EVLOOP_ONCE);
}

static void test_nothing_is_accepted_while_full(void **state)
{
    struct world w;
    (void)state;
    world_start(&w);
    int64_t end_ms = monotonic_now_ms() + PATIENCE_MS;
    acceptor_set_full(&w.acceptor, true);
    acceptor_set_full(&w.acceptor, true);
    visit(&w);
    for (int i = 0; i < 5; i++)
        turn(&w, end_ms);
    assert_int_equal(w.accepted, 0);
    acceptor_set_full(&w.acceptor, false);
    while (w.accepted == 0)
        turn(&w, end_ms);
    world_end(&w);
}

/* Without descriptors accept(2) fails at once, again and again. */
static void test_accepting_pauses_after_an_error(void **state)
{
    struct world w;
    struct rlimit limit, none;
    (void)state;
    world_start(&w);
    int64_t end_ms = monotonic_now_ms() + PATIENCE_MS;
    visit(&w);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    while (!w.acceptor.failing)
        turn(&w, end_ms);
    assert_false(w.acceptor.enabled);
    acceptor_set_full(&w.acceptor, true);
    acceptor_set_full(&w.acceptor, false); /* another connection ends; the pause goes on */
    assert_false(w.acceptor.enabled);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (w.accepted == 0)
        turn(&w, end_ms);
    assert_false(w.acceptor.failing);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_accepted_while_full),
        cmocka_unit_test(test_accepting_pauses_after_an_error),
    };
    return cmocka_run_group_tests_name("common/http/accepting", tests, NULL, NULL);
}
