/* surge.c: logs records of many sizes from several threads until standard input ends, for the tests
 * of power cuts. How many were accepted of each thread stands in a file that the test reads at any
 * time. It sees only the public header. power.py knows the texts, too. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "logclient.h"

#define COUNTERS 8
#define TEXT_MAX 32768

static uint64_t *accepted; /* atomic, mapped: of each thread; the last one counts refusals of all */
static const char *tag;
static long rate; /* records a second of each thread */
static int threads, ending;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "surge: %s: %s\n", what, strerror(errno));
    exit(70);
}

/* Each byte depends on the number: what is mixed of two records is none. */
static void write_text(char *text, int thread, uint64_t n)
{
    char unit[60];
    size_t length = 24 + ((uint32_t)n * 2654435761u >> 8) % 1500 + (n % 61 == 60 ? 20000 : 0);
    size_t size =
        (size_t)snprintf(unit, sizeof(unit), "%s.%d-%llu-", tag, thread, (unsigned long long)n);
    for (size_t i = 0; i < length; i++)
        text[i] = unit[i % size];
    text[length] = '\0';
}

static void nap(void)
{
    nanosleep(&(struct timespec){0, 1000000000L / rate}, NULL);
}

static void *surge(void *arg)
{
    int thread = *(int *)arg;
    char *text = malloc(TEXT_MAX);
    if (text == NULL)
        die("malloc");
    for (uint64_t n = 0; !__atomic_load_n(&ending, __ATOMIC_RELAXED);) {
        write_text(text, thread, n);
        if (send_log("surge", "info", text) == 0)
            __atomic_store_n(&accepted[thread], ++n, __ATOMIC_SEQ_CST);
        else if (errno == EAGAIN)
            __atomic_fetch_add(&accepted[COUNTERS - 1], 1, __ATOMIC_SEQ_CST);
        else
            die("send_log");
        nap();
    }
    free(text);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t ids[COUNTERS - 1];
    int numbers[COUNTERS - 1];
    char c;
    if (argc != 5 || (threads = atoi(argv[2])) < 1 || threads >= COUNTERS)
        die("usage: surge TAG THREADS RATE FILE");
    tag = argv[1];
    rate = atol(argv[3]);
    int fd = open(argv[4], O_RDWR);
    accepted = mmap(NULL, COUNTERS * sizeof(*accepted), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || accepted == MAP_FAILED)
        die(argv[4]);
    for (int i = 0; i < threads; i++) {
        numbers[i] = i;
        if ((errno = pthread_create(&ids[i], NULL, surge, &numbers[i])) != 0)
            die("pthread_create");
    }
    while (read(STDIN_FILENO, &c, 1) > 0)
        ;
    __atomic_store_n(&ending, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    return 0;
}
