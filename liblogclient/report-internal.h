/* report-internal.h: tells the program, or its operator, what happens on the sender's thread. For
 * sender.c, source.c and default.c. */
#ifndef LC_REPORT_INTERNAL_H
#define LC_REPORT_INTERNAL_H

#include "client-internal.h"

/* Starts the thread that reports, if anybody wants reports. Returns 0 or an errno. */
int lc_reporter_start(logclient_t *client);

/* Tells what is left to be told, and ends the thread. Does nothing on that thread itself. */
void lc_reporter_stop(logclient_t *client);

/* Calls the error callback. Without one, prints if the property report says so. Neither waits nor
 * runs here: the reporter's thread does it. */
void lc_report(logclient_t *client, logclient_status_t status, const char *text);

/* The same for the default client that cannot be made, once. Keeps errno. */
void lc_report_no_client(const char *text);

#endif
