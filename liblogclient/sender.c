/* The sender thread: takes records from the rings and posts them, one batch in flight, in order,
 * until logd has confirmed. */
#include "client-internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include <event2/event.h>

#include "batch-internal.h"
#include "common/timestamp.h"
#include "http-internal.h"

/* Of an empty queue; from then on the next record wakes the sender with a system call. */
#define SLEEP_AFTER_MS 1000
/* With a longer linger the queue is looked at all the same: it may fill up. */
#define POLL_MAX_MS        20
#define STUCK_AFTER_MS     10000 /* nobody takes so long to write a record */
#define ADOPT_EVERY_MS     2000
#define ADOPTED_MAX        16 /* rings drained at the same time */
#define RETRY_AFTER_MAX_MS 300000
#define STACK_BYTES        (512 * 1024)
#define NOWHERE            UINT64_MAX

/* A ring to be drained: the client's own, or one that a dead process left. */
struct source {
    struct lc_ring *ring;
    struct lc_ring adopted;      /* what `ring` points to, unless it is the client's own */
    char name[LC_RING_NAME_MAX]; /* of an adopted ring's file */
    uint64_t bad;                /* position of a record that logd refused, or NOWHERE */
    char bad_text[300];          /* what logd said of it */
    uint64_t skip;               /* rejected records since the last batch that was taken */
    size_t max_records; /* in a batch; less than the setting after logd found one too large */
};

enum state {
    STATE_READY,   /* nothing under way; the poll timer or the wake event leads on */
    STATE_SENDING, /* a request is under way */
    STATE_BACKOFF, /* after a failure; the retry timer leads on */
};

struct lc_sender {
    logclient_t *client;
    enum state state;
    struct event_base *base;
    struct lc_http *http;
    struct event *wake, *poll, *retry, *adopt;

    struct lc_url urls[LC_URLS_MAX];
    int url_count;
    int url;            /* the one in use */
    int failures;       /* in a row */
    char reported[400]; /* the failure that was reported last; empty when all is well */

    struct source own;
    struct source *adopted[ADOPTED_MAX];
    int adopted_count;
    bool adopt_now; /* search, however short ago the last search was */
    int turn;       /* whose turn it is: 0 own, else adopted[turn - 1] */

    struct source *source; /* of the batch under way */
    struct lc_batch batch;
    int64_t sent_ms;             /* when a batch of the own ring was sent last */
    uint64_t stuck_at;           /* the tail when it could not be read */
    int64_t stuck_ms;            /* since when; 0: it was reported */
    int64_t busy_ms;             /* when there was last something to send */
    struct lc_sender *inherited; /* in a forked child: the parent's, which is left as it is */
    uint64_t flush_to;           /* a flush wants all up to this position at once */
};

static void step(struct lc_sender *s);

static void report(struct lc_sender *s, logclient_status_t status, const char *text)
{
    const logclient_options_t *o = s->client->options;
    if (o->error_cb != NULL)
        o->error_cb(s->client, status, text, o->error_arg);
}

static void arm(struct event *timer, int64_t ms)
{
    struct timeval tv = {ms / 1000, (int)(ms % 1000) * 1000};
    event_add(timer, &tv);
}

static void poll_in(struct lc_sender *s, int64_t ms)
{
    arm(s->poll, ms < POLL_MAX_MS ? ms : POLL_MAX_MS);
}

static void adopt_now(struct lc_sender *s)
{
    s->adopt_now = true;
    arm(s->adopt, 0);
}

/* ---- sources ---- */

/* Tells logclient_flush() how far the own ring is done. */
static void publish_progress(logclient_t *c)
{
    pthread_mutex_lock(&c->lock);
    c->acknowledged = c->ring.tail;
    pthread_cond_broadcast(&c->progress);
    pthread_mutex_unlock(&c->lock);
}

static void acknowledge(struct lc_sender *s, struct source *source, uint64_t position,
                        uint64_t records)
{
    lc_ring_acknowledge(source->ring, position, source->ring->sequence + records);
    if (source == &s->own)
        publish_progress(s->client);
}

/* Counts and tells of a ring of a dead process that was moved aside. */
static void report_damaged(struct lc_sender *s, const char *name, const char *what)
{
    char text[2 * LC_RING_NAME_MAX + 80];
    atomic_fetch_add(&s->client->count.damaged, 1);
    snprintf(text, sizeof(text), "ring %s %s; moved to %s.damaged", name, what, name);
    report(s, LOGCLIENT_RING_DAMAGED, text);
}

