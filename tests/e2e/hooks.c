/* hooks.c: a program that has libevent's global hooks in use before it logs. For test_hooks.py. */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <logclient.h>

static _Atomic long blocks;
static _Atomic int messages;

static void *take(size_t size)
{
    blocks++;
    return malloc(size);
}

static void *change(void *block, size_t size)
{
    blocks += block == NULL;
    return realloc(block, size);
}

static void give(void *block)
{
    blocks -= block != NULL;
    free(block);
}

static void note(int severity, const char *text)
{
    (void)severity, (void)text;
    messages++;
}

/* The library brings libevent along; this program isn't linked with it. */
static void (*hook(void *library, const char *name))(void)
{
    void (*function)(void);
    *(void **)&function = dlsym(library, name);
    if (function == NULL) {
        fprintf(stderr, "there is no %s()\n", name);
        exit(1);
    }
    return function;
}

int main(void)
{
    void *threads = dlopen("libevent_pthreads-2.1.so.7", RTLD_NOW | RTLD_GLOBAL);
    if (threads == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    ((void (*)(void *(*)(size_t), void *(*)(void *, size_t), void (*)(void *)))hook(
        RTLD_DEFAULT, "event_set_mem_functions"))(take, change, give);
    ((int (*)(void))hook(threads, "evthread_use_pthreads"))();
    hook(RTLD_DEFAULT, "event_enable_debug_mode")();
    ((void (*)(void (*)(int, const char *)))hook(RTLD_DEFAULT, "event_set_log_callback"))(note);

    char err[256] = "out of memory";
    logclient_t *client = logclient_new(NULL, err, sizeof(err));
    if (client == NULL) {
        fprintf(stderr, "%s\n", err);
        return 1;
    }
    for (int i = 0; i < 100; i++)
        if (logclient_sendf(client, "hooks", "info", "record %d", i) != 0)
            return 1;
    if (logclient_flush(client, 10000) != LOGCLIENT_OK)
        return 1;
    long used = blocks;
    logclient_free(client);
    printf("%s, %d messages\n", used > 0 && blocks < used ? "hooked" : "not hooked", messages);
    return 0;
}
