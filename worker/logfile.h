/* logfile.h: opens and locks the log, and finds it under another name. For sink.c and reconcile.c.
 *
 * A lock belongs to what open(2) opened: it ends when the last duplicate of the descriptor is
 * closed, or the process dies. */
#ifndef WORKER_LOGFILE_H
#define WORKER_LOGFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stat;

/* Opens the path for appending, and makes the file if need be. With sync_directory its name
 * survives a power cut, too. *st is what fstat(2) says. -1: errno; EINVAL: not a regular file. */
int logfile_open(const char *path, bool sync_directory, struct stat *st);

/* Locks the file against other workers, without waiting. The path is for the message. False: err
 * holds a sentence, errno the reason (EBUSY: another process has the lock). */
bool logfile_lock(int fd, const char *path, char *err, size_t errlen);

/* Opens and locks the file of this device and number, under whatever name, in the directory of the
 * path. -1: errno; ENOENT: it is not there. */
int logfile_open_renamed(const char *path, uint64_t dev, uint64_t ino);

/* Whether this errno of logfile_open_renamed() means that the file is not there for this log: it is
 * missing, or it is another worker's. */
bool logfile_is_gone(int error);

/* Ends a last line that somebody left open, so that the next one stands alone. False: errno. */
bool logfile_end_line(int fd);

/* fsync(2) of the directory of the path. False: errno. */
bool logfile_sync_directory(const char *path);

#endif
