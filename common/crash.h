/* crash.h: the seam through which tests let a process die between two stores.
 *
 * In ordinary builds CRASH_POINT() is nothing. With -DCRASH_POINTS, and crash_countdown set to k,
 * the k-th CRASH_POINT() from then on ends the process with _exit(CRASH_EXIT), as abruptly as
 * SIGKILL. */
#ifndef COMMON_CRASH_H
#define COMMON_CRASH_H

#ifdef CRASH_POINTS

#include <unistd.h>

#define CRASH_EXIT 86

extern _Atomic long crash_countdown; /* defined by the test; 0: never */

#define CRASH_POINT()                                                                              \
    do {                                                                                           \
        if (crash_countdown > 0 && --crash_countdown == 0)                                         \
            _exit(CRASH_EXIT);                                                                     \
    } while (0)

#else

#define CRASH_POINT() ((void)0)

#endif

#endif