/* Lets an adopted ring go: unlinked when it is drained, moved aside when damaged, else left to
 * others. */
static void release(struct lc_sender *s, struct source *source, enum lc_ring_read why)
{
    if (why == LC_RING_EMPTY)
        unlinkat(s->client->dir, source->name, 0);
    if (why == LC_RING_DAMAGED) {
        lc_ringdir_set_aside(s->client->dir, source->name);
        report_damaged(s, source->name, "is damaged behind what was delivered");
    }
    lc_hold_forks();
    lc_ring_close(source->ring);
    for (int i = 0; i < s->adopted_count; i++)
        if (s->adopted[i] == source)
            s->adopted[i] = s->adopted[--s->adopted_count];
    lc_allow_forks();
    free(source);
    if (s->adopted_count == 0 && why != LC_RING_BUSY)
        adopt_now(s); /* there may be more than fitted */
}

/* Drops the record at source->bad, which is the first one. Its sequence number goes with it. */
static void reject(struct lc_sender *s, struct source *source)
{
    struct lc_record record;
    uint64_t position = source->bad;
    source->bad = NOWHERE;
    if (lc_ring_read(source->ring, &position, &record) != LC_RING_RECORD)
        return;
    source->skip++;
    struct lc_counters *count = &s->client->count;
    atomic_fetch_add(source == &s->own ? &count->rejected : &count->adopted_rejected, 1);
    acknowledge(s, source, position, 1);
    report(s, LOGCLIENT_BAD_RECORD, source->bad_text);
}

static void post(struct lc_sender *s)
{
    char producer[LC_PRODUCER_HEX + 1];
    lc_ring_producer(s->source->ring, producer);
    struct lc_http_request request = {
        .url = &s->urls[s->url],
        .body = &s->batch.body,
        .producer = producer,
        .sequence = s->source->ring->sequence,
        .skip = s->source->skip,
        .timeout_ms = s->client->options->request_timeout_ms,
    };
    s->state = STATE_SENDING;
    if (s->source == &s->own)
        s->sent_ms = monotonic_now_ms();
    lc_http_post(s->http, &request);
}

/* Sends a batch from the source, if there is something to send. False when there is not; the source
 * may be gone then. */
static bool send_from(struct lc_sender *s, struct source *source)
{
    const logclient_options_t *o = s->client->options;
    if (source->bad == source->ring->tail)
        reject(s, source);
    enum lc_ring_read result =
        lc_batch_fill(&s->batch, source->ring, source->bad, source->max_records,
                      (size_t)o->batch_bytes, (size_t)o->max_message_bytes);
    if (s->batch.body.failed) {
        s->source = source;
        s->state = STATE_BACKOFF; /* out of memory: perhaps there is some later */
        arm(s->retry, o->backoff_max_ms);
        return true;
    }
    if (s->batch.count > 0) {
        s->source = source;
        post(s);
        return true;
    }
    if (source != &s->own && (result == LC_RING_EMPTY || result == LC_RING_DAMAGED))
        release(s, source, result);
    return false;
}

/* ---- answers ---- */

/* The number after "name" and a colon in a JSON object; -1 when it is not there. */
static int64_t find_number(const char *json, const char *name)
{
    static const char space[] = " \t\r\n";
    const char *at = strstr(json, name);
    if (at == NULL)
        return -1;
    at += strlen(name);
    at += strspn(at, space);
    if (*at++ != ':')
        return -1;
    at += strspn(at, space);
    return *at >= '0' && *at <= '9' ? strtoll(at, NULL, 10) : -1;
}

static void on_success(struct lc_sender *s)
{
    struct lc_counters *count = &s->client->count;
    struct source *source = s->source;
    size_t n = s->batch.count;
    atomic_fetch_add(source == &s->own ? &count->delivered : &count->adopted, n);
    atomic_fetch_add(&count->repaired, s->batch.repaired);
    atomic_fetch_add(&count->batches, 1);
    source->skip = 0;
    /* Towards the setting again, slowly. */
    size_t most = (size_t)s->client->options->batch_records;
    source->max_records += source->max_records / 8 + 1;
    if (source->max_records > most)
        source->max_records = most;
    s->failures = 0;
    s->reported[0] = '\0';
    acknowledge(s, source, s->batch.ends[n - 1], n);
}

