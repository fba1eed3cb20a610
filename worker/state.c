/* state.c: writes and reads the two slots of the state file. */
#include "worker/state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crash.h"

#define LINE_FORMAT                                                                                \
    "logworker-state 1 gen=%" PRIu64 " dev=%" PRIu64 " ino=%" PRIu64 " offset=%" PRId64            \
    " id=%" PRIu64 "-%" PRIu64 " lineage=%s boot=%s sync=%d "
#define LINE_SCAN                                                                                  \
    "logworker-state 1 gen=%" SCNu64 " dev=%" SCNu64 " ino=%" SCNu64 " offset=%" SCNd64            \
    " id=%" SCNu64 "-%" SCNu64 " lineage=%32[0-9a-f] boot=%32[0-9a-f] sync=%d "
#define LINE_FIELDS 9
#define CRC_BYTES   12 /* "crc=" and eight digits */

/* CRC-32 of IEEE 802.3, reflected, four bits at a time. */
static uint32_t crc32_of(const char *p, size_t n)
{
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < n; i++) {
        crc ^= (unsigned char)p[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

bool state_format(const struct state_commit *c, char slot[STATE_SLOT_BYTES])
{
    char crc[CRC_BYTES + 1];
    int n = snprintf(slot, STATE_SLOT_BYTES, LINE_FORMAT, c->gen, c->dev, c->ino, c->offset,
                     c->id.ms, c->id.seq, c->lineage, c->boot, c->sync);
    if (n < 0 || n + CRC_BYTES + 1 > STATE_SLOT_BYTES)
        return false;
    snprintf(crc, sizeof(crc), "crc=%08" PRIx32, crc32_of(slot, (size_t)n));
    memset(slot + n, ' ', STATE_SLOT_BYTES - (size_t)n);
    memcpy(slot + n, crc, CRC_BYTES);
    slot[STATE_SLOT_BYTES - 1] = '\n';
    return true;
}

/* A valid slot equals its content, formatted again. This checks the crc, the padding, and every
 * spelling that sscanf(3) is lenient about. */
bool state_parse(struct state_commit *c, const char slot[STATE_SLOT_BYTES])
{
    char line[STATE_SLOT_BYTES + 1], again[STATE_SLOT_BYTES];
    struct state_commit r = {0};
    int sync;
    memcpy(line, slot, STATE_SLOT_BYTES);
    line[STATE_SLOT_BYTES] = '\0';
    if (sscanf(line, LINE_SCAN, &r.gen, &r.dev, &r.ino, &r.offset, &r.id.ms, &r.id.seq, r.lineage,
               r.boot, &sync) != LINE_FIELDS)
        return false;
    r.sync = sync == 1;
    if (r.gen == 0 || r.offset < 0 || strlen(r.lineage) != STATE_TOKEN_LEN ||
        strlen(r.boot) != STATE_TOKEN_LEN || !state_format(&r, again) ||
        memcmp(slot, again, STATE_SLOT_BYTES) != 0)
        return false;
    *c = r;
    return true;
}

static bool read_slots(struct state *s)
{
    char slots[2 * STATE_SLOT_BYTES] = {0};
    struct state_commit c;
    ssize_t n = pread(s->fd, slots, sizeof(slots), 0);
    if (n < 0)
        return false;
    s->found = n == 0 ? STATE_NEW : STATE_INVALID;
    for (size_t i = 0; i < 2; i++) {
        if (!state_parse(&c, slots + i * STATE_SLOT_BYTES) || c.gen % 2 != i ||
            c.gen <= s->last.gen)
            continue;
        s->last = c;
        s->found = STATE_VALID;
    }
    return true;
}

/* Locks the file, without waiting. False: err holds a sentence. */
static bool lock(int fd, const char *path, char *err, size_t errlen)
{
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (errno == EWOULDBLOCK)
        snprintf(err, errlen,
                 "the state file %s is locked: another logworker writes this log; stop it, or give "
                 "this one another --output",
                 path);
    else
        snprintf(err, errlen, "cannot lock the state file %s: %s", path, strerror(errno));
    return false;
}

bool state_open(struct state *s, const char *path, char *err, size_t errlen)
{
    int error;
    *s = (struct state){.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640)};
    if (s->fd < 0) {
        error = errno;
        snprintf(err, errlen, "cannot open the state file %s: %s; %s", path, strerror(errno),
                 errno == EISDIR ? "it must be a file" : "its directory must be writable");
        errno = error;
        return false;
    }
    if (lock(s->fd, path, err, errlen)) {
        if (read_slots(s))
            return true;
        error = errno;
        snprintf(err, errlen, "cannot read the state file %s: %s", path, strerror(errno));
    } else {
        error = EBUSY;
    }
    state_close(s);
    errno = error;
    return false;
}

/* In a test build a slot is written in two halves, with a crash point between them. */
static bool write_slot(int fd, const char *p, size_t n, off_t at)
{
    while (n > 0) {
#ifdef CRASH_POINTS
        ssize_t wrote = pwrite(fd, p, n > STATE_SLOT_BYTES / 2 ? STATE_SLOT_BYTES / 2 : n, at);
#else
        ssize_t wrote = pwrite(fd, p, n, at);
#endif
        CRASH_POINT();
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return false;
        p += wrote;
        n -= (size_t)wrote;
        at += wrote;
    }
    return true;
}

bool state_write(struct state *s, const struct state_commit *next)
{
    struct state_commit c = *next;
    char slot[STATE_SLOT_BYTES];
    c.gen = s->last.gen + 1;
    if (!state_format(&c, slot)) {
        errno = EOVERFLOW;
        return false;
    }
    CRASH_POINT();
    if (!write_slot(s->fd, slot, sizeof(slot), (off_t)(c.gen % 2 * STATE_SLOT_BYTES)))
        return false;
    s->last = c;
    return true;
}

bool state_in_place(const struct state *s, const char *path)
{
    struct stat ours, there;
    return fstat(s->fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_dev == there.st_dev &&
           ours.st_ino == there.st_ino;
}

bool state_speaks_of(const struct state_commit *c, const struct stat *file)
{
    return c->gen > 0 && c->dev == file->st_dev && c->ino == file->st_ino;
}

bool state_sync(struct state *s)
{
    return fdatasync(s->fd) == 0;
}

void state_close(struct state *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

bool state_token_valid(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(s[i] >= '0' && s[i] <= '9') && !(s[i] >= 'a' && s[i] <= 'f'))
            return false;
    return n == STATE_TOKEN_LEN;
}

bool state_boot_id(char out[STATE_TOKEN_LEN + 1])
{
    char text[64];
    size_t used = 0;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
    int saved = errno;
    if (fd >= 0)
        close(fd);
    for (ssize_t i = 0; i < n && used < STATE_TOKEN_LEN; i++)
        if (text[i] != '-')
            out[used++] = text[i];
    out[used] = '\0';
    errno = n < 0 ? saved : EINVAL;
    return state_token_valid(out, used);
}
