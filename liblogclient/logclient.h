/* logclient.h: sends log records to logd, exactly once, without ever making the caller wait.
 *
 *     #include <logclient.h>
 *
 *     send_log("payment", "error", "card refused");
 *
 * Link with `pkg-config --cflags --libs liblogclient`. SPDX-License-Identifier: MIT */
#ifndef LOGCLIENT_H
#define LOGCLIENT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LOGCLIENT_VERSION "0.1.0"

#if defined(__GNUC__)
#define LOGCLIENT_PRINTF(f, a) __attribute__((format(printf, f, a)))
#pragma GCC visibility push(default)
#else
#define LOGCLIENT_PRINTF(f, a)
#endif

/* ---- Opaque types ---- */

/* A queue with a sender thread of its own. */
typedef struct logclient logclient_t;

/* Settings for a client: named string properties. */
typedef struct logclient_options logclient_options_t;

/* ---- Status codes ---- */

typedef enum {
    LOGCLIENT_OK = 0,
    LOGCLIENT_TIMED_OUT,        /* the deadline passed first; what is queued stays queued */
    LOGCLIENT_UNKNOWN_PROPERTY, /* no property of this name */
    LOGCLIENT_BAD_VALUE,        /* the property does not take this value */
    LOGCLIENT_NO_MEMORY,
    LOGCLIENT_BAD_RECORD,    /* logd refused a record: it was dropped and counted as rejected */
    LOGCLIENT_UNREACHABLE,   /* logd cannot be reached, or answers with an error; the client keeps
                                trying */
    LOGCLIENT_RING_FALLBACK, /* the ring directory cannot be used: records are in memory only */
    LOGCLIENT_RING_DAMAGED, /* a leftover ring was damaged, and moved aside; or it is another user's
                               or of another version, and was left alone */
    LOGCLIENT_PRODUCER_TWIN,  /* somebody else sends under the same numbers, such as a copy of this
                                 machine: the client goes on under a new id */
    LOGCLIENT_RECORDS_MISSING /* a leftover ring lacks records that its process had queued: a power
                                 cut took them */
} logclient_status_t;

/* A sentence for a status, static, never NULL. Thread-safe and async-signal-safe. */
const char *logclient_strerror(logclient_status_t status);

/* The version of the library that is running, such as "0.1.0"; static. */
const char *logclient_version(void);

/* ---- Options ---- */

/* logclient(3) and README.md list the properties. The environment can give each of them, too, as
 * LOGCLIENT_ and its name in upper case (url: LOGCLIENT_URL). Options belong to one thread at a
 * time. */

/* New options: the built-in defaults, overridden by the environment. Returns NULL when out of
 * memory. To be freed with logclient_options_free(). */
logclient_options_t *logclient_options_new(void);

/* Sets a property; name and value are copied. On an error nothing changes, and errbuf (NULL
 * allowed) gets a sentence naming property, value and remedy, NUL-terminated, cut to errlen bytes.
 * Returns LOGCLIENT_OK, LOGCLIENT_UNKNOWN_PROPERTY (also for a NULL name), LOGCLIENT_BAD_VALUE
 * (also for a NULL value) or LOGCLIENT_NO_MEMORY (also for NULL options). */
logclient_status_t logclient_options_set(logclient_options_t *options, const char *name,
                                         const char *value, char *errbuf, size_t errlen);

/* Gets what a client has to report, apart from statistics. Runs on a thread that the client has for
 * this alone, with all signals blocked, never inside a send call, one report at a time. It has the
 * program's descriptors, and no delivery waits for it. It may call any function here but
 * logclient_free() of its own client. `text` is borrowed until the callback returns. */
typedef void logclient_error_cb(logclient_t *client, logclient_status_t status, const char *text,
                                void *arg);

/* Sets the callback; `arg` is borrowed for the client's life. NULL, the default: nothing is
 * reported, unless the property `report` says so. */
void logclient_options_set_error_cb(logclient_options_t *options, logclient_error_cb *cb,
                                    void *arg);

/* NULL is allowed. */
void logclient_options_free(logclient_options_t *options);

/* ---- Life cycle ---- */

/* Creates a client: its queue and its sender thread. `options` is copied; NULL means those of
 * logclient_options_new(). logd need not be reachable. Returns NULL, with errno and a sentence in
 * errbuf (NULL allowed), when a value from the environment is bad, or the system does not give what
 * is needed; the errors are those of send_log(). To be freed with logclient_free(). Thread-safe;
 * not async-signal-safe. */
logclient_t *logclient_new(const logclient_options_t *options, char *errbuf, size_t errlen);

/* The client that send_log() uses, created on first use; never to be freed. NULL, with errno set,
 * when it cannot be created. */
logclient_t *logclient_default(void);

/* Delivers what is queued for at most `exit_timeout_ms`, stops the sender and frees the client.
 * What is then undelivered stays in the ring file for the next process, or, without one, is lost.
 * No other call on the client may run or follow. NULL is allowed; the default client is flushed but
 * not freed. */
void logclient_free(logclient_t *client);

