/* JSON from outside: what is accepted is written and read again as an equal value, in one form; and
 * reading and writing are held against jansson's own. */
#include "fuzz.h"
#include "tessera/base/json.h"

/* Brackets outside of strings; what else is out of order, jansson finds. */
static bool too_deep(const char *data, size_t size)
{
    int depth = 0, most = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        if (in_string) {
            in_string = data[i] != '"';
            i += data[i] == '\\'; /* what follows is no end */
        } else {
            in_string = data[i] == '"';
            depth += data[i] == '[' || data[i] == '{';
            depth -= data[i] == ']' || data[i] == '}';
            most = depth > most ? depth : most;
        }
    }
    return most > JSON_DEPTH_MAX;
}

static void as_jansson(const char *data, size_t size, const json_t *value)
{
    json_error_t where;
    json_t *other = too_deep(data, size)
                        ? NULL
                        : json_loadb(data, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    fuzz_check((value == NULL) == (other == NULL));
    if (value != NULL) {
        char *text = json_text(value, NULL);
        char *others = json_dumps(other, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
        fuzz_check(json_equal(value, other));
        fuzz_check(text != NULL && others != NULL && strcmp(text, others) == 0);
        fuzz_check(json_can_return(value));
        free(text);
        free(others);
    }
    json_decref(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = fuzz_bytes((struct fuzz_in){data, size});
    json_t *value = json_parse(copy, size);
    as_jansson(copy, size, value);
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
