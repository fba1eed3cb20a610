/* listening.c: from ADDR:PORT to a socket. */
#include "common/http/listening.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 1024

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static bool parse_port(const char *s, in_port_t *port)
{
    unsigned n = 0;
    size_t len = strspn(s, "0123456789");
    if (len == 0 || len > 5 || s[len] != '\0')
        return false;
    for (; *s != '\0'; s++)
        n = n * 10 + (unsigned)(*s - '0');
    *port = htons((uint16_t)n);
    return n <= 65535;
}

static const char *parse(const char *text, union address *out)
{
    char host[INET6_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    bool v6 = *text == '[';
    memset(out, 0, sizeof(*out));
    if (colon == NULL)
        return "no port: write ADDR:PORT, such as 127.0.0.1:4000 or [::1]:4000";
    const char *from = v6 ? text + 1 : text;
    const char *to = v6 ? colon - 1 : colon;
    if (to < from || (v6 && *to != ']') || (size_t)(to - from) >= sizeof(host))
        return "no address: write ADDR:PORT, such as 127.0.0.1:4000 or [::1]:4000";
    memcpy(host, from, (size_t)(to - from));
    host[to - from] = '\0';
    out->any.sa_family = v6 ? AF_INET6 : AF_INET;
    if (inet_pton(out->any.sa_family, host,
                  v6 ? (void *)&out->v6.sin6_addr : (void *)&out->v4.sin_addr) != 1)
        return "not a numeric address (names are not looked up): write 127.0.0.1:4000 or "
               "[::1]:4000";
    if (!parse_port(colon + 1, v6 ? &out->v6.sin6_port : &out->v4.sin_port))
        return "the port must be a number from 0 to 65535";
    return NULL;
}

const char *listen_check(const char *text)
{
    union address address;
    return parse(text, &address);
}

static bool show(int fd, char shown[LISTEN_SHOWN_MAX])
{
    char host[INET6_ADDRSTRLEN];
    union address real;
    socklen_t len = sizeof(real);
    if (getsockname(fd, &real.any, &len) < 0)
        return false;
    if (real.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &real.v6.sin6_addr, host, sizeof(host));
        snprintf(shown, LISTEN_SHOWN_MAX, "[%s]:%u", host, ntohs(real.v6.sin6_port));
    } else {
        inet_ntop(AF_INET, &real.v4.sin_addr, host, sizeof(host));
        snprintf(shown, LISTEN_SHOWN_MAX, "%s:%u", host, ntohs(real.v4.sin_port));
    }
    return true;
}

/* Connections inherit TCP_NODELAY from the listening socket. */
static bool set_up(int fd, const union address *a)
{
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
        return false;
    if (a->any.sa_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
        return false;
    socklen_t len = a->any.sa_family == AF_INET6 ? sizeof(a->v6) : sizeof(a->v4);
    return bind(fd, &a->any, len) == 0 && listen(fd, BACKLOG) == 0;
}

int listen_open(const char *text, char shown[LISTEN_SHOWN_MAX], char *err, size_t errlen)
{
    union address address;
    const char *wrong = parse(text, &address);
    if (wrong != NULL) {
        snprintf(err, errlen, "--listen %s: %s", text, wrong);
        return -1;
    }
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && set_up(fd, &address) && show(fd, shown))
        return fd;
    int error = errno;
    const char *remedy = error == EADDRINUSE
                             ? "stop what listens there, or choose another port with --listen"
                             : "choose another address with --listen";
    snprintf(err, errlen, "cannot listen on %s: %s; %s", text, strerror(error), remedy);
    if (fd >= 0)
        close(fd);
    return -1;
}
