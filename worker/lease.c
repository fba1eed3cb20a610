/* lease.c: opens the stream, renews the lease, and gives it back. */
#include "worker/lease.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/util.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/diag.h"
#include "common/redis/resp.h"
#include "common/timer.h"

#define LOOK_MAX_MS     1000 /* between two looks; a third of the lease when that is less */
#define HOST_MAX        64
#define LEASE_WORDS_MAX 256 /* of a lease, without the path */
#define TEXT_MAX        (LEASE_WORDS_MAX + PATH_MAX)

struct lease {
    const struct config *config; /* borrowed, like sink and link */
    struct sink *sink;
    struct redis_link *link;
    struct lease_events events;
    void *arg;
    struct scripts scripts;
    struct account account;
    struct event *look;
    char text[TEXT_MAX];  /* the value of the owner's key, when it is this worker */
    char owner[TEXT_MAX]; /* the same of the owner that was found */
    bool held;            /* opened, and neither lost nor closed */
    bool replaced;        /* the lease was lost while it was held */
    bool looking;         /* a look is unanswered */
    bool noting;          /* commits note lines for other logs */
    bool ended;           /* lease_give_back() was called */
    size_t seen;          /* bytes of the notes that were looked at */
    struct buf command;
};

/* ---- The text ---- */

/* A new epoch each time. */
static void make_text(struct lease *l)
{
    char host[HOST_MAX + 1] = "", path[PATH_MAX];
    uint64_t epoch;
    gethostname(host, sizeof(host) - 1);
    evutil_secure_rng_get_bytes(&epoch, sizeof(epoch));
    if (realpath(l->config->output, path) == NULL)
        snprintf(path, sizeof(path), "%s", l->config->output);
    snprintf(l->text, sizeof(l->text), "%s %016" PRIx64 " host=%s pid=%ld log=%s",
             sink_token(l->sink), epoch, host, (long)getpid(), path);
}

/* The part of a lease that people read. */
static const char *for_people(const char *text)
{
    const char *host = strstr(text, "host=");
    return host != NULL ? host : text;
}

static void copy_span(char *to, size_t size, struct span s)
{
    snprintf(to, size, "%.*s", (int)s.n, s.p);
}

/* ---- The opening ---- */

/* Whether the lease is one of this log, whose opening Redis ran late; an earlier process may have
 * sent it. */
static bool is_own(const struct lease *l)
{
    const char *host = for_people(l->owner), *own = for_people(l->text);
    const char *log = strstr(host, " log="), *own_log = strstr(own, " log=");
    return log != NULL && own_log != NULL && strcmp(log, own_log) == 0 &&
           strcspn(host, " ") == strcspn(own, " ") && memcmp(host, own, strcspn(own, " ")) == 0;
}

/* The lease has the token of this log. Then somebody has copied the log's state. */
static bool take_new_token(struct lease *l)
{
    l->replaced = false;
    if (is_own(l))
        return true;
    diag_warn("another worker (%s) has a copy of %s.state: this one takes a new token",
              for_people(l->owner), l->config->output);
    return sink_new_token(l->sink);
}

static void stand_by(struct lease *l, struct span owner)
{
    char before[TEXT_MAX];
    size_t token = strlen(sink_token(l->sink));
    snprintf(before, sizeof(before), "%s", l->owner);
    copy_span(l->owner, sizeof(l->owner), owner);
    if (strncmp(l->owner, sink_token(l->sink), token) == 0 && !take_new_token(l)) {
        l->events.failed(strerror(errno), l->arg);
        return;
    }
    if (strcmp(for_people(before), for_people(l->owner)) != 0 && !is_own(l))
        diag_info("standing by: %s is owned by %s; this worker takes over when that one ends",
                  l->config->stream, for_people(l->owner));
    l->events.standby(l->arg);
}

