/* signals.h: lets the signals of a daemon wait until its event loop minds them. */
#ifndef COMMON_SIGNALS_H
#define COMMON_SIGNALS_H

/* SIGTERM, SIGINT, SIGHUP and SIGUSR1 wait from now on: one that came before its handler would end
 * the process, and logrotate may send SIGHUP at any time. Call it first in main(). */
void signals_hold(void);

/* Lets them come, those that waited first. Call it when the handlers stand. */
void signals_release(void);

#endif
