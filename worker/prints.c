/* prints.c: 64-bit FNV-1a of lines (http://www.isthe.com/chongo/tech/comp/fnv/), as 16 hexadecimal
 * digits. */
#include "worker/prints.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIGITS      16
#define NOTE_MAX    (STREAM_ID_TEXT_MAX + DIGITS + 2) /* with colon, blank, NUL */
#define CHUNK_BYTES 65536
#define BASIS       UINT64_C(0xcbf29ce484222325)
#define FACTOR      UINT64_C(0x100000001b3)

static uint64_t go_on(uint64_t print, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        print = (print ^ (unsigned char)p[i]) * FACTOR;
    return print;
}

void prints_add(struct buf *notes, struct stream_id id, const char *line, size_t n)
{
    char text[NOTE_MAX];
    size_t at = stream_id_format(id, text);
    int more = snprintf(text + at, sizeof(text) - at, ":%016" PRIx64 " ", go_on(BASIS, line, n));
    buf_add(notes, text, at + (size_t)more);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return (x > y) - (x < y);
}

static void add_value(struct buf *prints, uint64_t print)
{
    buf_add(prints, &print, sizeof(print));
}

static void sort(struct buf *prints)
{
    if (prints->len > 0)
        qsort(prints->data, prints->len / sizeof(uint64_t), sizeof(uint64_t), by_value);
}

/* The print of a note, when its entry is one of the batch. */
static void take_note(struct buf *prints, struct span note, const struct prints_batch *b)
{
    const char *colon = memchr(note.p, ':', note.n);
    char digits[DIGITS + 1] = "";
    struct stream_id id;
    if (colon == NULL || note.p + note.n - colon - 1 != DIGITS ||
        !stream_id_parse(&id, note.p, (size_t)(colon - note.p)) || stream_id_after(b->first, id) ||
        stream_id_after(id, b->last))
        return;
    memcpy(digits, colon + 1, DIGITS);
    add_value(prints, strtoull(digits, NULL, 16));
}

static void parse(struct buf *prints, struct span notes, const struct prints_batch *b)
{
    const char *at = notes.p, *end = notes.p + notes.n, *blank;
    for (; (blank = memchr(at, ' ', (size_t)(end - at))) != NULL; at = blank + 1)
        take_note(prints, (struct span){at, (size_t)(blank - at)}, b);
}

/* The prints of the whole lines. False: errno. */
static bool read_lines(struct buf *prints, const struct prints_batch *b)
{
    char chunk[CHUNK_BYTES];
    uint64_t print = BASIS;
    for (int64_t at = b->from; at < b->size;) {
        size_t wanted = b->size - at < CHUNK_BYTES ? (size_t)(b->size - at) : CHUNK_BYTES;
        ssize_t n = pread(b->fd, chunk, wanted, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0;
        const char *p = chunk, *end = chunk + n, *newline;
        for (; (newline = memchr(p, '\n', (size_t)(end - p))) != NULL; p = newline + 1) {
            add_value(prints, go_on(print, p, (size_t)(newline + 1 - p)));
            print = BASIS;
        }
        print = go_on(print, p, (size_t)(end - p));
        at += n;
    }
    return true;
}

/* Whether each of the sorted values is among the others, as often. */
static bool contains(const struct buf *all, const struct buf *some)
{
    size_t at = 0, step = sizeof(uint64_t);
    for (size_t i = 0; i < some->len; i += step, at += step) {
        while (at < all->len && by_value(all->data + at, some->data + i) < 0)
            at += step;
        if (at == all->len || by_value(all->data + at, some->data + i) != 0)
            return false;
    }
    return true;
}

bool prints_cover(struct span notes, const struct prints_batch *b, bool *all)
{
    struct buf noted = {0}, lines = {0};
    parse(&noted, notes, b);
    bool good = read_lines(&lines, b);
    if (good && (noted.failed || lines.failed)) {
        errno = ENOMEM;
        good = false;
    }
    if (good) {
        sort(&noted);
        sort(&lines);
        *all = noted.len > 0 && contains(&noted, &lines);
    }
    buf_free(&noted);
    buf_free(&lines);
    return good;
}
