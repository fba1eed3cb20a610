/* plugin.c: loads the library, logs, and unloads it, again and again: plugin LIBRARY LIST COUNT. It
 * is not linked with the library. */
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int (*log_it)(const char *service, const char *level, const char *message);
static int (*flush_it)(void *client, int timeout_ms);

static int count_entries(const char *path)
{
    DIR *dir = opendir(path);
    int n = 0;
    if (!dir)
        exit(70);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* Address space in KiB. */
static long size_kib(void)
{
    char line[256];
    long kib = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "VmSize: %ld", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib;
}

/* With "." and "..". A thread that was joined may be listed for a moment more. */
static int count_threads(void)
{
    int n;
    for (int i = 0; (n = count_entries("/proc/self/task")) > 3 && i < 1000; i++)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    return n;
}

static void print_counts(void)
{
    printf("%d descriptors, %d threads, %ld KiB\n", count_entries("/proc/self/fd"), count_threads(),
           size_kib());
}

static void *symbol(void *library, const char *name)
{
    void *p = dlsym(library, name);
    if (!p) {
        fprintf(stderr, "plugin: %s\n", dlerror());
        exit(70);
    }
    return p;
}

static void cycle(const char *path, FILE *list, int number)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    char text[32];
    if (!library) {
        fprintf(stderr, "plugin: %s\n", dlerror());
        exit(70);
    }
    *(void **)&log_it = symbol(library, "send_log");
    *(void **)&flush_it = symbol(library, "logclient_flush");
    for (int i = 0; i < 10; i++) {
        snprintf(text, sizeof(text), "plugin%d-%d", number, i);
        if (log_it("plugin", "warn", text) != 0)
            exit(71);
        fprintf(list, "%s\n", text);
    }
    /* Every other time unloading has to deliver. */
    if (number % 2 && flush_it(NULL, 30000) != 0)
        exit(72);
    if (dlclose(library) != 0)
        exit(73);
    if ((library = dlopen(path, RTLD_NOW | RTLD_NOLOAD)) != NULL)
        exit(74); /* it was not unloaded */
}

int main(int argc, char **argv)
{
    FILE *list = argc == 4 ? fopen(argv[2], "w") : NULL;
    if (!list)
        return 64;
    cycle(argv[1], list, 0);
    print_counts();
    for (int i = 1; i < atoi(argv[3]); i++)
        cycle(argv[1], list, i);
    print_counts();
    return fclose(list) == 0 ? 0 : 70;
}
