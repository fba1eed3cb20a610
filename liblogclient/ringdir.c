/* ringdir.c: opens ring directories, makes ring files, and finds those whose owner is dead. */
#include "ringdir-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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
#include "place-internal.h"

#define SUFFIX_RING "ring"
#define SUFFIX_TMP  "tmp"
#define ATTEMPTS    100 /* to make a ring while others search */
#define ASIDE_NAMES 1000
#define PLACE_BYTES 64

/* ---- Directories ---- */

/* False, with a sentence, when a ring in the directory would not be safe. */
static bool check(int dir, const char *path, bool drain, char *why, size_t whylen)
{
    char place[PLACE_BYTES];
    struct stat st;
    if (fstat(dir, &st) != 0) {
        snprintf(why, whylen, "cannot look at the ring directory %.180s: %s", path,
                 strerror(errno));
        return false;
    }
    /* Whoever may write to the directory may put files there, or take them away. */
    if ((st.st_uid != geteuid() && !(drain && geteuid() == 0)) || (st.st_mode & 022) != 0) {
        snprintf(why, whylen,
                 "the ring directory %.180s must belong to user %lu and be writable by nobody else",
                 path, (unsigned long)geteuid());
        return false;
    }
    if (lc_place_of(dir, place, sizeof(place)) != LC_PLACE_UNKNOWN)
        return true;
    snprintf(why, whylen,
             "the ring directory %.180s lies on %s, where rings are not safe: use tmpfs, ext4 or "
             "xfs",
             path, place);
    return false;
}

static int open_checked(const char *path, int flags, bool drain, char *why, size_t whylen)
{
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
    if (dir < 0) {
        snprintf(why, whylen, "cannot open the ring directory %.180s: %s", path, strerror(errno));
    } else if (!check(dir, path, drain, why, whylen)) {
        close(dir);
        dir = -1;
    }
    return dir;
}

static int make_and_open(const char *path, int flags, char *why, size_t whylen)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return open_checked(path, flags, false, why, whylen);
    snprintf(why, whylen, "cannot make the ring directory %.180s: %s", path, strerror(errno));
    return -1;
}

/* /dev/shm is everybody's: another user may have taken the usual name. */
static int open_default(char *why, size_t whylen)
{
    char path[PATH_MAX];
    int dir = -1;
    for (unsigned i = 0; dir < 0 && lc_place_default(i, path, sizeof(path)); i++)
        if (path[0] != '\0')
            dir = make_and_open(path, O_NOFOLLOW, why, whylen);
    for (unsigned i = 0; dir < 0 && lc_place_spare(i, path, sizeof(path)); i++)
        dir = open_checked(path, O_NOFOLLOW, false, why, whylen);
    if (dir < 0 && lc_place_make_spare(path, sizeof(path)) == 0)
        dir = open_checked(path, O_NOFOLLOW, false, why, whylen);
    return dir;
}

int lc_ringdir_open(const char *setting, char *why, size_t whylen)
{
    return setting == NULL ? open_default(why, whylen) : make_and_open(setting, 0, why, whylen);
}

int lc_ringdir_open_drain(const char *path, char *why, size_t whylen)
{
    return open_checked(path, 0, true, why, whylen);
}

static bool is_same(int a, int b)
{
    struct stat x, y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The i-th default place, or the spare ones behind these. */
static bool default_place(unsigned i, char *path, size_t size)
{
    unsigned defaults = 0;
    while (lc_place_default(defaults, path, size)) {
        if (defaults == i)
            return true;
        defaults++;
    }
    return lc_place_spare(i - defaults, path, size);
}

static void add(struct lc_ringdirs *dirs, int dir)
{
    for (int i = 0; i < dirs->count && dir >= 0; i++) {
        if (!is_same(dirs->fds[i], dir))
            continue;
        close(dir);
        dir = -1;
    }
    if (dir >= 0)
        dirs->fds[dirs->count++] = dir;
}

/* A process of this user with another environment may have left rings in each of them. */
static void add_defaults(struct lc_ringdirs *dirs)
{
    char path[PATH_MAX], why[400];
    for (unsigned i = 0; dirs->count < LC_RINGDIRS_MAX && default_place(i, path, sizeof(path)); i++)
        if (path[0] != '\0')
            add(dirs, open_checked(path, O_NOFOLLOW, false, why, sizeof(why)));
}

void lc_ringdirs_open(struct lc_ringdirs *dirs, const char *ring_dir, const char *drain_dir,
                      char *why, size_t whylen)
{
    *dirs = (struct lc_ringdirs){.count = 0};
    why[0] = '\0';
    if (drain_dir != NULL) {
        add(dirs, lc_ringdir_open_drain(drain_dir, why, whylen));
    } else if (ring_dir == NULL || strcmp(ring_dir, "off") != 0) {
        add(dirs, lc_ringdir_open(ring_dir, why, whylen));
        dirs->own = dirs->count > 0;
        if (dirs->own)
            why[0] = '\0';
        if (ring_dir == NULL)
            add_defaults(dirs);
    }
}

void lc_ringdirs_close(struct lc_ringdirs *dirs)
{
    while (dirs->count > 0)
        close(dirs->fds[--dirs->count]);
    dirs->own = false;
}

/* ---- Rings ---- */

static int random_name(char name[LC_RING_NAME_MAX])
{
    unsigned char id[LC_ID_BYTES];
    if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id))
        return errno;
    lc_id_hex(id, name);
    return 0;
}

