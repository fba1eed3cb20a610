/* sender.c: the sender thread. It takes records from the rings and posts them in order, one batch
 * at a time, until logd has confirmed. */
#include "sender-internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include <event2/event.h>

#include "answer-internal.h"
#include "batch-internal.h"
#include "common/timer.h"
#include "common/timestamp.h"
#include "fd-internal.h"
#include "report-internal.h"
#include "ring-write-internal.h"
#include "source-internal.h"
#include "url-internal.h"

#define SLEEP_AFTER_MS     1000  /* without a record; the next one costs a system call */
#define POLL_MAX_MS        20    /* also with a longer linger: the queue may fill up */
#define STUCK_AFTER_MS     10000 /* nobody takes so long to write a record */
#define RETRY_AFTER_MAX_MS 300000
#define STACK_BYTES        (512 * 1024) /* at least */

enum state {
    STATE_POLLING,  /* nothing to send yet; the timer leads on */
    STATE_SLEEPING, /* nothing to send for a while; a caller or a found ring leads on */
    STATE_SENDING,  /* a request is under way; its answer leads on */
    STATE_BACKOFF,  /* after a failure; the timer leads on, and the same is sent again */
};

struct lc_sender {
    logclient_t *client;
    enum state state; /* changed by set_state() only */
    struct event_base *base;
    struct lc_http *http;
    struct event *wake, *timer;

    struct lc_url urls[LC_URLS_MAX];
    int url_count;
    int url;            /* the one in use */
    int failures;       /* in a row */
    char reported[400]; /* the failure that was reported last; empty when all is well */

    struct lc_sources sources;
    struct lc_source *source; /* of the batch under way */
    struct lc_batch batch;
    int64_t sent_ms;             /* when a batch of the own ring was sent last; 0: send at once */
    uint64_t stuck_at;           /* the tail when it could not be read */
    int64_t stuck_ms;            /* since when; 0: it was reported */
    int64_t busy_ms;             /* when there was last something to send */
    struct lc_sender *inherited; /* in a forked child: the parent's, which is left as it is */
    uint64_t flush_to;           /* a flush wants all up to this position at once */
};

/* Runs the timer in so many milliseconds where the state has one; else it stands still. */
static void set_state(struct lc_sender *s, enum state state, int64_t timer_ms)
{
    struct timeval tv = timer_timeval(timer_ms);
    s->state = state;
    if (state == STATE_POLLING || state == STATE_BACKOFF)
        event_add(s->timer, &tv);
    else
        event_del(s->timer);
}

static void poll_in(struct lc_sender *s, int64_t ms)
{
    set_state(s, STATE_POLLING, ms < POLL_MAX_MS ? ms : POLL_MAX_MS);
}

/* The batch stays where it is, in the ring. */
static void back_off(struct lc_sender *s, int64_t ms)
{
    s->sent_ms = 0;
    set_state(s, STATE_BACKOFF, ms);
}

/* ---- Sending ---- */

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
    set_state(s, STATE_SENDING, 0);
    if (s->source == &s->sources.own)
        s->sent_ms = monotonic_now_ms();
    lc_http_post(s->http, &request);
}

/* Sends a batch from the source, if there is something to send. False when there is not; the source
 * may be gone then. */
static bool send_from(struct lc_sender *s, struct lc_source *source)
{
    const logclient_options_t *o = s->client->options;
    if (source->bad == source->ring->tail)
        lc_source_reject(&s->sources, source);
    enum lc_ring_read result =
        lc_batch_fill(&s->batch, source->ring, source->bad, source->max_records,
                      (size_t)o->batch_bytes, (size_t)o->max_message_bytes);
    if (s->batch.body.failed) { /* out of memory: perhaps there is some later */
        back_off(s, o->backoff_max_ms);
        return true;
    }
    if (s->batch.count > 0) {
        s->source = source;
        post(s);
        return true;
    }
    if (source != &s->sources.own && (result == LC_RING_EMPTY || result == LC_RING_DAMAGED))
        lc_source_release(&s->sources, source, result);
    return false;
}

/* ---- Answers ---- */

