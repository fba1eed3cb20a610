/* signals.c: the signals that the daemons mind. */
#include "common/signals.h"

#include <signal.h>
#include <stddef.h>

static void change_mask(int how)
{
    static const int minded[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(minded) / sizeof(minded[0]); i++)
        sigaddset(&set, minded[i]);
    sigprocmask(how, &set, NULL);
}

void signals_hold(void)
{
    change_mask(SIG_BLOCK);
}

void signals_release(void)
{
    change_mask(SIG_UNBLOCK);
}
