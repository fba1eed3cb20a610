/* media.h: the format of a request's body, for api.c. */
#ifndef LOGD_MEDIA_H
#define LOGD_MEDIA_H

#include "common/http/head.h"
#include "logd/ingest.h"

/* Reads Content-Type and Content-Encoding; false with *f set (415) when logd does not take them. */
bool media_format(const struct head *h, enum ingest_format *format, struct failure *f);

#endif
