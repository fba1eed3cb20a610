/* minimal.c: a complete program that logs one record and waits until it is stored. */
#include <stdio.h>

#include <logclient.h>

int main(void)
{
    if (send_log("minimal", "warn", "hello from C") != 0) {
        perror("minimal: send_log");
        return 1;
    }
    logclient_status_t status = logclient_flush(NULL, 5000);
    if (status != LOGCLIENT_OK) {
        fprintf(stderr, "minimal: not delivered yet: %s\n", logclient_strerror(status));
    }
    return status == LOGCLIENT_OK ? 0 : 1;
}