/* A batch that logd will never take as it is. A 400 of logd's names the record at fault by its
 * index, a 413 is JSON with an error: nothing else proves that a record is to blame, and not a
 * proxy, or some other server at this address. False when it is not proven. */
static bool on_refusal(struct lc_sender *s, const struct lc_http_answer *answer)
{
    struct source *source = s->source;
    int64_t index = answer->status == 400 ? find_number(answer->body, "\"index\"") : -1;
    if (answer->status == 413 && s->batch.count > 1) {
        source->max_records = s->batch.count / 2;
        return true;
    }
    if (strstr(answer->body, "\"error\"") == NULL)
        return false;
    if (answer->status == 413)
        index = 0;
    if (index < 0 || (size_t)index >= s->batch.count)
        return false;
    source->bad = index == 0 ? source->ring->tail : s->batch.ends[index - 1];
    snprintf(source->bad_text, sizeof(source->bad_text),
             "%s refused a record with status %d: %.200s", s->urls[s->url].text, answer->status,
             answer->body);
    return true;
}

static int64_t backoff_ms(const struct lc_sender *s)
{
    const logclient_options_t *o = s->client->options;
    int64_t delay = o->backoff_min_ms;
    for (int i = s->url_count; i < s->failures && delay < o->backoff_max_ms; i += s->url_count)
        delay *= 2;
    if (delay > o->backoff_max_ms)
        delay = o->backoff_max_ms;
    /* Half of it is chance, so that clients don't come back all at once. */
    uint32_t chance = 0;
    if (getrandom(&chance, sizeof(chance), GRND_NONBLOCK) < 0)
        chance = (uint32_t)getpid();
    return delay / 2 + (int64_t)(chance % (uint32_t)(delay / 2 + 1));
}

/* No answer, or one that says to come again: the batch stays where it is, in the ring. */
static void on_failure(struct lc_sender *s, const struct lc_http_answer *answer)
{
    char text[sizeof(s->reported)];
    const char *url = s->urls[s->url].text;
    if (answer->status == 0)
        snprintf(text, sizeof(text), "%s: %s", url, answer->error);
    else if (answer->status == 200)
        snprintf(text, sizeof(text), "%s does not answer as logd does: %.200s", url, answer->body);
    else
        snprintf(text, sizeof(text), "%s answered %d: %.200s", url, answer->status, answer->body);
    if (strcmp(text, s->reported) != 0) {
        memcpy(s->reported, text, sizeof(text));
        report(s, LOGCLIENT_UNREACHABLE, text);
    }
    s->failures++;
    atomic_fetch_add(&s->client->count.retries, 1);
    s->url = (s->url + 1) % s->url_count;
    int64_t delay = 0;
    if (s->failures % s->url_count == 0) /* all have been tried */
        delay = backoff_ms(s);
    if (s->url_count == 1 && answer->retry_after_ms > delay)
        delay = answer->retry_after_ms < RETRY_AFTER_MAX_MS ? answer->retry_after_ms
                                                            : RETRY_AFTER_MAX_MS;
    s->state = STATE_BACKOFF;
    arm(s->retry, delay);
}

static void on_answer(const struct lc_http_answer *answer, void *arg)
{
    struct lc_sender *s = arg;
    s->state = STATE_READY;
    if (answer->status == 200 &&
        find_number(answer->body, "\"accepted\"") == (int64_t)s->batch.count) {
        on_success(s);
    } else if ((answer->status != 400 && answer->status != 413) || !on_refusal(s, answer)) {
        on_failure(s, answer);
        return;
    }
    s->source = NULL;
    step(s);
}

/* ---- when to send ---- */

/* Whether the own ring's records have waited long enough, or are many enough. */
static bool due(struct lc_sender *s, int64_t now)
{
    const logclient_options_t *o = s->client->options;
    uint64_t queued = lc_ring_head(s->own.ring) - s->own.ring->tail;
    return now - s->sent_ms >= o->linger_ms || queued >= (uint64_t)o->batch_bytes ||
           s->flush_to > s->own.ring->tail;
}

/* With something in the ring that cannot be sent: a writer is in the midst of it, or it waits for
 * its linger. */
