/* event-log.h: prints libevent's own messages through diag.h, limited. Both daemons use it. */
#ifndef COMMON_EVENT_LOG_H
#define COMMON_EVENT_LOG_H

/* Call it before the first event base; it holds for the whole process. What libevent cannot survive
 * ends the program with EXIT_BUG. */
void event_log_init(void);

#endif
