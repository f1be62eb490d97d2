/* Join tokens. Input: mode, then the text; or the JSON, which is encoded here. */
#include "fuzz.h"
#include "tessera/base/id.h"
#include "tessera/cluster.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    struct join_token t;
    char *text;
    if (fuzz_u8(&in) % 2 == 0) {
        text = fuzz_text(in);
    } else {
        text = malloc(4 * (in.size + 2) / 3 + 1);
        fuzz_check(text != NULL);
        base64url_encode(in.data, in.size, text);
    }
    int rc = join_token_parse(text, &t);
    fuzz_check(rc == 0 || rc == TSR_EINVAL);
    if (rc == 0) {
        fuzz_check(memchr(t.address, 0, sizeof t.address) != NULL);
        fuzz_check(memchr(t.secret, 0, sizeof t.secret) != NULL);
    }
    free(text);
    return 0;
}