/* Makes the ring in the file fd, whose name is tmp. A mapping keeps the file description that it
 * was made with, and a forked child keeps the mapping. A description of its own for the mapping
 * lets the child keep no lock. */
static int map_file(int dir, int fd, struct lc_ring *ring, uint64_t capacity, const char *tmp)
{
    int second = openat(dir, tmp, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (second < 0)
        return errno;
    char place[PLACE_BYTES];
    bool whole = lc_place_of(dir, place, sizeof(place)) == LC_PLACE_DISK;
    int error = lc_ring_create(ring, second, capacity, whole);
    close(second);
    if (error == 0)
        ring->fd = fd;
    return error;
}

/* Fills the new file fd, and gives it its final name. */
static int finish_file(int dir, int fd, struct lc_ring *ring, uint64_t capacity, const char *tmp,
                       char name[LC_RING_NAME_MAX])
{
    char hex[LC_ID_HEX + 1];
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return errno;
    int error = lc_place_check(fd);
    if (error == 0)
        error = map_file(dir, fd, ring, capacity, tmp);
    if (error != 0)
        return error;
    lc_id_hex(ring->header->id, hex);
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
    int fd = openat(dir, tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
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
    int fd = memfd_create("logclient", MFD_CLOEXEC);
    if (fd < 0)
        return errno;
    int error = lc_ring_create(ring, fd, capacity, false);
    if (error != 0)
        close(fd);
    return error;
}

bool lc_ringdir_set_aside(int dir, const char *name)
{
    char aside[LC_RING_NAME_MAX + 32];
    struct stat st;
    snprintf(aside, sizeof(aside), "%s.damaged", name);
    for (int i = 1; fstatat(dir, aside, &st, AT_SYMLINK_NOFOLLOW) == 0 && i < ASIDE_NAMES; i++)
        snprintf(aside, sizeof(aside), "%s.damaged.%d", name, i);
    return renameat(dir, name, dir, aside) == 0;
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

static bool lacks_resources(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == EINTR;
}

/* Opens adopt.lock. Root leaves none in another user's directory, where the user could not open it.
 * One that is not the directory's owner's is not used: each ring has a lock of its own, and this
 * one only saves work. Returns 0 or an errno. */
static int open_lock(int dir, int *lock)
{
    struct stat parent, st;
    if (fstat(dir, &parent) != 0)
        return errno;
    *lock = openat(dir, "adopt.lock",
                   O_RDWR | (parent.st_uid == geteuid() ? O_CREAT : 0) | O_CLOEXEC | O_NOFOLLOW |
                       O_NONBLOCK,
                   0600);
    if (*lock < 0)
        return lacks_resources(errno) ? errno : 0;
    if (fstat(*lock, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == parent.st_uid &&
        st.st_nlink == 1)
        return 0;
    close(*lock);
    *lock = -1;
    return 0;
}

/* False when somebody else is searching, or was a moment ago. */
static bool take_lock(int lock, int64_t pause_ms)
{
    if (lock < 0)
        return true;
    if (flock(lock, LOCK_EX | LOCK_NB) != 0 || !is_time(lock, pause_ms))
        return false;
    futimens(lock, NULL);
    return true;
}

bool lc_adoption_begin(struct lc_adoption *search, int dir, int64_t pause_ms)
{
    *search = (struct lc_adoption){.lock = -1};
    if (open_lock(dir, &search->lock) != 0)
        return false;
    int copy = take_lock(search->lock, pause_ms)
                   ? openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                   : -1;
    search->stream = copy < 0 ? NULL : fdopendir(copy);
    if (search->stream != NULL)
        return true;
    if (copy >= 0)
        close(copy);
    if (search->lock >= 0)
        close(search->lock);
    return false;
}

void lc_adoption_end(struct lc_adoption *search)
{
    closedir(search->stream);
    if (search->lock >= 0)
        close(search->lock);
}

static bool has_suffix(const char *name, const char *suffix)
{
    const char *dot = strrchr(name, '.');
    return dot != NULL && strcmp(dot + 1, suffix) == 0;
}

/* A ring, or one that was never finished. Other files in the directory may end in .tmp, too. */
static bool is_candidate(const char *name)
{
    return strlen(name) < LC_RING_NAME_MAX &&
           (has_suffix(name, SUFFIX_RING) ||
            (has_suffix(name, SUFFIX_TMP) && strspn(name, "0123456789abcdef") == LC_ID_HEX &&
             name[LC_ID_HEX] == '.'));
}

static void pass_over(struct lc_adoption *search, const char *name, const char *why)
{
    snprintf(search->strange, sizeof(search->strange), "ring %s is passed over: %s", name, why);
}

/* Opens the file and takes its lock, if it is a file without an owner. Returns a descriptor, or -1;
 * then *odd says that it is no file. */
static int open_ownerless(struct lc_adoption *search, const char *name, bool *odd)
{
    int dir = dirfd(search->stream);
    struct stat st, parent;
    int fd = openat(dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        *odd = errno == ELOOP || errno == ENXIO || errno == EISDIR;
        if (lacks_resources(errno))
            search->failed = true;
        else if (!*odd && errno != ENOENT)
            pass_over(search, name, strerror(errno));
        return -1;
    }
    /* nlink is 0 when the owner has unlinked it between our open and our lock. */
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && fstat(dir, &parent) == 0 &&
        st.st_nlink > 0) {
        *odd = !S_ISREG(st.st_mode);
        if (!*odd && st.st_uid == parent.st_uid)
            return fd;
        if (!*odd)
            pass_over(search, name, "it belongs to another user than the directory");
    }
    close(fd);
    return -1;
}

static enum lc_adopt set_aside(struct lc_adoption *search, const char *name)
{
    if (lc_ringdir_set_aside(dirfd(search->stream), name))
        return LC_ADOPT_DAMAGED;
    pass_over(search, name, "it is no ring, and cannot be moved aside");
    return LC_ADOPT_NONE;
}

/* What the open file is; takes fd. LC_ADOPT_NONE: nothing to deliver. */
static enum lc_adopt open_leftover(struct lc_adoption *search, int fd, const char *name,
                                   struct lc_leftover *leftover)
{
    int error = lc_leftover_open(leftover, fd, name);
    if (error == 0) {
        if (!lc_leftover_is_empty(leftover))
            return LC_ADOPT_RING;
        unlinkat(dirfd(search->stream), name, 0);
        lc_leftover_close(leftover);
        return LC_ADOPT_NONE;
    }
    close(fd);
    if (error == EBADMSG)
        return set_aside(search, name);
    if (error == ENOTSUP)
        pass_over(search, name, "it is one of version 0.1.0, whose logsend can drain it");
    else
        search->failed = true;
    return LC_ADOPT_NONE;
}

static enum lc_adopt adopt(struct lc_adoption *search, const char *name,
                           struct lc_leftover *leftover)
{
    bool odd = false, unfinished = has_suffix(name, SUFFIX_TMP);
    int fd = open_ownerless(search, name, &odd);
    if (fd < 0)
        return odd && !unfinished ? set_aside(search, name) : LC_ADOPT_NONE;
    if (!unfinished)
        return open_leftover(search, fd, name, leftover);
    /* The owner died before it renamed the file. Nothing was ever accepted into it. */
    unlinkat(dirfd(search->stream), name, 0);
    close(fd);
    return LC_ADOPT_NONE;
}

enum lc_adopt lc_adoption_next(struct lc_adoption *search, struct lc_leftover *leftover,
                               char name[LC_RING_NAME_MAX])
{
    enum lc_adopt result = LC_ADOPT_NONE;
    struct dirent *entry;
    while (result == LC_ADOPT_NONE && (entry = readdir(search->stream)) != NULL) {
        if (!is_candidate(entry->d_name))
            continue;
        strcpy(name, entry->d_name);
        result = adopt(search, name, leftover);
    }
    return result;
}