/* ---- Send ---- */

/* send_log() and its siblings copy one record into the queue and return at once. They make no
 * system call on their ordinary path (after a second of silence one futex(2) wakes the sender), use
 * no descriptor, take no lock, print nothing and change no signal's disposition. They may be called
 * from any thread, from atexit handlers and destructors, in a forked child (which gets a queue of
 * its own at its first call), and from a signal handler, with one exception: the first call in a
 * process, which sets up the queue and the thread, is not async-signal-safe. A handler that
 * interrupted a send call must return; it must not longjmp(3) out of it.
 *
 * `service`: 1 to 128 bytes of text without control characters. `level`: trace, debug, info, warn,
 * error or fatal, or an alias; case does not matter. `message`: any text; bytes that are not UTF-8
 * are sent as U+FFFD, and more than `max_message_bytes` (65,536) are cut at a character's boundary
 * and counted. All three are borrowed until the call returns. The time stamp is the call's.
 *
 * Return 0 when the record is accepted: it will stand in app.log exactly once. Otherwise -1, the
 * record is dropped, and errno is one of
 *
 *   EINVAL  an argument is NULL, the service is not a name, or the level is none; from the first
 *           call: a LOGCLIENT_ variable has a bad value
 *   EAGAIN  the queue or its file system is full (with on_full=block: and stayed so for block_ms),
 *           or a signal handler has interrupted the first call
 *   EFBIG, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM, or an error of pthread_create(3)
 *           the first call could not set up the client; send_log(3) says more. The next call tries
 *           again */

int send_log(const char *service, const char *level, const char *message);

/* The same with printf(3) formatting, as async-signal-safe as the C library's vsnprintf is. Adds
 * its EOVERFLOW and EILSEQ, and ENOMEM for messages of more than 1023 bytes. */
int send_logf(const char *service, const char *level, const char *format, ...)
    LOGCLIENT_PRINTF(3, 4);
int send_vlogf(const char *service, const char *level, const char *format, va_list args)
    LOGCLIENT_PRINTF(3, 0);

/* The same for a client of one's own. */
int logclient_send(logclient_t *client, const char *service, const char *level,
                   const char *message);
int logclient_sendf(logclient_t *client, const char *service, const char *level, const char *format,
                    ...) LOGCLIENT_PRINTF(4, 5);
int logclient_vsendf(logclient_t *client, const char *service, const char *level,
                     const char *format, va_list args) LOGCLIENT_PRINTF(4, 0);

/* ---- Flush ---- */

/* Waits until all that was accepted before this call is delivered or rejected, for at most
 * timeout_ms milliseconds (0: only looks). NULL means the default client; if that was never used
 * there is nothing to wait for. Returns LOGCLIENT_OK or LOGCLIENT_TIMED_OUT. Thread-safe; not
 * async-signal-safe. */
logclient_status_t logclient_flush(logclient_t *client, int timeout_ms);

/* ---- Statistics ---- */

/* The law: LOGGED = DELIVERED + REJECTED + DROPPED + QUEUED. Each is counted where it happens, and
 * none is made from the others. What was adopted from dead processes is counted apart.
 *
 * It holds exactly when between the readings no send call is under way and nothing is delivered or
 * rejected: after a flush that returned LOGCLIENT_OK, or while logd is away. At any other moment,
 * read in the order DELIVERED, REJECTED, DROPPED, QUEUED, LOGGED: then the right side is never the
 * larger one. It lacks the calls under way and what was delivered or rejected between the
 * readings.
 *
 * All count from the client's creation (in a forked child: from its first call). */
typedef enum {
    LOGCLIENT_STAT_LOGGED,        /* calls given a valid record, counted when they begin */
    LOGCLIENT_STAT_DELIVERED,     /* records that logd has confirmed */
    LOGCLIENT_STAT_REJECTED,      /* records that logd refused */
    LOGCLIENT_STAT_DROPPED,       /* records dropped because the queue was full */
    LOGCLIENT_STAT_QUEUED,        /* records that stand in the queue */
    LOGCLIENT_STAT_TRUNCATED,     /* messages cut to the limit */
    LOGCLIENT_STAT_REPAIRED,      /* records with bytes replaced by U+FFFD */
    LOGCLIENT_STAT_BATCHES,       /* batches confirmed */
    LOGCLIENT_STAT_RETRIES,       /* batches sent again */
    LOGCLIENT_STAT_RING_FALLBACK, /* 1 when records are kept in memory only although a ring file was
                                     asked for */
    LOGCLIENT_STAT_ADOPTED,       /* records of dead processes that were delivered */
    LOGCLIENT_STAT_DAMAGED,       /* leftover rings moved aside */
    LOGCLIENT_STAT_ADOPTED_REJECTED /* records of dead processes that logd refused */
} logclient_stat_t;

/* The value of a counter; 0 for an unknown one. NULL means the default client; if that was never
 * used, all are 0. Thread-safe and async-signal-safe. */
uint64_t logclient_stat(logclient_t *client, logclient_stat_t stat);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
