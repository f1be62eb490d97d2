/* What a record wants of a host: from its tree and from its text, which must agree. */
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "replica/want.h"
#include "tessera/base/id.h"

static void text_and_tree_say_the_same(void **state)
{
    (void)state;
    char hex[65];
    struct chunk_id id = {{1, 2, 3}}, got;
    hex_encode(id.bytes, 32, hex);
    static const char *const placements[] = {"[]", "[1]", "[12,2]", "[3,1,21]", "[31,11]"};
    static const char *const replicas[] = {"{}", "{\"1\":\"present\"}",
                                           "{\"1\":\"missing\",\"2\":\"present\"}",
                                           "{\"11\":\"present\",\"21\":\"present\"}"};
    for (size_t p = 0; p < 5; p++) {
        for (size_t q = 0; q < 4; q++) {
            for (unsigned data = 0; data < 2; data++) {
                json_t *image = json_pack(
                    "{s:s?,s:o,s:o,s:s}", "manifest", data != 0 ? hex : NULL, "placement",
                    json_parse(placements[p], strlen(placements[p])), "replicas",
                    json_parse(replicas[q], strlen(replicas[q])), "name", "[1,{\"replicas\"");
                struct meta_text text;
                char *stored = json_text(image, &text.size);
                text.text = stored;
                for (uint64_t host = 1; host <= 31; host++) {
                    struct want w;
                    check(want_of_text(&text, host, &w));
                    check(w.has_data == want_manifest(image, &got));
                    check(w.placed == want_placed(image, host));
                    check(w.recorded == want_recorded(image, host));
                    check(!w.has_data || memcmp(w.manifest.bytes, id.bytes, 32) == 0);
                }
                free(stored);
                json_decref(image);
            }
        }
    }
}

TEST_MAIN(cmocka_unit_test(text_and_tree_say_the_same))
