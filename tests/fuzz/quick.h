/* quick.h: compares logd's quick reader with jansson on one text; shared by the fuzzer and the unit
 * test. */
#ifndef TESTS_FUZZ_QUICK_H
#define TESTS_FUZZ_QUICK_H

#include <stdbool.h>
#include <stdio.h>

#include "logd/parse.h"
#include "logd/quick.h"

static bool same_span(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* What the quick reader accepts, jansson must accept with the same result. *accepted says whether
 * it did. Returns what is wrong, or NULL. */
static const char *compare_readers(const char *text, size_t n, bool *accepted)
{
    struct buf scratch = {0};
    struct record quick, exact;
    struct failure failure = {0};
    struct parser parser = {.body = text, .max_message = 200, .now_ms = 1795487702123};
    const char *wrong = NULL;
    *accepted = false;
    if (n == 0 || text[0] != '{')
        return NULL;
    size_t length = quick_object(text, n, parser.max_message, parser.now_ms, &scratch, &quick);
    *accepted = length > 0;
    if (length > 0) {
        size_t want = parse_by_jansson(&parser, text, n, 0, &exact, &failure);
        if (want == 0)
            wrong = "the quick reader accepts what jansson refuses";
        else if (want != length)
            wrong = "the two see different lengths";
        else if (!same_span(quick.service, exact.service) ||
                 !same_span(quick.message, exact.message) || quick.level != exact.level ||
                 quick.timestamp_ms != exact.timestamp_ms || exact.fields.n != 0)
            wrong = "the two read different records";
    }
    parser_free(&parser);
    buf_free(&scratch);
    return wrong;
}

#endif
