/* Range header against a size: what is given lies inside. Input: size (8 bytes), value. */
#include "fuzz.h"
#include "tessera/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    int64_t total = (int64_t)(fuzz_uint(&in, 8) >> 1);
    char *value = fuzz_text(in);
    int64_t first = -1, length = -1;
    enum http_range kind = http_range_parse(value, total, &first, &length);
    if (kind == HTTP_RANGE_ONE) {
        fuzz_check(first >= 0 && length > 0);
        fuzz_check(first < total && length <= total - first);
    }
    fuzz_check(http_range_parse(value, 0, &first, &length) != HTTP_RANGE_ONE);
    free(value);
    return 0;
}
