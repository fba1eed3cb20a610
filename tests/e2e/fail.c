/* fail.c: lets the n-th call of a kind fail, for every n until none is reached any more, in a
 * process that logs. test_failures.py runs it. Each n has a process of its own. */
#include "fail.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "logclient.h"

#define DONE         42  /* nobody else's exit status */
#define LAST         43  /* the same, and the n-th call was not reached */
#define LIMIT_MAX    100 /* descriptors */
#define LIMIT_S      60
#define FLUSH_MS     30000
#define RECORDS      10
#define TIMES        3 /* repeated */
#define SIDE_BY_SIDE 8
#define MORE         1000000000L

struct attempt {
    enum fail_kind kind;
    long n, more;
};

_Noreturn static void wrong(const char *what)
{
    dprintf(STDOUT_FILENO, "wrong: %s: %s\n", what, strerror(errno));
    _exit(1);
}

/* ---- Calls ---- */

static int send_with(logclient_t *client, const char *message)
{
    errno = 0;
    int result = client == NULL ? send_log("fail", "info", message)
                                : logclient_send(client, "fail", "info", message);
    if (result != 0 && errno == 0)
        wrong("a call failed without errno");
    return result;
}

/* While calls fail: each takes the record, or says why not. */
static void try_some(logclient_t *client)
{
    for (int i = 0; i < RECORDS; i++)
        send_with(client, "while");
    logclient_flush(client, 300);
}

/* After that: all goes well. For a moment a ring may still refuse (doc/protocol.md, section 6). */
static void use(logclient_t *client)
{
    int refused = 0;
    while (send_with(client, "after") != 0) {
        if (refused++ > 1000)
            wrong("calls fail for ever");
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
    if (logclient_flush(client, FLUSH_MS) != LOGCLIENT_OK)
        wrong("nothing is delivered");
}

static int attempt_end(const struct attempt *a)
{
    return fail_stop() < a->n ? LAST : DONE;
}

/* ---- Scenarios ---- */

/* The first call, and the default client. */
static int run_default(const struct attempt *a)
{
    fail_at(a->kind, a->n, a->more);
    try_some(NULL);
    int end = attempt_end(a);
    use(NULL);
    return end;
}

/* A process that dies leaves its ring, which others deliver. */
static void leave_ring(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        setenv("LOGCLIENT_URL", "http://127.0.0.1:9", 1);
        for (int i = 0; i < RECORDS; i++)
            send_with(NULL, "left");
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, NULL, 0) != pid)
        wrong("fork");
}

/* The default client works already. */
static int run_later(const struct attempt *a)
{
    use(NULL);
    leave_ring();
    fail_at(a->kind, a->n, a->more);
    try_some(NULL);
    /* The sender falls asleep, and looks for rings of dead processes. */
    nanosleep(&(struct timespec){2, 500000000}, NULL);
    try_some(NULL);
    int end = attempt_end(a);
    use(NULL);
    return end;
}

static void note(logclient_t *client, logclient_status_t status, const char *text, void *arg)
{
    (void)client, (void)status, (void)text;
    __atomic_add_fetch((int *)arg, 1, __ATOMIC_SEQ_CST);
}

static logclient_t *make(int *reports)
{
    char text[300] = "";
    logclient_options_t *options = logclient_options_new();
    errno = 0;
    if (options != NULL)
        logclient_options_set_error_cb(options, note, reports);
    logclient_t *client = options == NULL ? NULL : logclient_new(options, text, sizeof(text));
    if (options != NULL && client == NULL && (errno == 0 || text[0] == '\0'))
        wrong("a client is not made, and nothing says why");
    logclient_options_free(options);
    return client;
}

static void make_use_and_free(int *reports)
{
    logclient_t *client = make(reports);
    if (client == NULL)
        wrong("logclient_new");
    use(client);
    logclient_free(client);
}

/* What is left over after each attempt is leaked; what is made once, or kept for the next thread,
 * is not. */
static int repeat(const struct attempt *a, int (*once)(const struct attempt *, int *reports))
{
    static int reports;
    long blocks = 0;
    int end = DONE;
    make_use_and_free(&reports);
    for (int i = 0; i < TIMES; i++) {
        blocks = fail_blocks();
        end = once(a, &reports);
        make_use_and_free(&reports);
    }
    if (fail_blocks() <= blocks)
        return end;
    dprintf(STDOUT_FILENO, "%ld blocks leaked\n", fail_blocks() - blocks);
    return 1;
}

