/* report-internal.h: tells the program, or its operator, what happens on the sender's thread. For
 * sender.c, source.c and default.c. */
#ifndef LC_REPORT_INTERNAL_H
#define LC_REPORT_INTERNAL_H

#include "client-internal.h"

/* Calls the error callback. Without one, prints if the property report says so. */
void lc_report(logclient_t *client, logclient_status_t status, const char *text);

/* The same for the default client that cannot be made, once. Keeps errno. */
void lc_report_bad_environment(const char *text);

#endif
