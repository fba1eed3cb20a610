/* scripts.h: calls the scripts of script.h. For lease.c and commit.c. */
#ifndef WORKER_SCRIPTS_H
#define WORKER_SCRIPTS_H

#include "common/redis/link.h"
#include "worker/config.h"

#define SCRIPTS_SHA_LEN 40

enum script {
    SCRIPT_OPEN,
    SCRIPT_COMMIT,
    SCRIPT_LOOK,
    SCRIPTS,
};

/* One for a link, which it must outlive; all zero at first. */
struct scripts {
    char sha[SCRIPTS][SCRIPTS_SHA_LEN + 1]; /* "" until Redis has said it */
};

/* Has Redis keep the scripts, after each opening. Until that is answered, they are sent whole.
 * False: not sent. */
bool scripts_load(struct scripts *s, struct redis_link *link);

/* Begins a command that calls the script with the keys of the stream; `count` arguments must
 * follow. When Redis has forgotten the scripts, it answers NOSCRIPT. */
void scripts_begin(const struct scripts *s, enum script which, const struct config *config,
                   size_t count, struct buf *out);

#endif