static int make_and_free(const struct attempt *a, int *reports)
{
    fail_at(a->kind, a->n, a->more);
    logclient_t *client = make(reports);
    if (client != NULL)
        try_some(client);
    int end = attempt_end(a);
    if (client != NULL)
        use(client);
    logclient_free(client);
    return end;
}

/* A client of its own, which is freed. */
static int run_client(const struct attempt *a)
{
    return repeat(a, make_and_free);
}

static int use_and_free(const struct attempt *a, int *reports)
{
    logclient_t *client = make(reports);
    use(client);
    fail_at(a->kind, a->n, a->more);
    try_some(client);
    logclient_free(client);
    return attempt_end(a);
}

/* The same, but calls fail when it works, and when it ends. */
static int run_end(const struct attempt *a)
{
    return repeat(a, use_and_free);
}

/* The process may have so many descriptors more. */
static int run_limit(const struct attempt *a)
{
    struct rlimit old, few;
    int next = dup(STDOUT_FILENO);
    close(next);
    if (getrlimit(RLIMIT_NOFILE, &old) != 0)
        wrong("getrlimit");
    few = (struct rlimit){(rlim_t)next + (rlim_t)a->n - 1, old.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &few) != 0)
        wrong("setrlimit");
    bool sent = send_with(NULL, "while") == 0;
    if (!sent && errno != EMFILE)
        wrong("not EMFILE");
    if (sent && logclient_flush(NULL, FLUSH_MS) != LOGCLIENT_OK)
        wrong("nothing is delivered");
    setrlimit(RLIMIT_NOFILE, &old);
    use(NULL);
    return a->n > LIMIT_MAX ? LAST : DONE;
}

/* ---- One process after the other ---- */

static const struct {
    const char *name;
    int (*run)(const struct attempt *a);
} scenarios[] = {
    {"default", run_default}, {"later", run_later}, {"client", run_client},
    {"end", run_end},         {"limit", run_limit},
};

static const char *const kinds[FAIL_KINDS] = {"memory", "map", "thread", "descriptor", "file"};

static pid_t start(size_t scenario, const struct attempt *a)
{
    pid_t pid = fork();
    if (pid < 0)
        wrong("fork");
    if (pid > 0)
        return pid;
    char dir[256];
    snprintf(dir, sizeof(dir), "%s/%ld", getenv("LOGCLIENT_RING_DIR"), a->n);
    setenv("LOGCLIENT_RING_DIR", dir, 1);
    alarm(LIMIT_S);
    exit(scenarios[scenario].run(a));
}

/* Whether the n-th call was reached. */
static bool finish(const struct attempt *a, pid_t pid)
{
    int status;
    if (waitpid(pid, &status, 0) != pid)
        wrong("wait");
    if (WIFEXITED(status) && (WEXITSTATUS(status) == DONE || WEXITSTATUS(status) == LAST))
        return WEXITSTATUS(status) == DONE;
    dprintf(STDOUT_FILENO, "failed: %s %ld: status %#x\n", kinds[a->kind], a->n, (unsigned)status);
    exit(1);
}

/* Some at a time: they wait most of the time. Returns how many calls there were. */
static long run_all(size_t scenario, struct attempt *a)
{
    pid_t pids[SIDE_BY_SIDE];
    for (;; a->n += SIDE_BY_SIDE) {
        struct attempt each = *a;
        bool reached = true;
        for (int i = 0; i < SIDE_BY_SIDE; i++, each.n++)
            pids[i] = start(scenario, &each);
        each = *a;
        for (int i = 0; i < SIDE_BY_SIDE; i++, each.n++)
            reached = finish(&each, pids[i]) && reached;
        if (!reached)
            return each.n - 1;
    }
}

/* SCENARIO KIND "once" or "lasting", and the only n, or 0 for all. */
int main(int argc, char **argv)
{
    struct attempt a = {.n = 1};
    size_t scenario = 0;
    if (argc != 5)
        return 64;
    while (strcmp(scenarios[scenario].name, argv[1]) != 0)
        scenario++;
    while (strcmp(kinds[a.kind], argv[2]) != 0)
        a.kind++;
    a.more = strcmp(argv[3], "lasting") == 0 ? MORE : 0;
    if ((a.n = atol(argv[4])) > 0) {
        finish(&a, start(scenario, &a));
        return 0;
    }
    a.n = 1;
    printf("all went well with up to %ld calls\n", run_all(scenario, &a));
    return 0;
}