/* False: the reply makes no sense. */
static bool read_opening(struct lease *l, const struct redis_reply *reply, struct lease_opening *o,
                         struct stream_id *last)
{
    struct span first, id;
    if (reply_count(reply) != 9 || !account_take(&l->account, reply, 3))
        return false;
    first = reply_span(reply_at(reply, 1));
    id = reply_span(reply_at(reply, 2));
    *o = (struct lease_opening){.empty = first.n == 0};
    l->noting = reply_integer(reply_at(reply, 8)) == 1;
    return (o->empty || stream_id_parse(&o->first, first.p, first.n)) &&
           stream_id_parse(last, id.p, id.n);
}

static void on_look(evutil_socket_t fd, short what, void *arg);

static void take_over(struct lease *l, const struct redis_reply *reply)
{
    struct lease_opening opening;
    struct stream_id last;
    if (!read_opening(l, reply, &opening, &last)) {
        l->events.failed("it answered with something unexpected", l->arg);
        return;
    }
    if (!account_check(&l->account, l->config->stream))
        diag_warn("%s was removed and made anew: what was in it is in no log of this worker",
                  l->config->stream);
    if (!sink_begin(l->sink, opening.empty ? NULL : &opening.first, last)) {
        l->events.failed(strerror(errno), l->arg);
        return;
    }
    l->held = true;
    l->replaced = false;
    l->seen = 0;
    (void)scripts_load(&l->scripts, l->link); /* what is not kept is sent whole */
    l->owner[0] = '\0';
    on_look(-1, 0, l); /* it may have taken long */
    l->events.opened(&opening, l->arg);
}

/* Other logs have noted lines. When these are the batch in hand, it is cut off this log. In either
 * case the opening goes on, by another one. */
static void look_at_notes(struct lease *l, struct span notes)
{
    if (!sink_surrender(l->sink, notes)) {
        l->events.failed(strerror(errno), l->arg);
        return;
    }
    l->seen = notes.n;
    if (l->ended || !lease_open(l))
        l->events.failed("the command cannot be sent", l->arg);
}

static void on_opened(const struct redis_reply *reply, void *arg)
{
    struct lease *l = arg;
    struct span word = {0};
    char why[256];
    if (reply == NULL) {
        l->events.failed(NULL, l->arg);
        return;
    }
    if (reply_count(reply) > 0)
        word = reply_span(reply_at(reply, 0));
    if (reply_type(reply) == REPLY_ERROR) {
        copy_span(why, sizeof(why), reply_span(reply));
        l->events.failed(why, l->arg);
    } else if (span_is(word, "taken") && reply_count(reply) == 2) {
        look_at_notes(l, reply_span(reply_at(reply, 1)));
    } else if (span_is(word, "standby") && reply_count(reply) == 2) {
        stand_by(l, reply_span(reply_at(reply, 1)));
    } else {
        take_over(l, reply);
    }
}

bool lease_open(struct lease *l)
{
    char last[STREAM_ID_TEXT_MAX], seen[24] = "none";
    struct stream_id first, end;
    l->held = false;
    make_text(l);
    stream_id_format(sink_last(l->sink), last);
    if (sink_in_hand(l->sink, &first, &end))
        snprintf(seen, sizeof(seen), "%zu", l->seen);
    scripts_begin(&l->scripts, SCRIPT_OPEN, l->config, 6, &l->command);
    resp_words(&l->command, RESP_WORDS(sink_token(l->sink), l->text));
    resp_arg_int(&l->command, l->config->lease_ms);
    resp_words(&l->command, RESP_WORDS(last, l->replaced ? "1" : "0", seen));
    return redis_link_send_buf(l->link, &l->command, on_opened, l);
}

/* ---- Looks ---- */

static void lose(struct lease *l, const char *why)
{
    l->held = false;
    l->events.lost(why, l->arg);
}

