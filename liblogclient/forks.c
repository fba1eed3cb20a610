/* forks.c: the fork handlers, and who is told of a fork. */
#include "forks-internal.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

/* Lies in a page that the kernel fills with zeros in every child (madvise(2), MADV_WIPEONFORK). */
static _Atomic unsigned without_page = 1;
_Atomic unsigned *lc_fork_generation = &without_page;
#define NOTICING UINT_MAX
static unsigned generation = 1; /* the same; in a child that of its parent */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int installed; /* 0 or an errno */

static pthread_mutex_t default_lock = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static bool default_locked; /* by before_fork() */

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static sigset_t held_mask; /* of the thread that holds list_lock */
static struct lc_forked *list;

/* Returns what was blocked before. */
static sigset_t block_signals(void)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    return old;
}

/* Without signals: a handler that forks would wait for its own thread. */
void lc_hold_forks(void)
{
    sigset_t old = block_signals();
    pthread_mutex_lock(&list_lock);
    held_mask = old;
}

void lc_allow_forks(void)
{
    sigset_t old = held_mask;
    pthread_mutex_unlock(&list_lock);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void lc_add_forked(struct lc_forked *forked)
{
    forked->next = list;
    list = forked;
}

void lc_remove_forked(const struct lc_forked *forked)
{
    struct lc_forked **at = &list;
    while (*at != forked)
        at = &(*at)->next;
    *at = forked->next;
}

bool lc_lock_default(void)
{
    return pthread_mutex_lock(&default_lock) == 0;
}

void lc_unlock_default(void)
{
    pthread_mutex_unlock(&default_lock);
}

/* Signals stay away until all is unlocked again: their handlers might fork, too. */
static void before_fork(void)
{
    sigset_t old = block_signals();
    default_locked = lc_lock_default();
    pthread_mutex_lock(&list_lock);
    held_mask = old;
}

static void after_fork_in_parent(void)
{
    if (default_locked)
        lc_unlock_default();
    lc_allow_forks();
}

static void become_child(void)
{
    for (struct lc_forked *f = list; f != NULL; f = f->next)
        f->in_child(f->arg);
    pthread_mutex_init(&list_lock, NULL);
    default_lock = (pthread_mutex_t)PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
    atomic_store(lc_fork_generation, ++generation);
}

static void after_fork_in_child(void)
{
    become_child();
    pthread_sigmask(SIG_SETMASK, &held_mask, NULL);
}

void lc_notice_fork(void)
{
    unsigned none = 0;
    if (atomic_load(lc_fork_generation) == generation)
        return;
    sigset_t old = block_signals();
    if (atomic_compare_exchange_strong(lc_fork_generation, &none, NOTICING))
        become_child();
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    while (atomic_load(lc_fork_generation) == NOTICING)
        sched_yield(); /* another thread does it */
}

/* Without the page all is as before, but for children that no handler is told of. */
static void make_page(void)
{
    void *page = mmap(NULL, sizeof(*lc_fork_generation), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return;
    madvise(page, sizeof(*lc_fork_generation), MADV_WIPEONFORK);
    lc_fork_generation = page;
    atomic_store(lc_fork_generation, generation);
}

static void install(void)
{
    make_page();
    installed = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

int lc_install_fork_handlers(void)
{
    int error = pthread_once(&once, install);
    return error != 0 ? error : installed;
}

/* Not at the first call: a fork that another thread has begun by then would not wait for it, and
 * the child would find the lock of the default client taken for ever. */
__attribute__((constructor)) static void install_at_load(void)
{
    lc_install_fork_handlers();
}