static void on_success(struct lc_sender *s)
{
    struct lc_counters *count = &s->client->count;
    struct lc_source *source = s->source;
    size_t n = s->batch.count;
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
    lc_source_acknowledge(&s->sources, source, s->batch.ends[n - 1], n,
                          source == &s->sources.own ? &count->delivered : &count->adopted);
}

/* What comes before the refused record is sent again without it, then it is dropped. */
static void on_refusal(struct lc_sender *s, const struct lc_http_answer *answer, size_t index)
{
    struct lc_source *source = s->source;
    source->bad = index == 0 ? source->ring->tail : s->batch.ends[index - 1];
    snprintf(source->bad_text, sizeof(source->bad_text),
             "%s refused a record with status %d: %.200s", s->urls[s->url].text, answer->status,
             answer->body);
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

static void on_failure(struct lc_sender *s, const struct lc_http_answer *answer)
{
    char text[sizeof(s->reported)];
    lc_answer_describe(answer, s->urls[s->url].text, text, sizeof(text));
    if (strcmp(text, s->reported) != 0) {
        memcpy(s->reported, text, sizeof(text));
        lc_report(s->client, LOGCLIENT_UNREACHABLE, text);
    }
    /* A network that is too slow for this batch would be too slow for it each time. */
    if ((answer->late || answer->status == 408) && s->batch.count > 1)
        s->source->max_records = s->batch.count / 2;
    s->failures++;
    atomic_fetch_add(&s->client->count.retries, 1);
    s->url = (s->url + 1) % s->url_count;
    int64_t delay = 0;
    if (s->failures % s->url_count == 0) /* all have been tried */
        delay = backoff_ms(s);
    if (s->url_count == 1 && answer->retry_after_ms > delay)
        delay = answer->retry_after_ms < RETRY_AFTER_MAX_MS ? answer->retry_after_ms
                                                            : RETRY_AFTER_MAX_MS;
    back_off(s, delay);
}

/* ---- When to send ---- */

/* Whether the own ring's records have waited long enough, or are many enough. */
static bool due(struct lc_sender *s, int64_t now)
{
    const logclient_options_t *o = s->client->options;
    uint64_t queued = lc_ring_head(s->sources.own.ring) - s->sources.own.ring->tail;
    return now - s->sent_ms >= o->linger_ms || queued >= (uint64_t)o->batch_bytes ||
           s->flush_to > s->sources.own.ring->tail;
}

/* The ring holds something that cannot be sent: it lingers, or a writer is in the midst of it. */
static void wait_for_writer(struct lc_sender *s, int64_t now)
{
    s->busy_ms = now;
    if (s->stuck_at != s->client->ring.tail) {
        s->stuck_at = s->client->ring.tail;
        s->stuck_ms = now;
    } else if (s->stuck_ms != 0 &&
               now - s->stuck_ms > STUCK_AFTER_MS + s->client->options->linger_ms) {
        s->stuck_ms = 0;
        lc_report(s->client, LOGCLIENT_RING_DAMAGED,
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
        lc_publish_progress(c);
    if (now - s->busy_ms >= SLEEP_AFTER_MS) {
        while (lc_ring_trim(ring))
            lc_publish_progress(c);
        /* Sequentially consistent, like head in lc_ring_write(): either we see the record, or its
         * writer sees that we sleep. */
        atomic_store(&c->sleeping, true);
        if (lc_ring_head(ring) == ring->tail) {
            set_state(s, STATE_SLEEPING, 0);
            return;
        }
        atomic_store(&c->sleeping, false);
    }
    int64_t wait = c->options->linger_ms - (now - s->sent_ms);
    if (wait <= 0 || wait > c->options->linger_ms)
        wait = c->options->linger_ms;
    poll_in(s, wait);
}

/* Sends, or rests: goes into the next state, from POLLING or SLEEPING, after an answer, or after a
 * back-off. */
static void step(struct lc_sender *s)
{
    lc_ring_reserve(&s->client->ring);
    int64_t now = monotonic_now_ms();
    for (int i = s->sources.adopted_count; i >= 0; i--) {
        struct lc_source *source = lc_sources_next(&s->sources);
        if ((source != &s->sources.own || due(s, now)) && send_from(s, source)) {
            s->busy_ms = now;
            return;
        }
    }
    rest(s, now);
}

/* ---- Events ---- */

static void on_answer(const struct lc_http_answer *answer, void *arg)
{
    struct lc_sender *s = arg;
    size_t index;
    switch (lc_answer_verdict(answer, s->batch.count, &index)) {
    case LC_TAKEN:
        on_success(s);
        break;
    case LC_REFUSED:
        on_refusal(s, answer, index);
        break;
    case LC_TOO_LARGE:
        s->source->max_records = s->batch.count / 2;
        break;
    case LC_NOT_TAKEN:
        on_failure(s, answer);
        return;
    }
    step(s);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    step(arg);
}

static void step_if_idle(struct lc_sender *s)
{
    if (s->state == STATE_POLLING || s->state == STATE_SLEEPING)
        step(s);
}

/* A caller wakes the sender, flushes, or ends it. */
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
    s->flush_to = lc_ring_head(s->sources.own.ring);
    s->busy_ms = monotonic_now_ms();
    atomic_store(&s->client->sleeping, false);
    step_if_idle(s);
}

static void on_found(void *arg)
{
    step_if_idle(arg);
}

/* ---- Life cycle ---- */

static void *run(void *arg)
{
    struct lc_sender *s = arg;
    logclient_t *c = s->client;
    pthread_setname_np(pthread_self(), "logclient");
    if (c->fallback_text[0] != '\0')
        lc_report(s->client, LOGCLIENT_RING_FALLBACK, c->fallback_text);
    event_base_dispatch(s->base);
    return NULL;
}

static void free_sender(struct lc_sender *s)
{
    lc_sources_free(&s->sources);
    lc_http_free(s->http);
    if (s->wake != NULL)
        event_free(s->wake);
    if (s->timer != NULL)
        event_free(s->timer);
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
    int held[STDERR_FILENO + 1];
    size_t n = lc_hold_standard(held);
    struct event_base *base = event_base_new_with_config(config);
    lc_release_standard(held, n);
    event_config_free(config);
    return base;
}

static bool init_sender(struct lc_sender *s)
{
    const logclient_options_t *o = s->client->options;
    const char *why;
    s->busy_ms = monotonic_now_ms();
    int count = lc_urls_parse(o->url, s->urls, &why);
    if (count < 0)
        return false;
    s->url_count = count;
    if (!lc_batch_init(&s->batch, (size_t)o->batch_records) || (s->base = new_base()) == NULL ||
        (s->http = lc_http_new(s->base, on_answer, s)) == NULL)
        return false;
    s->wake = event_new(s->base, s->client->wake_fd, EV_READ | EV_PERSIST, on_wake, s);
    s->timer = evtimer_new(s->base, on_timer, s);
    if (s->wake == NULL || s->timer == NULL || event_add(s->wake, NULL) != 0 ||
        !lc_sources_init(&s->sources, s->client, s->base, on_found, s))
        return false;
    poll_in(s, o->linger_ms);
    return true;
}

/* All signals stay with the program's own threads. */
static int start_thread(struct lc_sender *s)
{
    sigset_t all, old;
    pthread_attr_t attr;
    size_t stack;
    int error = pthread_attr_init(&attr);
    if (error != 0)
        return error;
    /* The C library takes the program's thread-local variables out of it, too. */
    if (pthread_attr_getstacksize(&attr, &stack) == 0 && stack < STACK_BYTES)
        pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    error = pthread_create(&s->client->thread, &attr, run, s);
    /* A stack as large as the system's limit may be too much, where memory is locked. */
    if (error == EAGAIN && pthread_attr_setstacksize(&attr, STACK_BYTES) == 0)
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
    atomic_store(&client->stop, true);
    lc_signal_sender(client);
    pthread_join(client->thread, NULL);
    free_sender(client->sender);
    client->sender = NULL;
}

void lc_sender_close_inherited(struct lc_sender *s)
{
    if (s == NULL)
        return;
    int fd = lc_http_fd(s->http);
    if (fd >= 0)
        close(fd);
    lc_sources_close_inherited(&s->sources);
}