/* False: the reply makes no sense. */
static bool read_look(struct lease *l, const struct redis_reply *reply)
{
    struct account *a = &l->account;
    if (reply_count(reply) != 9 || !account_take(a, reply, 1))
        return false;
    struct span first = reply_span(reply_at(reply, 7));
    a->groups = reply_integer(reply_at(reply, 6));
    a->dead_letters = reply_integer(reply_at(reply, 8));
    a->first = (struct stream_id){0, 0};
    return first.n == 0 || stream_id_parse(&a->first, first.p, first.n);
}

static void on_looked(const struct redis_reply *reply, void *arg)
{
    static struct diag_limit limit;
    struct lease *l = arg;
    l->looking = false;
    if (reply == NULL)
        return;
    if (reply_type(reply) == REPLY_ERROR) {
        diag_warn_limited(&limit, "Redis refused to look at %s: %.*s", l->config->stream,
                          (int)reply_span(reply).n, reply_span(reply).p);
        if (l->held && reply_is_error(reply, "NOSCRIPT"))
            lose(l, "Redis has lost the scripts");
    } else if (read_look(l, reply) && l->held) {
        l->replaced = reply_integer(reply_at(reply, 0)) == 0;
        if (l->replaced)
            lose(l, "the lease has ended");
        else if (!account_check(&l->account, l->config->stream))
            lose(l, "the stream was removed");
        else
            l->events.looked(l->arg);
    }
}

static bool send_look(struct lease *l, int64_t lease_ms, redis_reply_cb *cb)
{
    struct stream_id first, last;
    bool done = lease_ms == 0 && !sink_in_hand(l->sink, &first, &last);
    scripts_begin(&l->scripts, SCRIPT_LOOK, l->config, 3, &l->command);
    resp_arg_str(&l->command, l->text);
    resp_arg_int(&l->command, lease_ms);
    resp_arg_str(&l->command, done ? "1" : "0");
    return redis_link_send_buf(l->link, &l->command, cb, l);
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
    struct lease *l = arg;
    (void)fd, (void)what;
    if (!l->looking)
        l->looking = send_look(l, l->config->lease_ms, on_looked);
}

/* ---- The end ---- */

static void on_given_back(const struct redis_reply *reply, void *arg)
{
    struct lease *l = arg;
    (void)reply;
    l->events.given_back(l->arg);
}

bool lease_give_back(struct lease *l)
{
    l->held = false;
    l->ended = true;
    return send_look(l, 0, on_given_back);
}

void lease_close(struct lease *l, bool replaced)
{
    l->held = false;
    l->replaced = l->replaced || replaced;
}

/* ---- Life ---- */

struct lease *lease_new(struct event_base *base, const struct config *config, struct sink *sink,
                        struct redis_link *link, const struct lease_events *events, void *arg)
{
    int64_t ms = config->lease_ms / 3 < LOOK_MAX_MS ? config->lease_ms / 3 : LOOK_MAX_MS;
    const struct timeval interval = timer_timeval(ms);
    struct lease *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return NULL;
    l->config = config;
    l->sink = sink;
    l->link = link;
    l->events = *events;
    l->arg = arg;
    l->look = event_new(base, -1, EV_PERSIST, on_look, l);
    if (l->look != NULL && event_add(l->look, &interval) == 0)
        return l;
    lease_free(l);
    return NULL;
}

const char *lease_owner(const struct lease *l)
{
    return for_people(l->owner);
}

void lease_begin_commit(const struct lease *l, size_t count, struct buf *out)
{
    scripts_begin(&l->scripts, SCRIPT_COMMIT, l->config, 2 + count, out);
    resp_arg_str(out, l->text);
    resp_arg_int(out, l->config->lease_ms);
}

bool lease_noting(const struct lease *l)
{
    return l->noting;
}

struct account *lease_account(struct lease *l)
{
    return &l->account;
}

void lease_free(struct lease *l)
{
    if (l == NULL)
        return;
    if (l->look != NULL)
        event_free(l->look);
    buf_free(&l->command);
    free(l);
}
