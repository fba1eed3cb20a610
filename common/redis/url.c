/* url.c: reads a Redis URL. Every message about it comes from fail(), which never shows the
 * password. */
#include "common/redis/url.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define DEFAULT_PORT 6379
/* hiredis 0.14.1 leaves the last byte of sun_path unset: the path must end one byte earlier. */
#define PATH_LIMIT (sizeof(((struct sockaddr_un *)0)->sun_path) - 2)
#define LOOKS_LIKE                                                                                 \
    "a Redis URL looks like redis://[USER:PASSWORD@]HOST[:PORT][/DB] or "                          \
    "unix://[USER:PASSWORD@]/PATH[?db=N]"

struct parse {
    struct redis_url *url;
    const char *text;
    char *err;
    size_t errlen;
};

/* The scheme, the user if there is one, and what follows `at`, where the user's part ends; NULL:
 * there is none. */
static char *without_password(const char *text, const char *user, const char *at)
{
    const char *slashes = strstr(text, "://");
    char *shown;
    if (at == NULL)
        return strdup(text);
    if (asprintf(&shown, "%.*s%s%s%s", slashes == NULL ? 0 : (int)(slashes + 3 - text), text,
                 user != NULL ? user : "", user != NULL ? "@" : "", at + 1) < 0)
        return NULL;
    return shown;
}

/* The text is not understood, so all up to its last "@" may be a password. */
static bool fail(struct parse *p, const char *what)
{
    char *shown = without_password(p->text, NULL, strrchr(p->text, '@'));
    snprintf(p->err, p->errlen, "\"%s\": %s; " LOOKS_LIKE, shown != NULL ? shown : "", what);
    free(shown);
    return false;
}

static bool out_of_memory(struct parse *p)
{
    snprintf(p->err, p->errlen, "out of memory");
    return false;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Stores the n bytes at s, percent-decoded. */
static bool decode(struct parse *p, char **out, const char *s, size_t n)
{
    char *to = *out = malloc(n + 1);
    if (to == NULL)
        return out_of_memory(p);
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c == '%') {
            int high = n - i > 2 ? hex_digit(s[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(s[i + 2]) : -1;
            if (low < 0 || high + low == 0)
                return fail(p, "\"%\" must be followed by two hexadecimal digits, and not by 00");
            c = (char)(high * 16 + low);
            i += 2;
        }
        *to++ = c;
    }
    *to = '\0';
    return true;
}

/* Reads a decimal number of at most `max` that fills the n bytes at s. */
static bool number(const char *s, size_t n, int max, int *value)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        sum = sum * 10 + (s[i] - '0');
        if (sum > max)
            return false;
    }
    *value = (int)sum;
    return n > 0;
}

/* "USER:PASSWORD" in the n bytes at s. */
static bool parse_userinfo(struct parse *p, const char *s, size_t n)
{
    const char *colon = memchr(s, ':', n);
    size_t user_len;
    if (colon == NULL)
        return fail(
            p, "there is no \":\" before the \"@\"; for a password alone write \":PASSWORD@\"");
    user_len = (size_t)(colon - s);
    if (user_len > 0 && !decode(p, &p->url->user, s, user_len))
        return false;
    if (user_len + 1 == n)
        return fail(p, "the password is empty; without one leave out all up to the \"@\"");
    return decode(p, &p->url->password, colon + 1, n - user_len - 1);
}

/* "HOST[:PORT]" or "[ADDRESS][:PORT]" in the n bytes at s. */
static bool parse_host(struct parse *p, const char *s, size_t n)
{
    const char *end = s + n, *host = s, *host_end, *colon;
    if (n > 0 && *s == '[') {
        host++;
        host_end = memchr(s, ']', n);
        if (host_end == NULL || (host_end + 1 < end && host_end[1] != ':'))
            return fail(p, "an IPv6 address must be written as \"[ADDRESS]\"");
        colon = host_end + 1 < end ? host_end + 1 : NULL;
    } else {
        colon = memchr(s, ':', n);
        host_end = colon != NULL ? colon : end;
    }
    if (colon != NULL && memchr(colon + 1, ':', (size_t)(end - colon - 1)) != NULL)
        return fail(p, "an IPv6 address must be written as \"[ADDRESS]\"");
    if (host == host_end)
        return fail(p, "the host is missing");
    p->url->port = DEFAULT_PORT;
    if (colon != NULL &&
        (!number(colon + 1, (size_t)(end - colon - 1), 65535, &p->url->port) || p->url->port == 0))
        return fail(p, "the port must be a number from 1 to 65535");
    p->url->host = strndup(host, (size_t)(host_end - host));
    return p->url->host != NULL || out_of_memory(p);
}

static bool parse_db(struct parse *p, const char *s)
{
    if (!number(s, strlen(s), INT_MAX, &p->url->db))
        return fail(p, "the database must be a number, such as 0");
    return true;
}

static bool parse_tcp(struct parse *p, const char *host, const char *slash)
{
    if (strchr(host, '?') != NULL || strchr(host, '#') != NULL)
        return fail(p, "\"?\" and \"#\" have no meaning in it");
    if (strchr(slash, '@') != NULL)
        return fail(p, "a \"/\" in the password must be written as %2F");
    if (!parse_host(p, host, (size_t)(slash - host)))
        return false;
    return *slash == '\0' || slash[1] == '\0' || parse_db(p, slash + 1);
}

static bool parse_unix(struct parse *p, const char *host, const char *slash)
{
    const char *query = strchr(slash, '?');
    const char *end = query != NULL ? query : slash + strlen(slash);
    char what[80];
    if (slash != host || end - slash < 2)
        return fail(p, "the path of the socket must be absolute");
    if (!decode(p, &p->url->path, slash, (size_t)(end - slash)))
        return false;
    if (strlen(p->url->path) > PATH_LIMIT) {
        snprintf(what, sizeof(what), "the path has more than %zu bytes, which no unix socket may",
                 PATH_LIMIT);
        return fail(p, what);
    }
    if (query == NULL)
        return true;
    if (strncmp(query, "?db=", 4) != 0)
        return fail(p, "after \"?\" only \"db=N\" may follow");
    return parse_db(p, query + 4);
}

static bool parse(struct parse *p)
{
    bool is_unix = strncmp(p->text, "unix://", 7) == 0;
    const char *host, *slash, *at;
    if (strncmp(p->text, "rediss://", 9) == 0)
        return fail(p, "TLS is not built in; use redis:// through a tunnel");
    if (!is_unix && strncmp(p->text, "redis://", 8) != 0)
        return fail(p, "it must begin with redis:// or unix://");
    host = strstr(p->text, "://") + 3;
    slash = strchrnul(host, '/');
    at = memrchr(host, '@', (size_t)(slash - host));
    if (at != NULL) {
        if (!parse_userinfo(p, host, (size_t)(at - host)))
            return false;
        host = at + 1;
    }
    if (is_unix ? !parse_unix(p, host, slash) : !parse_tcp(p, host, slash))
        return false;
    p->url->shown = without_password(p->text, p->url->user, at);
    return p->url->shown != NULL || out_of_memory(p);
}

bool redis_url_parse(struct redis_url *url, const char *text, char *err, size_t errlen)
{
    struct parse p = {.url = url, .text = text, .err = err, .errlen = errlen};
    memset(url, 0, sizeof(*url));
    if (parse(&p))
        return true;
    redis_url_free(url);
    return false;
}

void redis_url_free(struct redis_url *url)
{
    free(url->host);
    free(url->path);
    free(url->user);
    free(url->password);
    free(url->shown);
    memset(url, 0, sizeof(*url));
}
