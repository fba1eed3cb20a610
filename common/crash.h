/* crash.h: lets a test end a process between two stores. The ring, the log and its state use it.
 *
 * In ordinary builds CRASH_POINT() is nothing. With -DCRASH_POINTS a test sets crash_countdown to
 * k, and the k-th CRASH_POINT() from then on ends the process, as abruptly as SIGKILL. */
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
