/* place.c: file systems and default directories for rings. */
#include "place-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/fs.h>

#define SHARED       "/dev/shm"
#define RUNTIME      "/run/user"
#define SPARE_DIGITS 8

#define BTRFS     0x9123683eu
#define OVERLAYFS 0x794c7630u

/* ---- File systems ---- */

/* Not btrfs: each store to a page that is clean reserves space, even where nothing is copied and
 * all is allocated. On a full disk that takes milliseconds, and at a quota it is a SIGBUS. */
static const struct {
    uint32_t magic;
    enum lc_place place;
    const char *name;
} known[] = {
    {0x01021994u, LC_PLACE_MEMORY, "tmpfs"},
    {0xef53u, LC_PLACE_DISK, "ext4"}, /* ext2 and ext3, too: what cannot reserve blocks says so */
    {0x58465342u, LC_PLACE_DISK, "xfs"},
    {OVERLAYFS, LC_PLACE_DISK, "overlay"},
    {BTRFS, LC_PLACE_UNKNOWN, "btrfs"},
    {0x6969u, LC_PLACE_UNKNOWN, "nfs"},
    {0x01021997u, LC_PLACE_UNKNOWN, "9p"},
    {0x65735546u, LC_PLACE_UNKNOWN, "fuse or virtiofs"},
    {0xff534d42u, LC_PLACE_UNKNOWN, "cifs"},
    {0xfe534d42u, LC_PLACE_UNKNOWN, "smb"},
    {0x00c36400u, LC_PLACE_UNKNOWN, "ceph"},
    {0xf2f52010u, LC_PLACE_UNKNOWN, "f2fs"},
    {0x2fc12fc1u, LC_PLACE_UNKNOWN, "zfs"},
    {0xca451a4eu, LC_PLACE_UNKNOWN, "bcachefs"},
    {0x858458f6u, LC_PLACE_UNKNOWN, "ramfs"},
};

enum lc_place lc_place_of(int dir, char *name, size_t size)
{
    struct statfs fs;
    if (fstatfs(dir, &fs) != 0) {
        snprintf(name, size, "a file system that cannot be asked");
        return LC_PLACE_UNKNOWN;
    }
    uint32_t magic = (uint32_t)fs.f_type;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].magic != magic)
            continue;
        snprintf(name, size, "%s", known[i].name);
        return known[i].place;
    }
    snprintf(name, size, "file system %#lx", (unsigned long)magic);
    return LC_PLACE_UNKNOWN;
}

/* What lies under an overlay nobody tells. Of the file systems that may, only btrfs takes the
 * flag. */
int lc_place_check(int fd)
{
    struct statfs fs;
    int flags = 0;
    if (fstatfs(fd, &fs) != 0)
        return errno;
    if ((uint32_t)fs.f_type != OVERLAYFS || ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0)
        return 0;
    flags = (flags & ~FS_COMPR_FL) | FS_NOCOW_FL;
    return ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0 ? ENOTSUP : 0;
}

/* ---- Default directories ---- */

/* A directory that nobody else can put anything into. */
static bool is_private(const struct stat *st)
{
    return S_ISDIR(st->st_mode) && st->st_uid == geteuid() && (st->st_mode & 022) == 0;
}

/* By its specification $XDG_RUNTIME_DIR belongs to this user. cron(8), ssh(1) and systemd(1) set it
 * for some processes and not for others; so its usual place counts without it. */
static void runtime_path(const char *runtime, char *path, size_t size)
{
    struct stat st;
    path[0] = '\0';
    if (runtime != NULL && runtime[0] == '/' && stat(runtime, &st) == 0 && is_private(&st))
        snprintf(path, size, "%s/logclient", runtime);
}

bool lc_place_default(unsigned i, char *path, size_t size)
{
    char usual[64];
    unsigned long uid = (unsigned long)geteuid();
    if (i == 0) {
        runtime_path(secure_getenv("XDG_RUNTIME_DIR"), path, size);
    } else if (i == 1) {
        snprintf(usual, sizeof(usual), RUNTIME "/%lu", uid);
        runtime_path(usual, path, size);
    } else {
        snprintf(path, size, SHARED "/logclient-%lu", uid);
    }
    return i <= 2;
}

static void spare_prefix(char *prefix, size_t size)
{
    snprintf(prefix, size, "logclient-%lu-", (unsigned long)geteuid());
}

static bool is_spare(int shared, const char *name, const char *prefix)
{
    size_t n = strlen(prefix);
    struct stat st;
    return strncmp(name, prefix, n) == 0 && strlen(name + n) == SPARE_DIGITS &&
           strspn(name + n, "0123456789abcdef") == SPARE_DIGITS &&
           fstatat(shared, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && is_private(&st);
}

bool lc_place_spare(unsigned i, char *path, size_t size)
{
    char prefix[64];
    bool found = false;
    DIR *stream = opendir(SHARED);
    struct dirent *entry;
    if (stream == NULL)
        return false;
    spare_prefix(prefix, sizeof(prefix));
    while (!found && (entry = readdir(stream)) != NULL) {
        if (!is_spare(dirfd(stream), entry->d_name, prefix) || i-- > 0)
            continue;
        snprintf(path, size, SHARED "/%s", entry->d_name);
        found = true;
    }
    closedir(stream);
    return found;
}

/* Nobody can guess the name, so nobody can take it first. */
int lc_place_make_spare(char *path, size_t size)
{
    char prefix[64];
    uint32_t number;
    if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
        return errno;
    spare_prefix(prefix, sizeof(prefix));
    snprintf(path, size, SHARED "/%s%08lx", prefix, (unsigned long)number);
    return mkdir(path, 0700) == 0 ? 0 : errno;
}
