/* test_media.c: the media types that logd takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "logd/media.h"

static void test_media_types_choose_the_format(void **state)
{
    static const struct {
        const char *type, *encoding;
        int format; /* -1: refused */
    } cases[] = {
        {NULL, NULL, INGEST_JSON},
        {"application/json", NULL, INGEST_JSON},
        {"Application/JSON; charset=utf-8", NULL, INGEST_JSON},
        {"application/json ;x", "identity", INGEST_JSON},
        {"application/x-ndjson", "Identity", INGEST_LINES},
        {"application/jsonl", NULL, INGEST_LINES},
        {"application/json-lines;a=b", NULL, INGEST_LINES},
        {"application/stream+json", NULL, INGEST_LINES},
        {"application/jsonx", NULL, -1},
        {"application/json, text/plain", NULL, -1},
        {"text/plain", NULL, -1},
        {"", NULL, -1},
        {"application/json", "gzip", -1},
        {NULL, "identity, gzip", -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct head h = {0};
        struct failure f;
        enum ingest_format format;
        if (cases[i].type != NULL)
            head_take(&h, NULL, "Content-Type", cases[i].type);
        if (cases[i].encoding != NULL)
            head_take(&h, NULL, "Content-Encoding", cases[i].encoding);
        bool ok = media_format(&h, &format, &f);
        if (ok != (cases[i].format >= 0) || (ok && (int)format != cases[i].format))
            fail_msg("case %zu: %s", i, ok ? "accepted" : f.text);
        if (!ok)
            assert_int_equal(f.status, 415);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_media_types_choose_the_format),
    };
    return cmocka_run_group_tests_name("logd/media", tests, NULL, NULL);
}
