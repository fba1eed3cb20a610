/* thread.c: starts threads. */
#include "thread-internal.h"

#include <errno.h>
#include <signal.h>

#define STACK_BYTES (512 * 1024) /* at least */

int lc_thread_start(pthread_t *thread, void *(*run)(void *), void *arg)
{
    sigset_t all, old;
    pthread_attr_t attr;
    size_t stack;
    int error = pthread_attr_init(&attr);
    if (error != 0)
        return error;
    /* The C library takes the program's thread-local variables out of it, too. */
    if (pthread_attr_getstacksize(&attr, &stack) == 0 && stack < STACK_BYTES)
        pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    error = pthread_create(thread, &attr, run, arg);
    /* A stack as large as the system's limit may be too much, where memory is locked. */
    if (error == EAGAIN && pthread_attr_setstacksize(&attr, STACK_BYTES) == 0)
        error = pthread_create(thread, &attr, run, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return error;
}
