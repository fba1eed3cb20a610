/* redis-server.h: a private redis-server for a test: on a unix socket in a directory of its own,
 * without persistence. It dies with the test, whatever happens to that. Needs cmocka's headers
 * before it. */
#ifndef TESTS_UNIT_COMMON_REDIS_REDIS_SERVER_H
#define TESTS_UNIT_COMMON_REDIS_REDIS_SERVER_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct redis_server {
    char dir[64];
    char socket[96];
    char url[128];
    const char *password; /* NULL: none */
    pid_t pid;            /* 0: not running */
};

static inline void redis_server_exec(const struct redis_server *s, pid_t parent)
{
    int log = open("redis.log", O_WRONLY | O_CREAT | O_APPEND, 0600);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || log < 0 || dup2(log, STDOUT_FILENO) < 0)
        _exit(126);
    execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", s->socket, "--save", "",
           "--appendonly", "no", s->password != NULL ? "--requirepass" : (char *)NULL, s->password,
           (char *)NULL);
    _exit(127);
}

/* One PING over a connection of its own: whether it was answered (an error about a password is an
 * answer). */
static inline bool redis_server_answers(const struct redis_server *s)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    char answer[64];
    bool good;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    strcpy(sa.sun_path, s->socket);
    good = connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 && write(fd, "PING\r\n", 6) == 6 &&
           read(fd, answer, sizeof(answer)) > 0 && (answer[0] == '+' || answer[0] == '-');
    close(fd);
    return good;
}

/* Starts it, or starts it again, and waits until it answers; fails the test when it does not within
 * ten seconds. */
static inline void redis_server_start(struct redis_server *s)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    pid_t parent = getpid();
    if (s->dir[0] == '\0') {
        strcpy(s->dir, "/tmp/redis-test-XXXXXX");
        assert_non_null(mkdtemp(s->dir));
        snprintf(s->socket, sizeof(s->socket), "%s/redis.sock", s->dir);
        snprintf(s->url, sizeof(s->url), "unix://%s", s->socket);
    }
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) {
        if (chdir(s->dir) != 0)
            _exit(125);
        redis_server_exec(s, parent);
    }
    for (int i = 0; !redis_server_answers(s); i++) {
        int status;
        if (i == 2000 || waitpid(s->pid, &status, WNOHANG) == s->pid)
            fail_msg("redis-server did not start; is it installed?");
        nanosleep(&pause, NULL);
    }
}

/* SIGKILL, and its end awaited. */
static inline void redis_server_kill(struct redis_server *s)
{
    if (s->pid == 0)
        return;
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    s->pid = 0;
}

/* Ends it and removes its directory. */
static inline void redis_server_stop(struct redis_server *s)
{
    char log[96];
    redis_server_kill(s);
    if (s->dir[0] == '\0')
        return;
    snprintf(log, sizeof(log), "%s/redis.log", s->dir);
    unlink(log);
    unlink(s->socket);
    if (rmdir(s->dir) != 0)
        print_error("cannot remove %s: %s\n", s->dir, strerror(errno));
    s->dir[0] = '\0';
}

#endif
