/* heap.c: tells malloc(3) to keep what is freed. Both daemons use it. */
#include "common/heap.h"

#include <stdlib.h> /* for __GLIBC__ */

#ifdef __GLIBC__
#include <malloc.h>
#endif

#define KEEP_BYTES (4 << 20)

void heap_keep(void)
{
#if defined(__GLIBC__)
    mallopt(M_MMAP_THRESHOLD, KEEP_BYTES);
    mallopt(M_TRIM_THRESHOLD, KEEP_BYTES);
#endif
}
