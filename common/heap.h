/* heap.h: how the daemons use malloc(3). */
#ifndef COMMON_HEAP_H
#define COMMON_HEAP_H

/* Keeps freed buffers of up to 4 MiB for the next batch. By default glibc gives those above 128 KiB
 * back to the kernel and takes them anew for each batch, which costs more than the rest of the
 * batch. Call it first. */
void heap_keep(void);

#endif
