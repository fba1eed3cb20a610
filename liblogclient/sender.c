/* sender.c: what the sender's thread does. It takes records from the rings and posts them in order,
 * one batch at a time, until logd has confirmed. */
#include "sender-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "answer-internal.h"
#include "batch-internal.h"
#include "common/timer.h"
#include "common/timestamp.h"
#include "report-internal.h"
#include "ring-write-internal.h"
#include "source-internal.h"
#include "url-internal.h"

#define SLEEP_AFTER_MS     1000  /* without a record; the next one costs a system call */
#define POLL_MAX_MS        20    /* also with a longer linger: the queue may fill up */
#define STUCK_AFTER_MS     10000 /* nobody takes so long to write a record */
#define RETRY_AFTER_MAX_MS 300000
#define TICK_MS            20 /* while a request is under way: how soon a caller is heard */

enum state {
    STATE_POLLING,  /* nothing to send yet; the time leads on */
    STATE_SLEEPING, /* nothing to send for a while; a caller or a found ring leads on */
    STATE_SENDING,  /* a request is under way; its answer leads on */
    STATE_BACKOFF,  /* after a failure; the time leads on, and the same is sent again */
};

struct lc_sender {
    logclient_t *client;
    enum state state; /* changed by set_state() only */
    struct event_base *base;
    struct lc_http *http;
    struct event *tick;
    int64_t step_ms; /* when the time leads on, by the monotonic clock */

    struct lc_url urls[LC_URLS_MAX];
    int url_count;
    int url;            /* the one in use */
    int failures;       /* in a row */
    char reported[400]; /* the failure that was reported last; empty when all is well */

    struct lc_sources sources;
    struct lc_source *source; /* of the batch under way */
    struct lc_batch batch;
    uint64_t sent_before;        /* lc_source_sent() before it was posted */
    int64_t sent_ms;             /* when a batch of the own ring was sent last; 0: send at once */
    uint64_t stuck_at;           /* the tail when it could not be read */
    int64_t stuck_ms;            /* since when; 0: it was reported */
    int64_t busy_ms;             /* when there was last something to send */
    struct lc_sender *inherited; /* in a forked child: the parent's, which is left as it is */
    uint64_t flush_to;           /* a flush wants all up to this position at once */
};

