/* routes.h: finds the handler of a request by path and method, and refuses what has none. */
#ifndef COMMON_HTTP_ROUTES_H
#define COMMON_HTTP_ROUTES_H

#include "common/http/message.h"

struct http_route {
    const char *path;
    enum http_method method; /* HTTP_GET, which takes HEAD too, or HTTP_POST */
    /* Must answer, as http_config.handle must. */
    void (*handle)(struct http_exchange *x, const struct http_request *r, void *arg);
};

/* Calls the handler with `arg`, or answers 404, or 405 with Allow. `remedy` ends the sentence of
 * the 404. */
void http_route(const struct http_route *routes, size_t count, const char *remedy,
                struct http_exchange *x, const struct http_request *r, void *arg);

#endif
