/* fail-calls.c: takes the place of functions of the C library. The program's own come before those
 * of all libraries. */
#include "fail.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SHOWN __attribute__((visibility("default")))

static enum fail_kind failing_kind; /* all are atomic */
static long first, last;            /* which calls fail; 0: none */
static long calls, blocks;

void fail_at(enum fail_kind kind, long n, long more)
{
    failing_kind = kind;
    __atomic_store_n(&calls, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&last, n + more, __ATOMIC_SEQ_CST);
    __atomic_store_n(&first, n, __ATOMIC_SEQ_CST);
}

long fail_stop(void)
{
    __atomic_store_n(&first, 0, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&calls, __ATOMIC_SEQ_CST);
}

long fail_blocks(void)
{
    return __atomic_load_n(&blocks, __ATOMIC_SEQ_CST);
}

/* A thread that frees what it has just been given can have as much once more, until
 * it makes another call, when others may have taken it. */
static __thread void *given;
static __thread size_t given_bytes, credit;

static bool fails(enum fail_kind kind, int error)
{
    if (kind != FAIL_MEMORY)
        credit = 0;
    long from = __atomic_load_n(&first, __ATOMIC_SEQ_CST);
    if (from == 0 || kind != failing_kind)
        return false;
    long n = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (n < from || n > __atomic_load_n(&last, __ATOMIC_SEQ_CST))
        return false;
    errno = error;
    return true;
}

/* ---- Memory ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define REAL(name) __interceptor_##name
#define COUNTED    0
#else
#define REAL(name) __libc_##name
#define COUNTED    1
#endif

void *REAL(malloc)(size_t size);
void *REAL(calloc)(size_t n, size_t size);
void *REAL(realloc)(void *block, size_t size);

/* A sanitizer's thread cannot start without memory. Not inline: the stack is not looked after
 * before the sanitizer is ready. */
__attribute__((noinline)) static bool may_fail(const void *caller)
{
    Dl_info info;
    return COUNTED || (dladdr(caller, &info) != 0 && (strstr(info.dli_fname, "logclient") != NULL ||
                                                      strstr(info.dli_fname, "event") != NULL));
}

static bool no_memory(size_t size, const void *caller)
{
    if (__atomic_load_n(&first, __ATOMIC_SEQ_CST) == 0 || !may_fail(caller))
        return false;
    if (size <= credit) {
        credit -= size;
        return false;
    }
    credit = 0;
    return fails(FAIL_MEMORY, ENOMEM);
}

static void *give(void *block, size_t size)
{
    given = block;
    given_bytes = size;
    return block;
}

static void take_back(const void *block)
{
    if (block != NULL && block == given)
        credit = given_bytes;
    given = NULL;
}

static void *counted(void *block)
{
    if (COUNTED && block != NULL)
        __atomic_add_fetch(&blocks, 1, __ATOMIC_SEQ_CST);
    return block;
}

SHOWN void *malloc(size_t size)
{
    return no_memory(size, __builtin_return_address(0)) ? NULL
                                                        : give(counted(REAL(malloc)(size)), size);
}

SHOWN void *calloc(size_t n, size_t size)
{
    return no_memory(n * size, __builtin_return_address(0)) ? NULL : counted(REAL(calloc)(n, size));
}

SHOWN void *realloc(void *block, size_t size)
{
    if (no_memory(size, __builtin_return_address(0)))
        return NULL;
    void *result = REAL(realloc)(block, size);
    return block == NULL ? counted(result) : result;
}

#if COUNTED
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *block);

static int align(void **block, size_t alignment, size_t size)
{
    *block = counted(__libc_memalign(alignment, size));
    return *block == NULL ? ENOMEM : 0;
}
#else
int __interceptor_posix_memalign(void **block, size_t alignment, size_t size);
void __interceptor_free(void *block);
#define align       __interceptor_posix_memalign
#define __libc_free __interceptor_free
#endif

SHOWN int posix_memalign(void **block, size_t alignment, size_t size)
{
    return no_memory(size, __builtin_return_address(0)) ? ENOMEM : align(block, alignment, size);
}

SHOWN void free(void *block)
{
    take_back(block);
    if (COUNTED && block != NULL)
        __atomic_sub_fetch(&blocks, 1, __ATOMIC_SEQ_CST);
    __libc_free(block);
}

/* ---- The others ---- */

/* The next one's address. Before main() there is only one thread. */
static void *next(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (function == NULL)
        abort();
    return function;
}

