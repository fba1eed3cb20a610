/* anonymous.c: becomes anonymous.so. Preloaded into load, it keeps the library from naming itself
 * as a producer: so the pipeline is measured without the producer protocol. */
#include <dlfcn.h>
#include <stddef.h>
#include <strings.h>

struct evkeyvalq;

int evhttp_add_header(struct evkeyvalq *headers, const char *key, const char *value);

__attribute__((visibility("default"))) int evhttp_add_header(struct evkeyvalq *headers,
                                                             const char *key, const char *value)
{
    static int (*real)(struct evkeyvalq *, const char *, const char *);
    if (strncasecmp(key, "Log-", 4) == 0)
        return 0;
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "evhttp_add_header");
    return real(headers, key, value);
}
