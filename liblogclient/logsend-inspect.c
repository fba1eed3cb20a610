/* logsend-inspect.c: logsend --inspect, which looks at rings without touching them. */
#include "logsend-inspect-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "batch-internal.h"
#include "common/diag.h"
#include "common/timestamp.h"
#include "leftover-internal.h"

#define PRINT_BATCH 1000
#define PRINT_BYTES ((size_t)1 << 20)

static enum lc_ring_read read_leftover(void *from, uint64_t *position, struct lc_record *record)
{
    return lc_leftover_read(from, position, record);
}

/* Counts the records, and prints them when asked to. A living owner may take records away
 * meanwhile; then fewer are seen. False when something failed that is not the file's fault. */
static bool walk(struct lc_leftover *ring, bool print, uint64_t *records)
{
    const struct lc_reader reader = {read_leftover, ring};
    struct lc_batch batch;
    uint64_t position = ring->tail;
    bool whole = true;
    *records = 0;
    if (!lc_batch_init(&batch, PRINT_BATCH))
        return false;
    do {
        lc_batch_fill(&batch, &reader, position, UINT64_MAX, PRINT_BATCH, PRINT_BYTES, SIZE_MAX);
        whole = !batch.body.failed;
        *records += batch.count;
        if (print && batch.body.len > 0 &&
            fwrite(batch.body.data, 1, batch.body.len, stdout) != batch.body.len)
            whole = false;
        position = batch.count > 0 ? batch.ends[batch.count - 1] : position;
    } while (batch.count > 0 && whole);
    lc_batch_free(&batch);
    return whole;
}

static void print_row(const char *name, const struct lc_leftover *ring, bool owned,
                      uint64_t records)
{
    char created[TIMESTAMP_LEN], missing[60] = "";
    timestamp_format(ring->header.created_ms, created);
    if (!ring->same_boot && ring->missing > 0)
        snprintf(missing, sizeof(missing), "  %" PRIu64 " missing", ring->missing);
    printf("%-37s  %7" PRIu32 " %-5s  %.*s  %9" PRIu64 "  %11" PRIu64 "  %10" PRIu64 "%s%s\n", name,
           ring->header.owner_pid, owned ? "alive" : "dead", TIMESTAMP_LEN, created, records,
           ring->end - ring->tail, ring->ack.number, missing,
           ring->damaged && !owned ? "  damaged" : "");
}

static const char *explain(int error)
{
    return error == EBADMSG   ? "not a whole ring"
           : error == ENOTSUP ? "of version 0.1.0; logsend 0.1.0 reads it"
                              : strerror(error);
}

/* One file. False when something failed that is not the file's fault. */
static bool inspect_file(int dir, const char *name, bool print)
{
    struct lc_leftover ring;
    struct stat st;
    uint64_t records;
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        if (errno != ENOENT) /* its owner was done with it */
            printf("%-37s  cannot be read: %s\n", name, strerror(errno));
        return true;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        printf("%-37s  cannot be read: not a file\n", name);
        close(fd);
        return true;
    }
    bool owned = flock(fd, LOCK_SH | LOCK_NB) != 0;
    if (!owned)
        flock(fd, LOCK_UN); /* so that nobody takes us for its owner */
    int error = lc_leftover_open(&ring, fd, name);
    if (error != 0) {
        printf("%-37s  cannot be read: %s\n", name, explain(error));
        close(fd);
        return error != ENOMEM;
    }
    bool ok = true;
    while (ok && !ring.searched)
        ok = lc_leftover_search(&ring) == 0;
    ok = ok && walk(&ring, print, &records);
    if (ok && !print)
        print_row(name, &ring, owned, records);
    lc_leftover_close(&ring);
    return ok;
}

static bool is_ring(const char *name)
{
    const char *dot = strstr(name, ".ring");
    return dot != NULL && (dot[5] == '\0' || strncmp(dot + 5, ".damaged", 8) == 0);
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