static void wait_for_writer(struct lc_sender *s, int64_t now)
{
    s->busy_ms = now;
    if (s->stuck_at != s->client->ring.tail) {
        s->stuck_at = s->client->ring.tail;
        s->stuck_ms = now;
    } else if (s->stuck_ms != 0 &&
               now - s->stuck_ms > STUCK_AFTER_MS + s->client->options->linger_ms) {
        s->stuck_ms = 0;
        report(s, LOGCLIENT_RING_DAMAGED,
               "a record at the head of the queue is not completed: a thread was ended in the "
               "midst of a send call, or the ring was overwritten; nothing behind it can be "
               "delivered by this process");
    }
}

/* With nothing to send: polls for a while, then sleeps until a caller wakes it. */
static void rest(struct lc_sender *s, int64_t now)
{
    logclient_t *c = s->client;
    struct lc_ring *ring = &c->ring;
    if (lc_ring_head(ring) > ring->tail)
        wait_for_writer(s, now);
    else if (lc_ring_rewind(ring))
        publish_progress(c);
    if (now - s->busy_ms >= SLEEP_AFTER_MS) {
        while (lc_ring_trim(ring))
            publish_progress(c);
        /* Sequentially consistent, like head in lc_ring_write(): either we see the record, or its
         * writer sees that we sleep. */
        atomic_store(&c->sleeping, true);
        if (lc_ring_head(ring) == ring->tail)
            return;
        atomic_store(&c->sleeping, false);
    }
    int64_t wait = c->options->linger_ms - (now - s->sent_ms);
    if (wait <= 0 || wait > c->options->linger_ms)
        wait = c->options->linger_ms;
    poll_in(s, wait);
}

static void step(struct lc_sender *s)
{
    if (s->state != STATE_READY)
        return;
    lc_ring_reserve(&s->client->ring);
    int64_t now = monotonic_now_ms();
    for (int i = s->adopted_count; i >= 0; i--) {
        s->turn = s->turn >= s->adopted_count ? 0 : s->turn + 1;
        struct source *source = s->turn == 0 ? &s->own : s->adopted[s->turn - 1];
        if ((source != &s->own || due(s, now)) && send_from(s, source)) {
            s->busy_ms = now;
            return;
        }
    }
    rest(s, now);
}

