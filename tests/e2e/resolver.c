/* resolver.c: a program whose network comes up after its start. It finds /etc/hosts and
 * /etc/resolv.conf in the directory argv[1]. It logs one record to argv[2], whose name is not known
 * yet. Once the client has said so, it writes the line argv[3] to hosts. It says when the record is
 * delivered, and ends with its standard input. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "logclient.h"

static const char *etc;
static bool reported; /* atomic */

/* Take the place of the C library's. */
int open(const char *path, int flags, ...);
int open64(const char *path, int flags, ...) __attribute__((alias("open")));

static int open_ours(const char *path, int flags, mode_t mode)
{
    char ours[4096];
    if (strcmp(path, "/etc/hosts") == 0 || strcmp(path, "/etc/resolv.conf") == 0) {
        snprintf(ours, sizeof(ours), "%s%s", etc, strrchr(path, '/'));
        path = ours;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open_ours(path, flags, mode);
}

static void on_error(logclient_t *client, logclient_status_t status, const char *text, void *arg)
{
    (void)client, (void)arg;
    fprintf(stderr, "%d %s\n", (int)status, text);
    __atomic_store_n(&reported, true, __ATOMIC_RELEASE);
}

int main(int argc, char **argv)
{
    char path[4096];
    logclient_options_t *options = logclient_options_new();
    if (argc != 4 || options == NULL ||
        logclient_options_set(options, "url", argv[2], NULL, 0) != LOGCLIENT_OK)
        return 64;
    etc = argv[1];
    logclient_options_set_error_cb(options, on_error, NULL);
    logclient_t *client = logclient_new(options, NULL, 0);
    logclient_options_free(options);
    if (client == NULL || logclient_send(client, "resolver", "warn", "delivered") != 0)
        return 1;
    while (!__atomic_load_n(&reported, __ATOMIC_ACQUIRE))
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    snprintf(path, sizeof(path), "%s/hosts", etc);
    FILE *hosts = fopen(path, "w");
    if (hosts == NULL || fprintf(hosts, "%s\n", argv[3]) < 0 || fclose(hosts) != 0)
        return 1;
    if (logclient_flush(client, 30000) != LOGCLIENT_OK)
        return 2;
    puts("delivered");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    logclient_free(client);
    return 0;
}
