/* url-internal.h: the URLs of logd, taken apart. options.c checks them, sender.c and http.c use
 * them. */
#ifndef LC_URL_INTERNAL_H
#define LC_URL_INTERNAL_H

#define LC_URLS_MAX 8

/* One http:// URL. */
struct lc_url {
    char *host;        /* name or address, without brackets */
    char *path;        /* begins with '/' */
    char *host_header; /* host[:port], as the Host header wants it */
    char *text;        /* as given, without a trailing slash: for messages */
    int port;
};

/* Splits the url property. Returns the number of URLs, to be freed with lc_urls_free(), or -1 with
 * a remedy in *why, static. */
int lc_urls_parse(const char *list, struct lc_url urls[LC_URLS_MAX], const char **why);
void lc_urls_free(struct lc_url *urls, int count);

#endif