/* ---- events ---- */

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    step(arg);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    struct lc_sender *s = arg;
    (void)fd, (void)what;
    s->state = STATE_READY;
    s->sent_ms = 0; /* it has waited long enough */
    s->source = NULL;
    step(s);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct lc_sender *s = arg;
    uint64_t n;
    (void)what;
    if (read(fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
        return;
    if (atomic_load(&s->client->stop)) {
        event_base_loopbreak(s->base);
        return;
    }
    s->flush_to = lc_ring_head(s->own.ring);
    s->busy_ms = monotonic_now_ms();
    atomic_store(&s->client->sleeping, false);
    event_del(s->poll);
    step(s);
}

static void take(struct lc_sender *s, const struct lc_ring *ring, const char *name)
{
    struct source *source = calloc(1, sizeof(*source));
    if (source == NULL) {
        struct lc_ring unused = *ring;
        lc_ring_close(&unused);
        return;
    }
    source->adopted = *ring;
    source->ring = &source->adopted;
    source->bad = NOWHERE;
    source->max_records = (size_t)s->client->options->batch_records;
    strcpy(source->name, name);
    s->adopted[s->adopted_count++] = source;
}

/* Takes rings until there are no more, or until one is damaged: its name is in `name` then. False
 * when another process is searching. */
static bool search(struct lc_sender *s, char name[LC_RING_NAME_MAX], enum lc_adopt *found)
{
    struct lc_adoption adoption;
    struct lc_ring ring;
    /* Many processes may share the directory; one search for all of them is enough, but for one
     * that has just begun, or found something. */
    int64_t pause = s->adopt_now ? 0 : ADOPT_EVERY_MS / 4 * 3;
    s->adopt_now = false;
    if (!lc_adoption_begin(&adoption, s->client->dir, pause))
        return false;
    *found = LC_ADOPT_NONE;
    while (s->adopted_count < ADOPTED_MAX &&
           (*found = lc_adoption_next(&adoption, &ring, name)) == LC_ADOPT_RING)
        take(s, &ring, name);
    lc_adoption_end(&adoption);
    return !adoption.failed || *found != LC_ADOPT_NONE;
}

static void on_adopt(evutil_socket_t fd, short what, void *arg)
{
    struct lc_sender *s = arg;
    enum lc_adopt found;
    char name[LC_RING_NAME_MAX];
    (void)fd, (void)what;
    arm(s->adopt, ADOPT_EVERY_MS);
    if (s->adopted_count == ADOPTED_MAX)
        return;
    lc_hold_forks();
    bool searched = search(s, name, &found);
    lc_allow_forks();
    if (!searched)
        return;
    if (found == LC_ADOPT_DAMAGED) {
        report_damaged(s, name, "cannot be read");
        adopt_now(s); /* on with the search */
    }
    if (s->adopted_count > 0)
        step(s);
    else if (found == LC_ADOPT_NONE)
        atomic_fetch_add(&s->client->count.idle_searches, 1);
}

/* ---- life cycle ---- */

static void *run(void *arg)
{
    struct lc_sender *s = arg;
    logclient_t *c = s->client;
    pthread_setname_np(pthread_self(), "logclient");
    if (c->fallback_text[0] != '\0')
        report(s, LOGCLIENT_RING_FALLBACK, c->fallback_text);
    event_base_dispatch(s->base);
    return NULL;
}

static void free_sender(struct lc_sender *s)
{
    struct event *events[] = {s->wake, s->poll, s->retry, s->adopt};
    while (s->adopted_count > 0)
        release(s, s->adopted[0], LC_RING_BUSY);
    lc_http_free(s->http);
    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
        if (events[i] != NULL)
            event_free(events[i]);
    if (s->base != NULL)
        event_base_free(s->base);
    lc_batch_free(&s->batch);
    lc_urls_free(s->urls, s->url_count);
    free(s);
}

static struct event_base *new_base(void)
{
    struct event_config *config = event_config_new();
    if (config == NULL)
        return NULL;
    /* One thread uses it. poll(2) is as good as epoll(7) for so few descriptors, and leaves nothing
     * shared with a forked child. */
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    event_config_avoid_method(config, "epoll");
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

static bool init_sender(struct lc_sender *s)
{
    const logclient_options_t *o = s->client->options;
    char why[200];
    s->own = (struct source){
        .ring = &s->client->ring, .bad = NOWHERE, .max_records = (size_t)o->batch_records};
    s->busy_ms = monotonic_now_ms();
    int count = lc_urls_parse(o->url, s->urls, why, sizeof(why));
    if (count < 0)
        return false;
    s->url_count = count;
    if (!lc_batch_init(&s->batch, (size_t)o->batch_records) || (s->base = new_base()) == NULL ||
        (s->http = lc_http_new(s->base, on_answer, s)) == NULL)
        return false;
    s->wake = event_new(s->base, s->client->wake_fd, EV_READ | EV_PERSIST, on_wake, s);
    s->poll = evtimer_new(s->base, on_poll, s);
    s->retry = evtimer_new(s->base, on_retry, s);
    s->adopt = evtimer_new(s->base, on_adopt, s);
    if (s->wake == NULL || s->poll == NULL || s->retry == NULL || s->adopt == NULL ||
        event_add(s->wake, NULL) != 0)
        return false;
    poll_in(s, o->linger_ms);
    if (s->client->dir >= 0 && o->adopt == LC_ON)
        adopt_now(s);
    return true;
}

/* All signals stay with the program's own threads. */
static int start_thread(struct lc_sender *s)
{
    sigset_t all, old;
    pthread_attr_t attr;
    int error = pthread_attr_init(&attr);
    if (error != 0)
        return error;
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    error = pthread_create(&s->client->thread, &attr, run, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return error;
}

int lc_sender_start(logclient_t *client)
{
    struct lc_sender *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return ENOMEM;
    s->client = client;
    s->inherited = client->sender;
    int error = init_sender(s) ? start_thread(s) : ENOMEM;
    if (error != 0)
        free_sender(s);
    else
        client->sender = s;
    return error;
}

void lc_sender_stop(logclient_t *client)
{
    struct lc_sender *s = client->sender;
    uint64_t one = 1;
    atomic_store(&client->stop, true);
    if (write(client->wake_fd, &one, sizeof(one)) < 0)
        return; /* cannot be: the counter of an eventfd is never that full */
    pthread_join(client->thread, NULL);
    free_sender(s);
    client->sender = NULL;
}

void lc_sender_close_inherited(struct lc_sender *s)
{
    if (s == NULL)
        return;
    int fd = lc_http_fd(s->http);
    if (fd >= 0)
        close(fd);
    for (int i = 0; i < s->adopted_count; i++)
        lc_ring_close(&s->adopted[i]->adopted);
}
