/* logfile.c: the log as a file among others, which may have several names. */
#include "worker/logfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crash.h"

/* Closes without a change of errno. Returns -1. */
static int give_up(int fd)
{
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
    return -1;
}

/* ---- The directory ---- */

bool logfile_sync_directory(const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof(copy), "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    give_up(fd);
    return synced;
}

/* Finds the file in the directory of the path, under another name than the path's. False: errno;
 * ENOENT: it has none. */
static bool find_name(const char *path, uint64_t dev, uint64_t ino, char found[PATH_MAX])
{
    char head[PATH_MAX], tail[PATH_MAX];
    snprintf(head, sizeof(head), "%s", path);
    snprintf(tail, sizeof(tail), "%s", path);
    const char *dir_name = dirname(head), *own = basename(tail);
    DIR *dir = opendir(dir_name);
    bool good = false;
    struct dirent *entry;
    struct stat st;
    if (dir == NULL)
        return false;
    while (!good && (entry = readdir(dir)) != NULL)
        good = entry->d_ino == ino && strcmp(entry->d_name, own) != 0 &&
               snprintf(found, PATH_MAX, "%s/%s", dir_name, entry->d_name) < PATH_MAX &&
               lstat(found, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
    closedir(dir);
    errno = ENOENT;
    return good;
}

int logfile_open_renamed(const char *path, uint64_t dev, uint64_t ino)
{
    char name[PATH_MAX];
    if (!find_name(path, dev, ino, name))
        return -1;
    int fd = open(name, O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 ? fd : give_up(fd);
}

/* ---- The file ---- */

int logfile_open(const char *path, bool sync_directory, struct stat *st)
{
    int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    CRASH_POINT();
    if (fd < 0 || fstat(fd, st) != 0)
        return give_up(fd);
    errno = EINVAL; /* a device or a pipe: cannot be cut, and offsets mean nothing */
    if (!S_ISREG(st->st_mode) || (sync_directory && !logfile_sync_directory(path)))
        return give_up(fd);
    return fd;
}

bool logfile_is_gone(int error)
{
    return error == ENOENT || error == EWOULDBLOCK;
}

bool logfile_end_line(int fd)
{
    char last = '\n';
    struct stat st;
    if (fstat(fd, &st) != 0 || (st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) < 0))
        return false;
    if (last != '\n' && write(fd, "\n", 1) != 1)
        return false;
    CRASH_POINT();
    return true;
}

/* What else the file is called: where a symbolic link leads to, or a hard link beside it. */
static bool other_name(const char *path, char name[PATH_MAX])
{
    struct stat own, file;
    if (lstat(path, &own) != 0 || stat(path, &file) != 0)
        return false;
    return S_ISLNK(own.st_mode) ? realpath(path, name) != NULL
                                : find_name(path, file.st_dev, file.st_ino, name);
}

bool logfile_lock(int fd, const char *path, char *err, size_t errlen)
{
    char name[PATH_MAX];
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (errno != EWOULDBLOCK) {
        snprintf(err, errlen, "cannot lock %s: %m", path);
        return false;
    }
    bool also = other_name(path, name);
    snprintf(err, errlen,
             "%s is locked: another logworker writes this file%s%s; stop it, or give this one "
             "another --output",
             path, also ? ", which is also " : "", also ? name : "");
    errno = EBUSY;
    return false;
}
