/* logsend-inspect.c: logsend --inspect, which looks at rings without touching them. */
#include "logsend-inspect-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "batch-internal.h"
#include "common/diag.h"
#include "common/timestamp.h"
#include "ringdir-internal.h"

#define PRINT_BATCH 1000

/* What is waiting in a ring. */
struct waiting {
    uint64_t records, bytes;
    bool damaged;
};

/* Walks through the ring, and prints the records when asked to. A living owner may take records
 * away meanwhile; then fewer are seen. */
static bool walk(struct lc_ring *ring, bool print, struct waiting *w)
{
    struct lc_batch batch;
    if (!lc_batch_init(&batch, PRINT_BATCH))
        return false;
    uint64_t head = lc_ring_head(ring), start = ring->tail;
    enum lc_ring_read result;
    bool whole = true;
    do {
        result = lc_batch_fill(&batch, ring, head, PRINT_BATCH, SIZE_MAX, SIZE_MAX);
        whole = whole && !batch.body.failed;
        w->records += batch.count;
        if (print && batch.body.len > 0 &&
            fwrite(batch.body.data, 1, batch.body.len, stdout) != batch.body.len)
            whole = false;
        ring->tail = batch.end;
    } while (result == LC_RING_RECORD && batch.count > 0 && ring->tail < head && whole);
    w->bytes = head - start;
    w->damaged = result == LC_RING_DAMAGED;
    lc_batch_free(&batch);
    return whole;
}

static void print_row(const char *name, const struct lc_ring *ring, bool owned,
                      const struct waiting *w)
{
    char created[TIMESTAMP_LEN];
    timestamp_format(ring->header->created_ms, created);
    printf("%-37s  %7" PRIu32 " %-5s  %.*s  %9" PRIu64 "  %11" PRIu64 "  %10" PRIu64 "%s\n", name,
           ring->header->owner_pid, owned ? "alive" : "dead", TIMESTAMP_LEN, created, w->records,
           w->bytes, ring->sequence, w->damaged ? "  damaged" : "");
}

/* One file. False when something failed that is not the file's fault. */
static bool inspect_file(int dir, const char *name, bool print)
{
    struct lc_ring ring;
    struct waiting w = {0};
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT; /* its owner was done with it */
    bool owned = flock(fd, LOCK_SH | LOCK_NB) != 0;
    if (!owned)
        flock(fd, LOCK_UN); /* so that nobody takes us for its owner */
    int error = lc_ring_open(&ring, fd, true);
    if (error != 0) {
        printf("%-37s  cannot be read: %s\n", name,
               error == EBADMSG ? "not a whole ring" : strerror(error));
        close(fd);
        return true;
    }
    bool ok = walk(&ring, print, &w);
    if (!print)
        print_row(name, &ring, owned, &w);
    lc_ring_close(&ring);
    return ok;
}

static bool is_ring(const char *name)
{
    const char *dot = strstr(name, ".ring");
    return dot != NULL && (dot[5] == '\0' || strcmp(dot + 5, ".damaged") == 0);
}

int logsend_inspect(const char *path, bool print)
{
    DIR *stream = opendir(path);
    if (stream == NULL)
        diag_die(EXIT_ENVIRONMENT, "--inspect: cannot open the directory \"%s\": %s", path,
                 strerror(errno));
    if (!print)
        printf("%-37s  %7s %-5s  %-*s  %9s  %11s  %10s\n", "ring", "pid", "owner", TIMESTAMP_LEN,
               "created", "records", "bytes", "sequence");
    struct dirent *entry;
    bool ok = true;
    while ((entry = readdir(stream)) != NULL)
        if (is_ring(entry->d_name))
            ok = inspect_file(dirfd(stream), entry->d_name, print) && ok;
    closedir(stream);
    if (fflush(stdout) != 0 || !ok)
        diag_die(EXIT_ENVIRONMENT, "--inspect: writing or reading failed: %s", strerror(errno));
    return EXIT_OK;
}
