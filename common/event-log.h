/* event-log.h: libevent's own messages as lines of diag.h's, one in ten seconds at most. */
#ifndef COMMON_EVENT_LOG_H
#define COMMON_EVENT_LOG_H

/* For the whole process; call it before the first event base. What libevent cannot survive ends the
 * program with EXIT_BUG. */
void event_log_init(void);

#endif