/* The time leads on in so many milliseconds, where the state has one. */
static void set_state(struct lc_sender *s, enum state state, int64_t ms)
{
    uint32_t asleep = LC_SIGNAL_ASLEEP;
    s->state = state;
    if (state != STATE_SLEEPING)
        atomic_compare_exchange_strong(&s->client->signal, &asleep, LC_SIGNAL_NONE);
    bool timed = state == STATE_POLLING || state == STATE_BACKOFF;
    s->step_ms = timed ? monotonic_now_ms() + ms : INT64_MAX;
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

/* False when it cannot be sent now. */
static bool post(struct lc_sender *s, struct lc_source *source, int64_t now)
{
    char producer[LC_ID_HEX + 1];
    lc_id_hex(lc_source_ack(source)->producer, producer);
    struct lc_http_request request = {
        .url = &s->urls[s->url],
        .body = &s->batch.body,
        .producer = producer,
        .sequence = s->batch.first,
        .skip = lc_source_skip(source, s->batch.first),
        .timeout_ms = s->client->options->request_timeout_ms,
    };
    s->sent_before = lc_source_sent(source);
    if (!lc_source_note_sent(&s->sources, source, s->batch.first + s->batch.count, now))
        return false;
    set_state(s, STATE_SENDING, 0);
    if (source == &s->sources.own)
        s->sent_ms = now;
    s->source = source;
    lc_http_post(s->http, &request);
    return true;
}

/* Sends a batch from the source, if there is something to send. False when there is not; the source
 * may be gone then. */
static bool send_from(struct lc_sender *s, struct lc_source *source, int64_t now)
{
    const logclient_options_t *o = s->client->options;
    const struct lc_reader reader = lc_source_reader(source);
    if (source->bad == lc_source_tail(source))
        lc_source_reject(&s->sources, source);
    enum lc_ring_read result =
        lc_batch_fill(&s->batch, &reader, lc_source_tail(source), source->bad, source->max_records,
                      (size_t)o->batch_bytes, (size_t)o->max_message_bytes);
    if (s->batch.body.failed) { /* out of memory: perhaps there is some later */
        back_off(s, o->backoff_max_ms);
        return true;
    }
    if (s->batch.count > 0)
        return post(s, source, now);
    if (source != &s->sources.own && result == LC_RING_BUSY) /* out of memory */
        lc_source_back_off(&s->sources, source, now);
    else if (source != &s->sources.own && result != LC_RING_RECORD)
        lc_source_release(&s->sources, source, result);
    return false;
}

/* ---- Answers ---- */

/* Whether logd has confirmed as repetitions what was never sent before. Somebody else sends under
 * these numbers: a copy of this machine, or of the ring. */
static bool has_twin(const struct lc_sender *s, const struct lc_http_answer *answer)
{
    uint64_t first = s->batch.first, n = s->batch.count;
    uint64_t before = s->sent_before > first ? s->sent_before - first : 0;
    return lc_source_knows_sent(s->source) && before < n && lc_answer_duplicates(answer) > before;
}

static void on_success(struct lc_sender *s)
{
    struct lc_counters *count = &s->client->count;
    struct lc_source *source = s->source;
    size_t n = s->batch.count;
    atomic_fetch_add(&count->repaired, s->batch.repaired);
    atomic_fetch_add(&count->batches, 1);
    /* Towards the setting again, slowly. */
    size_t most = (size_t)s->client->options->batch_records;
    source->max_records += source->max_records / 8 + 1;
    if (source->max_records > most)
        source->max_records = most;
    s->failures = 0;
    s->reported[0] = '\0';
    lc_source_acknowledge(&s->sources, source, s->batch.ends[n - 1], s->batch.first + n, n);
}

/* What comes before the refused record is sent again without it, then it is dropped. */
static void on_refusal(struct lc_sender *s, const struct lc_http_answer *answer, size_t index)
{
    struct lc_source *source = s->source;
    source->bad = index == 0 ? lc_source_tail(source) : s->batch.ends[index - 1];
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
    return lc_with_chance(delay);
}

static void step(struct lc_sender *s);

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
    atomic_fetch_add(&s->client->count.retries, 1);
    s->url = (s->url + 1) % s->url_count;
    /* What is wrong may be the ring of a dead process, which shall not hold up the living. */
    if (s->source != &s->sources.own && answer->retry_after_ms < 0) {
        lc_source_back_off(&s->sources, s->source, monotonic_now_ms());
        step(s);
        return;
    }
    s->failures++;
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
    uint64_t queued = lc_ring_head(s->sources.own.ring) - s->sources.own.ring->ack.position;
    return now - s->sent_ms >= o->linger_ms || queued >= (uint64_t)o->batch_bytes ||
           s->flush_to > s->sources.own.ring->ack.position;
}

