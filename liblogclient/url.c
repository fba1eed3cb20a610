/* url.c: takes the url property apart: http://HOST[:PORT][/PATH], several separated by commas. */
#include "url-internal.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SCHEME       "http://"
#define DEFAULT_PORT 4000
#define DEFAULT_PATH "/api/log"

static int parse_port(const char *s, size_t n)
{
    int port = 0;
    if (n == 0 || n > 5)
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        port = port * 10 + (s[i] - '0');
    }
    return port >= 1 && port <= 65535 ? port : -1;
}

/* Finds where the host ends in an authority of n bytes; *bracketed for [IPv6]. 0: no host. */
static size_t host_length(const char *s, size_t n, bool *bracketed)
{
    *bracketed = n > 0 && s[0] == '[';
    if (*bracketed) {
        const char *close = memchr(s, ']', n);
        return close == NULL || close == s + 1 ? 0 : (size_t)(close - s) + 1;
    }
    const char *colon = memchr(s, ':', n);
    return colon == NULL ? n : (size_t)(colon - s);
}

static const char *parse_one(const char *s, size_t n, struct lc_url *url)
{
    *url = (struct lc_url){.port = DEFAULT_PORT};
    size_t scheme = sizeof(SCHEME) - 1;
    if (n >= 8 && strncasecmp(s, "https://", 8) == 0)
        return "it asks for TLS, which this version does not speak; use http:// to a logd on this "
               "host, or a tunnel";
    if (n <= scheme || strncasecmp(s, SCHEME, scheme) != 0)
        return "give a URL of the form http://HOST[:PORT]";
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] <= ' ' || s[i] == 0x7f || s[i] == '@' || s[i] == '?' || s[i] == '#')
            return "it holds a space, a user, a query or a fragment; use http://HOST[:PORT][/PATH]";
    const char *authority = s + scheme;
    size_t rest = n - scheme;
    const char *slash = memchr(authority, '/', rest);
    size_t length = slash == NULL ? rest : (size_t)(slash - authority);
    bool bracketed;
    size_t host = host_length(authority, length, &bracketed);
    if (host == 0)
        return "it has no host; use http://HOST[:PORT]";
    if (host < length && (authority[host] != ':' ||
                          (url->port = parse_port(authority + host + 1, length - host - 1)) < 0))
        return "it has a bad port; use a number from 1 to 65535";
    while (n > scheme + length && s[n - 1] == '/')
        n--;
    size_t path = n - scheme - length;
    url->host = bracketed ? strndup(authority + 1, host - 2) : strndup(authority, host);
    url->host_header = strndup(authority, length);
    url->path = path > 0 ? strndup(slash, path) : strdup(DEFAULT_PATH);
    url->text = strndup(s, n);
    if (url->host == NULL || url->host_header == NULL || url->path == NULL || url->text == NULL)
        return "out of memory";
    return NULL;
}

int lc_urls_parse(const char *list, struct lc_url urls[LC_URLS_MAX], const char **why)
{
    int count = 0;
    for (const char *s = list;;) {
        size_t n = strcspn(s, ",");
        *why = count == LC_URLS_MAX ? "it lists more than 8 URLs; give fewer"
                                    : parse_one(s, n, &urls[count++]);
        if (*why != NULL)
            break;
        if (s[n] == '\0')
            return count;
        s += n + 1;
    }
    lc_urls_free(urls, count);
    return -1;
}

void lc_urls_free(struct lc_url *urls, int count)
{
    for (int i = 0; i < count; i++) {
        free(urls[i].host);
        free(urls[i].host_header);
        free(urls[i].path);
        free(urls[i].text);
    }
}
