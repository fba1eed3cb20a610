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

#include <event2/util.h>

#include "common/crash.h"

#define LINE_FORMAT                                                                                \
    "logworker-state 2 gen=%" PRIu64 " dev=%" PRIu64 " ino=%" PRIu64 " offset=%" PRId64            \
    " first=%" PRIu64 "-%" PRIu64 " last=%" PRIu64 "-%" PRIu64 " token=%s "
#define LINE_SCAN                                                                                  \
    "logworker-state 2 gen=%" SCNu64 " dev=%" SCNu64 " ino=%" SCNu64 " offset=%" SCNd64            \
    " first=%" SCNu64 "-%" SCNu64 " last=%" SCNu64 "-%" SCNu64 " token=%32[0-9a-f] "
#define LINE_FIELDS 9
#define OLD_LINE    "logworker-state 1 "
#define OLD_BYTES   256 /* of a slot of version 0.1.0 */
#define CRC_BYTES   12  /* "crc=" and eight digits */

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

bool state_format(const struct state_slot *slot, char text[STATE_SLOT_BYTES])
{
    char crc[CRC_BYTES + 1];
    int n =
        snprintf(text, STATE_SLOT_BYTES, LINE_FORMAT, slot->gen, slot->dev, slot->ino, slot->offset,
                 slot->first.ms, slot->first.seq, slot->last.ms, slot->last.seq, slot->token);
    if (n < 0 || n + CRC_BYTES + 1 > STATE_SLOT_BYTES)
        return false;
    snprintf(crc, sizeof(crc), "crc=%08" PRIx32, crc32_of(text, (size_t)n));
    memset(text + n, ' ', STATE_SLOT_BYTES - (size_t)n);
    memcpy(text + n, crc, CRC_BYTES);
    text[STATE_SLOT_BYTES - 1] = '\n';
    return true;
}

/* A valid slot equals its content, formatted again. This checks the crc, the padding, and every
 * spelling that sscanf(3) is lenient about. */
bool state_parse(struct state_slot *slot, const char text[STATE_SLOT_BYTES])
{
    char line[STATE_SLOT_BYTES + 1], again[STATE_SLOT_BYTES];
    struct state_slot r = {0};
    memcpy(line, text, STATE_SLOT_BYTES);
    line[STATE_SLOT_BYTES] = '\0';
    if (sscanf(line, LINE_SCAN, &r.gen, &r.dev, &r.ino, &r.offset, &r.first.ms, &r.first.seq,
               &r.last.ms, &r.last.seq, r.token) != LINE_FIELDS)
        return false;
    if (r.gen == 0 || r.offset < 0 || strlen(r.token) != STATE_TOKEN_LEN ||
        !state_format(&r, again) || memcmp(text, again, STATE_SLOT_BYTES) != 0)
        return false;
    *slot = r;
    return true;
}

static bool read_slots(struct state *s)
{
    char slots[2 * STATE_SLOT_BYTES] = {0};
    size_t mark = strlen(OLD_LINE);
    struct state_slot slot;
    ssize_t n = pread(s->fd, slots, sizeof(slots), 0);
    if (n < 0)
        return false;
    bool old = memcmp(slots, OLD_LINE, mark) == 0 || memcmp(slots + OLD_BYTES, OLD_LINE, mark) == 0;
    s->found = n == 0 ? STATE_NEW : old ? STATE_OLD : STATE_INVALID;
    for (size_t i = 0; i < 2; i++) {
        if (!state_parse(&slot, slots + i * STATE_SLOT_BYTES) || slot.gen % 2 != i ||
            slot.gen <= s->slot.gen)
            continue;
        s->slot = slot;
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

bool state_write(struct state *s, const struct state_slot *next)
{
    struct state_slot slot = *next;
    char text[STATE_SLOT_BYTES];
    slot.gen = s->slot.gen + 1;
    if (!state_format(&slot, text)) {
        errno = EOVERFLOW;
        return false;
    }
    CRASH_POINT();
    s->dirty = true;
    if (!write_slot(s->fd, text, sizeof(text), (off_t)(slot.gen % 2 * STATE_SLOT_BYTES)))
        return false;
    s->slot = slot;
    return true;
}

void state_new_token(char out[STATE_TOKEN_LEN + 1])
{
    unsigned char random[STATE_TOKEN_LEN / 2];
    evutil_secure_rng_get_bytes(random, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++)
        sprintf(out + 2 * i, "%02x", random[i]);
}

bool state_in_place(const struct state *s, const char *path)
{
    struct stat ours, there;
    return fstat(s->fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_dev == there.st_dev &&
           ours.st_ino == there.st_ino;
}

bool state_in_hand(const struct state_slot *slot)
{
    return slot->gen > 0 && !stream_id_after(slot->first, slot->last);
}

bool state_speaks_of(const struct state_slot *slot, const struct stat *file)
{
    return slot->gen > 0 && slot->dev == file->st_dev && slot->ino == file->st_ino;
}

bool state_sync(struct state *s)
{
    if (fdatasync(s->fd) != 0)
        return false;
    s->dirty = false;
    return true;
}

void state_close(struct state *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}