/* The ring holds something that cannot be sent: it lingers, or a writer is in the midst of it. */
static void wait_for_writer(struct lc_sender *s, int64_t now)
{
    s->busy_ms = now;
    if (s->stuck_at != s->client->ring.ack.position) {
        s->stuck_at = s->client->ring.ack.position;
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
    if (lc_ring_head(ring) > ring->ack.position)
        wait_for_writer(s, now);
    else if (lc_ring_rewind(ring))
        lc_publish_progress(c);
    if (now - s->busy_ms >= SLEEP_AFTER_MS) {
        while (lc_ring_trim(ring))
            lc_publish_progress(c);
        /* Sequentially consistent, like head in lc_ring_write(): either we see the record, or its
         * writer sees that we sleep. Somebody who calls meanwhile is heard at once. */
        uint32_t none = LC_SIGNAL_NONE;
        atomic_compare_exchange_strong(&c->signal, &none, LC_SIGNAL_ASLEEP);
        if (lc_ring_head(ring) == ring->ack.position) {
            set_state(s, STATE_SLEEPING, 0);
            return;
        }
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
        bool may =
            source == &s->sources.own ? due(s, now) : lc_source_may_send(&s->sources, source, now);
        if (may && send_from(s, source, now)) {
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
        if (has_twin(s, answer))
            lc_source_renew(&s->sources, s->source, s->batch.first);
        else
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

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg; /* the loop goes round */
}

static void step_if_idle(struct lc_sender *s)
{
    if (s->state == STATE_POLLING || s->state == STATE_SLEEPING)
        step(s);
}

/* A caller wakes the sender, flushes, or ends it. */
static void hear(struct lc_sender *s)
{
    uint32_t called = LC_SIGNAL_CALLED;
    if (!atomic_compare_exchange_strong(&s->client->signal, &called, LC_SIGNAL_NONE) ||
        atomic_load(&s->client->stop))
        return;
    s->flush_to = lc_ring_head(s->sources.own.ring);
    s->busy_ms = monotonic_now_ms();
    step_if_idle(s);
}

/* Waits for what leads on, and does not look at the socket: nothing is to come from there. */
static void wait_for_signal(struct lc_sender *s)
{
    int64_t now = monotonic_now_ms(), look = s->sources.search_ms;
    if (s->state != STATE_BACKOFF)
        look = lc_sources_deadline(&s->sources, now);
    int64_t until = s->step_ms < look ? s->step_ms : look;
    if (until > now)
        lc_wait_signal(s->client, until == INT64_MAX ? -1 : until - now);
}

/* Now and then there is more to look at: the ring directory, and a connection that logd may have
 * closed meanwhile. */
static void search_if_due(struct lc_sender *s)
{
    int64_t now = monotonic_now_ms();
    if (now >= s->sources.search_ms) {
        if (s->state != STATE_SENDING)
            event_base_loop(s->base, EVLOOP_NONBLOCK);
        lc_sources_search(&s->sources, now);
    }
    if (now >= lc_sources_deadline(&s->sources, now))
        step_if_idle(s);
}

void lc_sender_run(logclient_t *client)
{
    struct lc_sender *s = client->sender;
    while (!atomic_load(&client->stop)) {
        if (s->state == STATE_SENDING)
            event_base_loop(s->base, EVLOOP_ONCE);
        else
            wait_for_signal(s);
        hear(s);
        search_if_due(s);
        if (monotonic_now_ms() >= s->step_ms)
            step(s);
    }
}

/* ---- Life cycle ---- */

static void free_sender(struct lc_sender *s)
{
    lc_sources_free(&s->sources);
    lc_http_free(s->http);
    if (s->tick != NULL)
        event_free(s->tick);
    if (s->base != NULL)
        event_base_free(s->base);
    lc_batch_free(&s->batch);
    lc_urls_free(s->urls, s->url_count);
    free(s);
}

/* libevent ends the process when it cannot have one. What is closed here it can have. */
static bool has_pipe(void)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return false;
    close(fds[0]);
    close(fds[1]);
    return true;
}

static struct event_base *new_base(void)
{
    struct event_config *config = event_config_new();
    if (config == NULL)
        return NULL;
    /* One thread uses it. poll(2) is as good as epoll(7) for so few descriptors. */
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    event_config_avoid_method(config, "epoll");
    struct event_base *base = has_pipe() ? event_base_new_with_config(config) : NULL;
    event_config_free(config);
    return base;
}

static bool init(struct lc_sender *s)
{
    const logclient_options_t *o = s->client->options;
    const struct timeval tick = timer_timeval(TICK_MS);
    const char *why;
    s->busy_ms = monotonic_now_ms();
    int count = lc_urls_parse(o->url, s->urls, &why);
    if (count < 0)
        return false;
    s->url_count = count;
    if (!lc_batch_init(&s->batch, (size_t)o->batch_records) || (s->base = new_base()) == NULL ||
        (s->http = lc_http_new(s->base, on_answer, s)) == NULL)
        return false;
    s->tick = event_new(s->base, -1, EV_PERSIST, on_tick, s);
    if (s->tick == NULL || event_add(s->tick, &tick) != 0)
        return false;
    lc_sources_init(&s->sources, s->client);
    poll_in(s, o->linger_ms);
    return true;
}

bool lc_sender_init(logclient_t *client)
{
    struct lc_sender *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return false;
    s->client = client;
    s->inherited = client->sender;
    if (!init(s)) {
        free_sender(s);
        return false;
    }
    client->sender = s;
    return true;
}

void lc_sender_free(logclient_t *client)
{
    struct lc_sender *inherited = client->sender->inherited;
    free_sender(client->sender);
    client->sender = inherited; /* what is left as it is has not leaked */
}
