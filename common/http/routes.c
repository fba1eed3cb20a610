/* routes.c: the table of paths and methods. */
#include "common/http/routes.h"

#include "common/http/answer.h"

static void refuse_method(struct http_exchange *x, const struct http_route *route)
{
    struct failure f;
    const char *allow = route->method == HTTP_POST ? "POST" : "GET, HEAD";
    failure_set(&f, 405, "%s takes %s only", route->path, allow);
    f.allow = allow;
    http_answer_failure(x, &f);
}

void http_route(const struct http_route *routes, size_t count, const char *remedy,
                struct http_exchange *x, const struct http_request *r, void *arg)
{
    struct failure f;
    char shown[FAILURE_SHOWN_MAX];
    for (const struct http_route *route = routes; route < routes + count; route++) {
        if (strcmp(r->path, route->path) != 0)
            continue;
        if (r->method == route->method || (r->method == HTTP_HEAD && route->method == HTTP_GET))
            route->handle(x, r, arg);
        else
            refuse_method(x, route);
        return;
    }
    failure_set(&f, 404, "there is nothing at %s: %s",
                failure_show(shown, r->path, strlen(r->path)), remedy);
    http_answer_failure(x, &f);
}
