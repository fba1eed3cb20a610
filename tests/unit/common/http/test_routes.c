/* test_routes.c: the table of paths and methods, without a server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "common/http/answer.h"
#include "common/http/routes.h"

static struct failure refused; /* the last answer, when the status is not 0 */
static const char *handled;    /* the path of the route that was taken */

void http_answer_failure(struct http_exchange *x, const struct failure *f)
{
    (void)x;
    refused = *f;
}

static void handle_read(struct http_exchange *x, const struct http_request *r, void *arg)
{
    (void)x, (void)r;
    assert_string_equal(arg, "the argument");
    handled = "/read";
}

static void handle_write(struct http_exchange *x, const struct http_request *r, void *arg)
{
    (void)x, (void)r, (void)arg;
    handled = "/write";
}

static void route(enum http_method method, const char *path)
{
    static const struct http_route routes[] = {
        {"/read", HTTP_GET, handle_read},
        {"/write", HTTP_POST, handle_write},
    };
    static char argument[] = "the argument";
    const struct http_request r = {.method = method, .path = path};
    refused.status = 0;
    handled = NULL;
    http_route(routes, 2, "try /read", NULL, &r, argument);
}

static void assert_taken(enum http_method method, const char *path)
{
    route(method, path);
    assert_non_null(handled);
    assert_string_equal(handled, path);
    assert_int_equal(refused.status, 0);
}

static void assert_refused(enum http_method method, const char *path, int status, const char *allow,
                           const char *text)
{
    route(method, path);
    assert_null(handled);
    assert_int_equal(refused.status, status);
    assert_string_equal(refused.text, text);
    if (allow == NULL)
        assert_null(refused.allow);
    else
        assert_string_equal(refused.allow, allow);
}

static void test_path_and_method_choose_the_handler(void **state)
{
    (void)state;
    assert_taken(HTTP_GET, "/read");
    assert_taken(HTTP_HEAD, "/read");
    assert_taken(HTTP_POST, "/write");
}

static void test_another_method_gets_405_with_those_that_are_allowed(void **state)
{
    (void)state;
    assert_refused(HTTP_POST, "/read", 405, "GET, HEAD", "/read takes GET, HEAD only");
    assert_refused(HTTP_OTHER, "/read", 405, "GET, HEAD", "/read takes GET, HEAD only");
    assert_refused(HTTP_GET, "/write", 405, "POST", "/write takes POST only");
    assert_refused(HTTP_HEAD, "/write", 405, "POST", "/write takes POST only");
}

static void test_another_path_gets_404(void **state)
{
    (void)state;
    assert_refused(HTTP_GET, "/", 404, NULL, "there is nothing at \"/\": try /read");
    assert_refused(HTTP_POST, "/read/", 404, NULL, "there is nothing at \"/read/\": try /read");
    assert_refused(HTTP_GET, "", 404, NULL, "there is nothing at \"\": try /read");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path_and_method_choose_the_handler),
        cmocka_unit_test(test_another_method_gets_405_with_those_that_are_allowed),
        cmocka_unit_test(test_another_path_gets_404),
    };
    return cmocka_run_group_tests_name("common/http/routes", tests, NULL, NULL);
}
