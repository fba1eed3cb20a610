/* forks-internal.h: what fork(2) means for the library. life.c enters each client here, and keeps
 * forks away while a client comes or goes. */
#ifndef LC_FORKS_INTERNAL_H
#define LC_FORKS_INTERNAL_H

#include <stdbool.h>

/* Which process of a family this is: 1 in the first that has the library, one more in each child.
 * 0 in a child that was made without fork(3), by _Fork(3) or clone(2), until lc_notice_fork(). */
extern _Atomic unsigned *lc_fork_generation;

/* What is to be told of a fork: embedded in a client. */
struct lc_forked {
    void (*in_child)(void *arg); /* runs in the child, before fork(2) returns there */
    void *arg;
    struct lc_forked *next; /* of forks.c */
};

/* Whether the handlers are installed, which happens when the library is loaded. Returns 0 or an
 * errno. */
int lc_install_fork_handlers(void);

/* In a child of which no handler was told: does what the handlers do. */
void lc_notice_fork(void);

/* Between these two calls no child is forked, so that none gets half a client; and no signal comes.
 * Don't call the error callback in between. */
void lc_hold_forks(void);
void lc_allow_forks(void);

/* Enters or removes what is to be told. Only between the two calls above. */
void lc_add_forked(struct lc_forked *forked);
void lc_remove_forked(const struct lc_forked *forked);

/* The lock under which the default client is made. A fork waits for it, too, and the child gets it
 * unlocked. False when this very thread holds it, which a signal handler has interrupted. Always
 * taken before lc_hold_forks(). */
bool lc_lock_default(void);
void lc_unlock_default(void);

#endif
