/* ringdir.c: makes ring files, and finds those whose owner is dead. */
#include "ringdir-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crash.h"
#include "common/timestamp.h"
#include "fd-internal.h"

#define SUFFIX_RING "ring"
#define SUFFIX_TMP  "tmp"
#define ATTEMPTS    100 /* to make a ring while others search */

/* ---- The directory ---- */

/* The private default: in $XDG_RUNTIME_DIR, which by its specification belongs to this user, else
 * in /dev/shm. */
static void default_path(char *path, size_t n)
{
    const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
    struct stat st;
    if (runtime != NULL && runtime[0] == '/' && stat(runtime, &st) == 0 && S_ISDIR(st.st_mode) &&
        st.st_uid == geteuid())
        snprintf(path, n, "%s/logclient", runtime);
    else
        snprintf(path, n, "/dev/shm/logclient-%lu", (unsigned long)geteuid());
}

int lc_ringdir_open(const char *setting, char *why, size_t whylen)
{
    char path[4096];
    if (setting != NULL)
        snprintf(path, sizeof(path), "%s", setting);
    else
        default_path(path, sizeof(path));
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        snprintf(why, whylen, "cannot make the ring directory %.200s: %s", path, strerror(errno));
        return -1;
    }
    int dir = lc_fd_high(
        open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (setting == NULL ? O_NOFOLLOW : 0)));
    struct stat st;
    if (dir < 0 || fstat(dir, &st) != 0) {
        snprintf(why, whylen, "cannot open the ring directory %.200s: %s", path, strerror(errno));
        if (dir >= 0)
            close(dir);
        return -1;
    }
    /* /dev/shm is everybody's: another user may have made the directory first. */
    if (setting == NULL && (st.st_uid != geteuid() || (st.st_mode & 077) != 0)) {
        snprintf(why, whylen,
                 "the ring directory %.200s is not private: it must belong to user %lu and have "
                 "mode 0700",
                 path, (unsigned long)geteuid());
        close(dir);
        return -1;
    }
    return dir;
}

/* ---- Making rings ---- */

static int random_name(char name[LC_RING_NAME_MAX])
{
    unsigned char id[LC_PRODUCER_BYTES];
    if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id))
        return errno;
    lc_producer_hex(id, name);
    return 0;
}

/* Makes the ring in the file fd, whose name is tmp. A mapping keeps the file description that it
 * was made with, and a forked child keeps the mapping. A description of its own for the mapping
 * lets the child keep no lock. */
