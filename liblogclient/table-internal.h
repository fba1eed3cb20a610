/* table-internal.h: the descriptor table of the sender's thread. For sender.c. */
#ifndef LC_TABLE_INTERNAL_H
#define LC_TABLE_INTERNAL_H

/* Gives the calling thread a descriptor table of its own, with /dev/null as 0, 1 and 2 and nothing
 * else. So the program can close what it likes, its forked children and executed programs get
 * nothing of ours, and no message of its own lands in our files. Sees to it that libevent will find
 * the descriptors that it needs, without which it would end the process. Returns 0 or an errno. */
int lc_table_separate(void);

#endif
