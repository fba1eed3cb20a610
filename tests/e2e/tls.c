/* tls.c: a program with more thread-local variables than a small stack holds. It logs argv[1]
 * records. */
#include <stdio.h>
#include <stdlib.h>

#include "logclient.h"

static __thread char large[600 * 1024];

int main(int argc, char **argv)
{
    long count = argc == 2 ? atol(argv[1]) : 0;
    large[0] = 'x';
    for (long i = 0; i < count; i++)
        if (send_logf("tls", "warn", "%c-%ld", large[0], i) != 0)
            return 1;
    return logclient_flush(NULL, 30000) == LOGCLIENT_OK ? 0 : 2;
}
