/* reply-build.h: how a reply is made while hiredis reads it. conn.c uses it. */
#ifndef COMMON_REDIS_REPLY_BUILD_H
#define COMMON_REDIS_REPLY_BUILD_H

#include <hiredis/hiredis.h>

/* For a redisReader, in place of hiredis's own. Each object of a reply is a redisReply. They lie in
 * chunks of memory that belong to the outermost one, and go with it: hiredis takes two pieces of
 * memory for each, and a reply with 1,000 entries has 11,000. NULL when out of memory. */
extern const redisReplyObjectFunctions reply_build;

#endif
