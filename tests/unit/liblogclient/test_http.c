/* test_http.c: what the library's HTTP client does to its socket, and how it calls a failure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "liblogclient/http-internal.h"

static void on_done(const struct lc_http_answer *answer, void *arg)
{
    *(int *)arg = answer->status;
}

static int listen_on_loopback(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* With Nagle's algorithm each batch of several segments waited 40 ms for a delayed acknowledgement:
 * the pipeline took a third of the records, and one in a hundred came 80 ms late. */
/* The descriptor whose peer has this port. */
static int socket_to(int port)
{
    for (int fd = 0; fd < 64; fd++) {
        struct sockaddr_in peer;
        socklen_t n = sizeof(peer);
        if (getpeername(fd, (struct sockaddr *)&peer, &n) == 0 && ntohs(peer.sin_port) == port)
            return fd;
    }
    fail_msg("no socket is connected to port %d", port);
    return -1;
}

static void test_the_socket_sends_at_once_and_is_not_inherited(void **state)
{
    int port, status = -1, nodelay = 0;
    socklen_t n = sizeof(nodelay);
    int listener = listen_on_loopback(&port);
    char text[64];
    const char *why;
    struct lc_url urls[LC_URLS_MAX];
    struct buf body = {0};
    (void)state;
    snprintf(text, sizeof(text), "http://127.0.0.1:%d", port);
    assert_int_equal(lc_urls_parse(text, urls, &why), 1);
    buf_add_lit(&body, "{}\n");
    struct event_base *base = event_base_new();
    struct lc_http *http = lc_http_new(base, on_done, &status);
    assert_non_null(http);
    lc_http_post(http, &(struct lc_http_request){.url = &urls[0],
                                                 .body = &body,
                                                 .producer = "00000000000000000000000000000000",
                                                 .sequence = 1,
                                                 .timeout_ms = 10000});
    int fd = socket_to(port);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, &n), 0);
    assert_true(nodelay);
    lc_http_free(http);
    assert_int_equal(status, -1); /* given up without a completion */
    event_base_free(base);
    lc_urls_free(urls, 1);
    buf_free(&body);
    close(listener);
}

static void on_failed(const struct lc_http_answer *answer, void *arg)
{
    assert_int_equal(answer->status, 0);
    snprintf(arg, 200, "%s", answer->error);
}

/* It was "Transport endpoint is not connected", whatever the reason was. */
static void test_a_refused_connection_is_called_so(void **state)
{
    int port;
    char text[64], error[200] = "";
    const char *why;
    struct lc_url urls[LC_URLS_MAX];
    struct buf body = {0};
    (void)state;
    close(listen_on_loopback(&port));
    snprintf(text, sizeof(text), "http://127.0.0.1:%d", port);
    assert_int_equal(lc_urls_parse(text, urls, &why), 1);
    buf_add_lit(&body, "{}\n");
    struct event_base *base = event_base_new();
    struct lc_http *http = lc_http_new(base, on_failed, error);
    assert_non_null(http);
    for (int i = 0; i < 2; i++) { /* on a new connection, and after a failure */
        error[0] = '\0';
        lc_http_post(http, &(struct lc_http_request){.url = &urls[0],
                                                     .body = &body,
                                                     .producer = "00000000000000000000000000000000",
                                                     .sequence = 1,
                                                     .timeout_ms = 10000});
        while (error[0] == '\0')
            assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);
        assert_string_equal(error, "connecting failed: Connection refused");
    }
    lc_http_free(http);
    event_base_free(base);
    lc_urls_free(urls, 1);
    buf_free(&body);
}

/* libevent frees a look-up that is given up in a later turn of its loop, which never came. For
 * LeakSanitizer. */
static void test_a_look_up_that_is_given_up_is_freed(void **state)
{
    char error[200] = "";
    const char *why;
    struct lc_url urls[LC_URLS_MAX];
    struct buf body = {0};
    (void)state;
    assert_int_equal(lc_urls_parse("http://nowhere.invalid:4000", urls, &why), 1);
    buf_add_lit(&body, "{}\n");
    struct event_base *base = event_base_new();
    struct lc_http *http = lc_http_new(base, on_failed, error);
    assert_non_null(http);
    lc_http_post(http, &(struct lc_http_request){.url = &urls[0],
                                                 .body = &body,
                                                 .producer = "00000000000000000000000000000000",
                                                 .sequence = 1,
                                                 .timeout_ms = 10000});
    lc_http_free(http);
    assert_string_equal(error, "");
    event_base_free(base);
    lc_urls_free(urls, 1);
    buf_free(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_socket_sends_at_once_and_is_not_inherited),
        cmocka_unit_test(test_a_refused_connection_is_called_so),
        cmocka_unit_test(test_a_look_up_that_is_given_up_is_freed),
    };
    return cmocka_run_group_tests_name("client http", tests, NULL, NULL);
}
