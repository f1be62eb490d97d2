/* Path of a target: at most 16 segments, each a text; escaped again and parsed they are the same.
 */
#include "fuzz.h"
#include "tessera/base/buf.h"
#include "tessera/base/str.h"
#include "tessera/http.h"

static void check_again(const struct http_segments *s)
{
    struct buf path = {0};
    struct http_segments again;
    for (size_t i = 0; i < s->count; i++) {
        buf_append_str(&path, "/");
        percent_encode(&path, s->segment[i], false);
    }
    fuzz_check(!path.failed && http_segments_parse(path.data, &again));
    fuzz_check(again.count == s->count);
    for (size_t i = 0; i < s->count; i++) {
        fuzz_check(strcmp(again.segment[i], s->segment[i]) == 0);
    }
    http_segments_free(&again);
    buf_free(&path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *path = fuzz_text((struct fuzz_in){data, size});
    struct http_segments s;
    if (http_segments_parse(path, &s)) {
        fuzz_check(s.count >= 1 && s.count <= HTTP_SEGMENTS_MAX);
        check_again(&s);
        http_segments_free(&s);
    }
    free(path);
    return 0;
}
