/* port.h: an HTTP port for a few short visits. evhttp limits neither how many connections there
 * are nor how long one lasts, since its time-out begins again with every byte. */
#ifndef WORKER_PORT_H
#define WORKER_PORT_H

#include <stdbool.h>

struct event_base;
struct evhttp;
struct port;

/* One a process (common/accept.h). NULL: out of memory. */
struct port *port_new(struct event_base *base);

/* To set callbacks; borrowed. They answer at once, and with "Connection: close": a connection lives
 * only so long that one request fits. */
struct evhttp *port_http(struct port *p);

/* Accepts on a listening socket, which is taken even on failure. False: out of memory. */
bool port_listen(struct port *p, int fd);

/* Closes all. NULL is ignored. */
void port_free(struct port *p);

#endif