#define NEXT(name, result, ...)                                                                    \
    static result (*real_##name)(__VA_ARGS__);                                                     \
    __attribute__((constructor(101))) static void find_##name(void)                                \
    {                                                                                              \
        *(void **)&real_##name = next(#name);                                                      \
    }

/* A function whose arguments are passed on as they are. */
#define FAILING(kind, error, failure, result, name, parameters, ...)                               \
    NEXT(name, result, PARAMETERS parameters)                                                      \
    SHOWN result name(PARAMETERS parameters)                                                       \
    {                                                                                              \
        if (real_##name == NULL)                                                                   \
            find_##name();                                                                         \
        return fails(kind, error) ? (failure) : real_##name(__VA_ARGS__);                          \
    }
#define PARAMETERS(...) __VA_ARGS__

FAILING(FAIL_MAP, ENOMEM, MAP_FAILED, void *, mmap,
        (void *at, size_t n, int prot, int flags, int fd, off_t from), at, n, prot, flags, fd, from)
FAILING(FAIL_MAP, ENOMEM, -1, int, mprotect, (void *at, size_t n, int prot), at, n, prot)
FAILING(FAIL_MAP, ENOMEM, -1, int, madvise, (void *at, size_t n, int advice), at, n, advice)
FAILING(FAIL_MAP, ENOMEM, -1, int, munlock, (const void *at, size_t n), at, n)
FAILING(FAIL_THREAD, EAGAIN, EAGAIN, int, pthread_create,
        (pthread_t * thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg), thread,
        attr, run, arg)
FAILING(FAIL_DESCRIPTOR, ENFILE, -1, int, pipe, (int fds[2]), fds)
FAILING(FAIL_DESCRIPTOR, ENFILE, -1, int, socket, (int domain, int type, int protocol), domain,
        type, protocol)
FAILING(FAIL_DESCRIPTOR, ENFILE, -1, int, socketpair,
        (int domain, int type, int protocol, int fds[2]), domain, type, protocol, fds)
FAILING(FAIL_DESCRIPTOR, ENFILE, -1, int, memfd_create, (const char *name, unsigned flags), name,
        flags)
FAILING(FAIL_DESCRIPTOR, ENFILE, -1, int, epoll_create1, (int flags), flags)
FAILING(FAIL_FILE, ENOSPC, -1, int, ftruncate, (int fd, off_t n), fd, n)
FAILING(FAIL_FILE, ENOSPC, -1, int, fallocate, (int fd, int mode, off_t at, off_t n), fd, mode, at,
        n)
FAILING(FAIL_FILE, EIO, -1, int, renameat, (int from, const char *old, int to, const char *new),
        from, old, to, new)
FAILING(FAIL_FILE, ENOLCK, -1, int, flock, (int fd, int operation), fd, operation)
FAILING(FAIL_FILE, EIO, -1, ssize_t, pread, (int fd, void *to, size_t n, off_t at), fd, to, n, at)
FAILING(FAIL_FILE, EIO, -1, ssize_t, pwrite, (int fd, const void *from, size_t n, off_t at), fd,
        from, n, at)
FAILING(FAIL_FILE, ENOSYS, -1, ssize_t, getrandom, (void *to, size_t n, unsigned flags), to, n,
        flags)

NEXT(poll, int, struct pollfd *fds, nfds_t n, int ms)
NEXT(pipe2, int, int fds[2], int flags)
NEXT(close, int, int fd)
NEXT(open, int, const char *path, int flags, ...)
NEXT(openat, int, int dir, const char *path, int flags, ...)
NEXT(fcntl, int, int fd, int command, ...)
NEXT(syscall, long, long number, ...)

SHOWN int poll(struct pollfd *fds, nfds_t n, int ms)
{
    credit = 0;
    return real_poll(fds, n, ms);
}

/* A thread that closes a pipe it has just made can have another. */
static __thread int made_pipe[2] = {-1, -1};
static __thread bool pipe_credit;

SHOWN int pipe2(int fds[2], int flags)
{
    bool free_one = pipe_credit;
    pipe_credit = false;
    if (!free_one && fails(FAIL_DESCRIPTOR, ENFILE))
        return -1;
    int result = real_pipe2(fds, flags);
    if (result == 0)
        memcpy(made_pipe, fds, sizeof(made_pipe));
    return result;
}

SHOWN int close(int fd)
{
    if (real_close == NULL)
        find_close();
    credit = 0;
    if (fd >= 0 && fd == made_pipe[1])
        pipe_credit = true;
    made_pipe[1] = fd >= 0 && fd == made_pipe[0] ? made_pipe[1] : -1;
    return real_close(fd);
}

static unsigned mode_of(int flags, va_list args)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(args, unsigned) : 0;
}

SHOWN int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    unsigned mode = mode_of(flags, args);
    va_end(args);
    if (real_open == NULL)
        find_open();
    return fails(FAIL_DESCRIPTOR, ENFILE) ? -1 : real_open(path, flags, mode);
}

SHOWN int openat(int dir, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    unsigned mode = mode_of(flags, args);
    va_end(args);
    return fails(FAIL_DESCRIPTOR, ENFILE) ? -1 : real_openat(dir, path, flags, mode);
}

SHOWN int fcntl(int fd, int command, ...)
{
    va_list args;
    va_start(args, command);
    void *arg = va_arg(args, void *);
    va_end(args);
    bool makes = command == F_DUPFD || command == F_DUPFD_CLOEXEC;
    return makes && fails(FAIL_DESCRIPTOR, EMFILE) ? -1 : real_fcntl(fd, command, arg);
}

SHOWN long syscall(long number, ...)
{
    va_list args;
    long arg[6];
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        arg[i] = va_arg(args, long);
    va_end(args);
    bool makes = number == SYS_close_range || number == SYS_memfd_create;
    if (real_syscall == NULL)
        find_syscall();
    credit = 0;
    return makes && fails(FAIL_DESCRIPTOR, ENOMEM)
               ? -1
               : real_syscall(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

/* By these names libraries ask that were compiled for large files. */
#define LARGE(result, name, ...) SHOWN result name##64(__VA_ARGS__) __attribute__((alias(#name)));
LARGE(int, open, const char *path, int flags, ...)
LARGE(int, openat, int dir, const char *path, int flags, ...)
LARGE(int, fcntl, int fd, int command, ...)
LARGE(void *, mmap, void *at, size_t n, int prot, int flags, int fd, off_t from)
LARGE(int, ftruncate, int fd, off_t n)
LARGE(int, fallocate, int fd, int mode, off_t at, off_t n)
LARGE(ssize_t, pread, int fd, void *to, size_t n, off_t at)
LARGE(ssize_t, pwrite, int fd, const void *from, size_t n, off_t at)
