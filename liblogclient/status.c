/* status.c: what the public header's codes mean. Callers and report.c ask. */
#include "logclient.h"

const char *logclient_version(void)
{
    return LOGCLIENT_VERSION;
}

const char *logclient_strerror(logclient_status_t status)
{
    switch (status) {
    case LOGCLIENT_OK:
        return "success";
    case LOGCLIENT_TIMED_OUT:
        return "the deadline passed before all was delivered";
    case LOGCLIENT_UNKNOWN_PROPERTY:
        return "there is no property of this name";
    case LOGCLIENT_BAD_VALUE:
        return "the property does not take this value";
    case LOGCLIENT_NO_MEMORY:
        return "out of memory";
    case LOGCLIENT_BAD_RECORD:
        return "logd refused a record";
    case LOGCLIENT_UNREACHABLE:
        return "logd does not take records now";
    case LOGCLIENT_RING_FALLBACK:
        return "the ring directory cannot be used; records are kept in memory only";
    case LOGCLIENT_RING_DAMAGED:
        return "a leftover ring is damaged; it was moved aside";
    }
    return "unknown status";
}