static int map_file(int dir, int fd, struct lc_ring *ring, uint64_t capacity, const char *tmp)
{
    int second = lc_fd_high(openat(dir, tmp, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (second < 0)
        return errno;
    int error = lc_ring_create(ring, second, capacity);
    close(second);
    if (error == 0)
        ring->fd = fd;
    return error;
}

/* Fills the new file fd, and gives it its final name. */
static int finish_file(int dir, int fd, struct lc_ring *ring, uint64_t capacity, const char *tmp,
                       char name[LC_RING_NAME_MAX])
{
    char hex[LC_PRODUCER_HEX + 1];
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return errno;
    int error = map_file(dir, fd, ring, capacity, tmp);
    if (error != 0)
        return error;
    lc_ring_producer(ring, hex);
    snprintf(name, LC_RING_NAME_MAX, "%s." SUFFIX_RING, hex);
    CRASH_POINT();
    if (renameat(dir, tmp, dir, name) == 0)
        return 0;
    error = errno;
    ring->fd = -1; /* the caller closes it */
    lc_ring_close(ring);
    return error;
}

static int create(int dir, struct lc_ring *ring, uint64_t capacity, char name[LC_RING_NAME_MAX])
{
    char tmp[LC_RING_NAME_MAX];
    int error = random_name(tmp);
    if (error != 0)
        return error;
    strcat(tmp, "." SUFFIX_TMP);
    int fd = lc_fd_high(openat(dir, tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (fd < 0)
        return errno;
    error = finish_file(dir, fd, ring, capacity, tmp, name);
    if (error != 0) {
        unlinkat(dir, tmp, 0);
        close(fd);
    }
    return error;
}

int lc_ringdir_create(int dir, struct lc_ring *ring, uint64_t capacity, char name[LC_RING_NAME_MAX])
{
    int error = 0;
    for (int i = 0; i < ATTEMPTS; i++) {
        error = create(dir, ring, capacity, name);
        /* A search between open and flock takes the file for one that was left behind. */
        if (error != EWOULDBLOCK && error != ENOENT)
            break;
    }
    return error;
}

int lc_ring_create_anonymous(struct lc_ring *ring, uint64_t capacity)
{
    int fd = lc_fd_high(memfd_create("logclient", MFD_CLOEXEC));
    if (fd < 0)
        return errno;
    int error = lc_ring_create(ring, fd, capacity);
    if (error != 0)
        close(fd);
    return error;
}

/* ---- Adoption ---- */

/* Whether the last search in the directory, whoever made it, is long enough ago. The lock's time
 * tells. */
static bool is_time(int lock, int64_t pause_ms)
{
    struct stat st;
    if (pause_ms == 0 || fstat(lock, &st) != 0)
        return true;
    int64_t last = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
    int64_t age = timestamp_now_ms() - last;
    return age < 0 || age >= pause_ms;
}

bool lc_adoption_begin(struct lc_adoption *search, int dir, int64_t pause_ms)
{
    *search = (struct lc_adoption){
        .lock =
            lc_fd_high(openat(dir, "adopt.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600))};
    if (search->lock < 0)
        return false;
    int copy = flock(search->lock, LOCK_EX | LOCK_NB) == 0 && is_time(search->lock, pause_ms)
                   ? lc_fd_high(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC))
                   : -1;
    search->stream = copy < 0 ? NULL : fdopendir(copy);
    if (search->stream != NULL) {
        futimens(search->lock, NULL);
        return true;
    }
    if (copy >= 0)
        close(copy);
    close(search->lock);
    return false;
}

void lc_adoption_end(struct lc_adoption *search)
{
    closedir(search->stream);
    close(search->lock);
}

static bool has_suffix(const char *name, const char *suffix)
{
    const char *dot = strrchr(name, '.');
    return dot != NULL && strcmp(dot + 1, suffix) == 0;
}

/* Whether the file may be a ring of ours: it belongs to this user, so nobody else can shorten it
 * while it is mapped. Root may also drain what a user has in a directory of his own. */
static bool is_ours(int dir, const struct stat *st)
{
    struct stat parent;
    return S_ISREG(st->st_mode) &&
           (st->st_uid == geteuid() ||
            (geteuid() == 0 && fstat(dir, &parent) == 0 && parent.st_uid == st->st_uid));
}

/* Opens the file and takes its lock, if it has no owner. Returns -1 when it has one, is gone, or,
 * with *failed, cannot be opened. */
static int open_ownerless(int dir, const char *name, bool *failed)
{
    struct stat st;
    int fd = lc_fd_high(openat(dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (fd < 0) {
        *failed = errno != ENOENT && errno != ELOOP && errno != ENXIO;
        return -1;
    }
    /* nlink is 0 when the owner has unlinked it between our open and our lock. */
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && st.st_nlink > 0 &&
        is_ours(dir, &st))
        return fd;
    close(fd);
    return -1;
}

void lc_ringdir_set_aside(int dir, const char *name)
{
    char aside[LC_RING_NAME_MAX + 16];
    snprintf(aside, sizeof(aside), "%s.damaged", name);
    renameat(dir, name, dir, aside);
}

/* True when `name` is a ring to be drained, or was damaged; *result says which. */
static bool adopt(int dir, const char *name, struct lc_ring *ring, enum lc_adopt *result,
                  bool *failed)
{
    int fd = open_ownerless(dir, name, failed);
    if (fd < 0)
        return false;
    /* The owner died before it renamed the file. Nothing was ever accepted into it. */
    if (has_suffix(name, SUFFIX_TMP)) {
        unlinkat(dir, name, 0);
        close(fd);
        return false;
    }
    int error = lc_ring_open(ring, fd, false);
    if (error == 0) {
        if (lc_ring_head(ring) > ring->tail) {
            *result = LC_ADOPT_RING;
            return true;
        }
        unlinkat(dir, name, 0);
        lc_ring_close(ring);
        return false;
    }
    if (error == EBADMSG)
        lc_ringdir_set_aside(dir, name);
    else
        *failed = true;
    close(fd);
    *result = LC_ADOPT_DAMAGED;
    return error == EBADMSG;
}

enum lc_adopt lc_adoption_next(struct lc_adoption *search, struct lc_ring *ring,
                               char name[LC_RING_NAME_MAX])
{
    int dir = dirfd(search->stream);
    struct dirent *entry;
    while ((entry = readdir(search->stream)) != NULL) {
        enum lc_adopt result;
        if (strlen(entry->d_name) >= LC_RING_NAME_MAX ||
            (!has_suffix(entry->d_name, SUFFIX_RING) && !has_suffix(entry->d_name, SUFFIX_TMP)))
            continue;
        if (adopt(dir, entry->d_name, ring, &result, &search->failed)) {
            strcpy(name, entry->d_name);
            return result;
        }
    }
    return LC_ADOPT_NONE;
}
