/* All images of one status, in pages behind each other (few at any time: an index seek). */
#include <string.h>

#include "tessera/base/str.h"
#include "tessera/meta.h"

enum { MARKER_SIZE = 64 };

static int list_all(struct meta_view *v, struct meta_image_query *query, char marker[MARKER_SIZE],
                    json_t *out)
{
    bool more = true;
    query->marker = NULL;
    while (more) {
        json_t *images = NULL;
        int rv = meta_image_list(v, query, &images, &more);
        if (rv != 0) {
            return rv;
        }
        size_t n = json_array_size(images);
        const char *last = json_str_or(json_array_get(images, n - 1), "id", "");
        (void)str_copy(marker, MARKER_SIZE, n > 0 ? last : "");
        query->marker = marker;
        more = more && n > 0;
        rv = json_array_extend(out, images);
        json_decref(images);
        if (rv != 0) {
            return TSR_ENOMEM;
        }
    }
    return 0;
}

int meta_images_by_status(struct meta_view *v, const char *status, json_t *out)
{
    const char *const values[] = {status};
    struct meta_filter filter = {
        .field = "status", .compare = CMP_EQ, .values = values, .value_count = 1};
    struct meta_image_query query = {
        .admin = true, .visibility = "all", .filters = &filter, .filter_count = 1, .limit = 1000};
    char marker[MARKER_SIZE];
    int rv = list_all(v, &query, marker, out);
    query.hidden = true;
    return rv != 0 ? rv : list_all(v, &query, marker, out);
}
