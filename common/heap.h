/* heap.h: how the daemons use malloc(3). */
#ifndef COMMON_HEAP_H
#define COMMON_HEAP_H

/* Keeps freed memory of up to 4 MiB for the next batch. glibc's default gives buffers of more than
 * 128 KiB back to the kernel each time and takes them anew, which costs more than all the rest of a
 * batch. Call it first. */
void heap_keep(void);

#endif
