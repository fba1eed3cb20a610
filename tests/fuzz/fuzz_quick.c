/* fuzz_quick.c: compares the two readers of logd under libFuzzer (make fuzz). */
#include <stdlib.h>

#include "tests/fuzz/quick.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    bool accepted;
    /* A copy of the exact size, so that AddressSanitizer sees a read behind the end. */
    char *text = malloc(size);
    if (size > 0)
        memcpy(text, data, size);
    const char *wrong = compare_readers(text, size, &accepted);
    free(text);
    if (wrong != NULL) {
        fprintf(stderr, "%s\n", wrong);
        abort();
    }
    return 0;
}
