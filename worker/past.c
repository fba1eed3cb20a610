/* past.c: finds the files that the log was before. */
#include "worker/past.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int newest_first(const void *a, const void *b)
{
    const struct timespec *x = &((const struct past_file *)a)->changed;
    const struct timespec *y = &((const struct past_file *)b)->changed;
    if (x->tv_sec != y->tv_sec)
        return x->tv_sec < y->tv_sec ? 1 : -1;
    return (x->tv_nsec < y->tv_nsec) - (x->tv_nsec > y->tv_nsec);
}

/* Whether the name is one that a file of the log may have got. */
static bool is_past_name(const char *name, const char *own)
{
    size_t n = strlen(own);
    return strncmp(name, own, n) == 0 && name[n] != '\0' && strcmp(name + n, ".state") != 0;
}

/* Whether another name of the file was found before. */
static bool is_known(const struct past *p, const struct stat *st)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->files[i].dev == st->st_dev && p->files[i].ino == st->st_ino)
            return true;
    return false;
}

static bool add(struct past *p, const char *name, const struct stat *st)
{
    struct past_file *files = reallocarray(p->files, p->count + 1, sizeof(*files));
    if (files == NULL)
        return false;
    p->files = files;
    files[p->count] = (struct past_file){.name = strdup(name),
                                         .dev = st->st_dev,
                                         .ino = st->st_ino,
                                         .changed = st->st_mtim,
                                         .size = st->st_size};
    if (files[p->count].name == NULL)
        return false;
    p->bytes += st->st_size;
    p->count++;
    return true;
}

static bool read_names(struct past *p, const char *own, const struct stat *log)
{
    int fd = fcntl(p->dir, F_DUPFD_CLOEXEC, 0);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    bool good = true;
    struct dirent *entry;
    struct stat st;
    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    while (good && (entry = readdir(dir)) != NULL)
        if (is_past_name(entry->d_name, own) &&
            fstatat(p->dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            (st.st_dev != log->st_dev || st.st_ino != log->st_ino) && !is_known(p, &st))
            good = add(p, entry->d_name, &st);
    closedir(dir);
    return good;
}

bool past_list(struct past *p, const char *path, const struct stat *log)
{
    char head[PATH_MAX], tail[PATH_MAX];
    snprintf(head, sizeof(head), "%s", path);
    snprintf(tail, sizeof(tail), "%s", path);
    *p = (struct past){.dir = open(dirname(head), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (p->dir < 0 || !read_names(p, basename(tail), log)) {
        past_free(p);
        return false;
    }
    if (p->count > 0)
        qsort(p->files, p->count, sizeof(p->files[0]), newest_first);
    return true;
}

bool past_none(const char *path, int log, bool *none)
{
    struct past past;
    struct stat st;
    if (fstat(log, &st) != 0 || !past_list(&past, path, &st))
        return false;
    *none = st.st_size == 0 && past.bytes == 0;
    past_free(&past);
    return true;
}

int past_open(const struct past *p, size_t i)
{
    char first;
    int fd = openat(p->dir, p->files[i].name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return -1;
    ssize_t n = pread(fd, &first, 1, 0);
    if (n == 0 || (n == 1 && first == '{'))
        return fd;
    int saved = n < 0 ? errno : EINVAL;
    close(fd);
    errno = saved;
    return -1;
}

void past_free(struct past *p)
{
    int saved = errno;
    for (size_t i = 0; i < p->count; i++)
        free(p->files[i].name);
    free(p->files);
    if (p->dir >= 0)
        close(p->dir);
    *p = (struct past){.dir = -1};
    errno = saved;
}
