/* status.c: what the public header's codes mean. Callers and report.c ask. */
#include "logclient.h"

const char *logclient_version(void)
{
    return LOGCLIENT_VERSION;
}

const char *logclient_strerror(logclient_status_t status)
{
    static const char *const texts[] = {
        [LOGCLIENT_OK] = "success",
        [LOGCLIENT_TIMED_OUT] = "the deadline passed before all was delivered",
        [LOGCLIENT_UNKNOWN_PROPERTY] = "there is no property of this name",
        [LOGCLIENT_BAD_VALUE] = "the property does not take this value",
        [LOGCLIENT_NO_MEMORY] = "out of memory",
        [LOGCLIENT_BAD_RECORD] = "logd refused a record",
        [LOGCLIENT_UNREACHABLE] = "logd does not take records now",
        [LOGCLIENT_RING_FALLBACK] =
            "the ring directory cannot be used; records are kept in memory only",
        [LOGCLIENT_RING_DAMAGED] = "a file in the ring directory cannot be delivered",
        [LOGCLIENT_PRODUCER_TWIN] =
            "somebody else sends under the same producer id; a new one was taken",
        [LOGCLIENT_RECORDS_MISSING] = "records are missing in a leftover ring",
    };
    return (size_t)status < sizeof(texts) / sizeof(texts[0]) ? texts[status] : "unknown status";
}
