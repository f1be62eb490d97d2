/* Query of a target: parameters are valid UTF-8 and inside of one allocation. */
#include "fuzz.h"
#include "tessera/base/str.h"
#include "tessera/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *query = fuzz_text((struct fuzz_in){data, size});
    struct http_params p;
    int rc = http_params_parse(query, &p);
    fuzz_check(rc == 0 || rc == TSR_EINVAL);
    if (rc == 0) {
        size_t bytes = 0;
        for (size_t i = 0; i < p.count; i++) {
            const char *name = p.items[i].name, *value = p.items[i].value;
            fuzz_check(utf8_valid(name, strlen(name)) && utf8_valid(value, strlen(value)));
            fuzz_check(http_param(&p, name) != NULL);
            bytes += strlen(name) + strlen(value);
        }
        fuzz_check(bytes <= strlen(query));
        http_params_free(&p);
    }
    free(query);
    return 0;
}
