/* auth.c: an example service: POST /login {"user":…,"password":…}. It logs no passwords. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <logclient.h>

#include "service.h"

#define TEXT_MAX     200 /* bytes of a user name or a password */
#define FAILURES_MAX 3
#define LOCKED_S     60

struct user {
    const char *name;
    const char *password; /* a real service keeps a salted hash */
    int failures;         /* in a row */
    time_t locked_until;  /* monotonic seconds; 0: not locked */
};

static struct user users[] = {
    {.name = "alice", .password = "correct horse"},
    {.name = "bob", .password = "battery staple"},
};

static struct user *find_user(const char *name)
{
    for (size_t i = 0; i < sizeof users / sizeof users[0]; i++) {
        if (strcmp(users[i].name, name) == 0) {
            return &users[i];
        }
    }
    return NULL;
}

/* Takes the same time wherever the two differ. */
static bool same_text(const char *given, const char *expected)
{
    size_t n = strlen(given), m = strlen(expected);
    unsigned char difference = n != m;
    for (size_t i = 0; i < n; i++) {
        difference |= (unsigned char)(given[i] ^ expected[i % m]);
    }
    return difference == 0;
}

static time_t now_s(void)
{
    struct timespec now;
    return clock_gettime(CLOCK_MONOTONIC, &now) == 0 ? now.tv_sec : 0;
}

static void accept_login(struct evhttp_request *req, struct user *user)
{
    unsigned char random[16];
    char token[2 * sizeof random + 1];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        check_log(send_log("auth", "error", "getrandom gave too little; no token was issued"));
        service_refuse(req, 500, "no token could be made; try again");
        return;
    }
    for (size_t i = 0; i < sizeof random; i++) {
        snprintf(token + 2 * i, 3, "%02x", random[i]);
    }
    user->failures = 0;
    user->locked_until = 0;
    check_log(send_logf("auth", "info", "%s logged in", user->name));
    service_reply(req, 200, json_pack("{s:s, s:s}", "user", user->name, "token", token));
}

static void refuse_login(struct evhttp_request *req, struct user *user)
{
    user->failures++;
    check_log(send_logf("auth", "warn", "wrong password for %s, failure %d of %d", user->name,
                        user->failures, FAILURES_MAX));
    if (user->failures == FAILURES_MAX) {
        user->failures = 0;
        user->locked_until = now_s() + LOCKED_S;
        check_log(send_logf("auth", "error", "%s is locked for %d s after %d wrong passwords",
                            user->name, LOCKED_S, FAILURES_MAX));
    }
    service_refuse(req, 401, "wrong user or password");
}

static void login(struct evhttp_request *req, const json_t *body)
{
    const char *name = service_text(req, body, "user", TEXT_MAX);
    const char *password = name ? service_text(req, body, "password", TEXT_MAX) : NULL;
    if (!password) {
        return;
    }
    struct user *user = find_user(name);
    if (!user) {
        /* The name is not logged: it may be a password, typed into the wrong field. */
        check_log(send_log("auth", "warn", "login with an unknown user name"));
        service_refuse(req, 401, "wrong user or password");
    } else if (user->locked_until > now_s()) {
        check_log(send_logf("auth", "warn", "login refused: %s is locked", user->name));
        service_refuse(req, 401, "wrong user or password");
    } else if (same_text(password, user->password)) {
        accept_login(req, user);
    } else {
        refuse_login(req, user);
    }
}

int main(int argc, char **argv)
{
    static const struct route routes[] = {{"/login", login}};
    static const struct service auth = {"auth", "AUTH_PORT", 5000, routes, 1};
    return service_main(&auth, argc, argv);
}
