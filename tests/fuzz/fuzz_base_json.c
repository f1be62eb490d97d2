/* JSON from outside: what is accepted is written and read again as an equal value, in one form. */
#include "fuzz.h"
#include "tessera/base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = fuzz_bytes((struct fuzz_in){data, size});
    json_t *value = json_parse(copy, size);
    free(copy);
    if (value == NULL) {
        return 0;
    }
    size_t length, again_length;
    char *text = json_text(value, &length);
    fuzz_check(text != NULL && strlen(text) == length);
    json_t *again = json_parse(text, length);
    fuzz_check(again != NULL);
    char *again_text = json_text(again, &again_length);
    fuzz_check(again_text != NULL && strcmp(text, again_text) == 0);
    fuzz_check(json_equal(value, again));
    free(text);
    free(again_text);
    json_decref(value);
    json_decref(again);
    return 0;
}
