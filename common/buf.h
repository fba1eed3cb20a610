/* buf.h: a growing byte buffer, and borrowed runs of bytes. All of the tree uses it.
 *
 * Only memory can fail. `failed` keeps a failure, and later appends do nothing: a caller may append
 * a whole message and look once, at the end. Not thread safe. */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct buf {
    char *data;  /* owned; NULL while cap is 0; not NUL-terminated */
    size_t len;  /* bytes in use */
    size_t cap;  /* bytes allocated */
    bool failed; /* an append ran out of memory; the content is incomplete */
};

/* A borrowed run of bytes; may hold any byte. */
struct span {
    const char *p;
    size_t n;
};

#define SPAN_LIT(s) ((struct span){(s), sizeof(s) - 1})

static inline bool span_equal(struct span a, struct span b)
{
    return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

static inline bool span_is(struct span s, const char *text)
{
    return span_equal(s, (struct span){text, strlen(text)});
}

/* Makes room for `more` further bytes. Returns false, and sets failed, when out of memory. */
bool buf_reserve(struct buf *b, size_t more);

/* Appends printf(3) output. */
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Forgets the content and the failure, keeps the memory. */
static inline void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
}

/* Frees the memory; the buffer is empty and usable afterwards. */
void buf_free(struct buf *b);

static inline void buf_add(struct buf *b, const void *p, size_t n)
{
    if (b->cap - b->len < n && !buf_reserve(b, n))
        return;
    if (n > 0)
        memcpy(b->data + b->len, p, n);
    b->len += n;
}

static inline void buf_add_char(struct buf *b, char c)
{
    if (b->cap == b->len && !buf_reserve(b, 1))
        return;
    b->data[b->len++] = c;
}

#define buf_add_lit(b, lit) buf_add((b), (lit), sizeof(lit) - 1)

#endif
