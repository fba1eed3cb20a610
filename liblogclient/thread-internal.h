/* thread-internal.h: starts the threads of a client: sender and reporter. */
#ifndef LC_THREAD_INTERNAL_H
#define LC_THREAD_INTERNAL_H

#include <pthread.h>

/* Starts a thread that gets none of the program's signals. Returns 0 or an errno. */
int lc_thread_start(pthread_t *thread, void *(*run)(void *), void *arg);

#endif
