/* GET /v2/images: query -> page. */
#include <stdlib.h>
#include <string.h>

#include "image/query.h"

static int render_all(const json_t *records, size_t limit, json_t *images, const char **last_out)
{
    size_t i;
    json_t *record;
    json_array_foreach(records, i, record)
    {
        if (i == limit) {
            break;
        }
        if (json_array_append_new(images, image_render(record)) != 0) {
            return TSR_ENOMEM;
        }
        *last_out = json_str(record, "id");
    }
    return 0;
}

static int set_link(json_t *page, const char *name, char *link)
{
    int rv = link != NULL ? json_set_str(page, name, link) : TSR_ENOMEM;
    free(link);
    return rv;
}

static int page_of(const json_t *records, bool more, size_t limit, const struct image_param *params,
                   size_t count, json_t **page_out)
{
    const char *last = NULL;
    json_t *images = json_array(), *page = NULL;
    int rv = images != NULL ? render_all(records, limit, images, &last) : TSR_ENOMEM;
    if (rv == 0) {
        page = json_pack("{s:O, s:s}", "images", images, "schema", "/v2/schemas/images");
        rv = page != NULL ? set_link(page, "first", query_link(params, count, NULL)) : TSR_ENOMEM;
    }
    if (rv == 0 && more && last != NULL) {
        rv = set_link(page, "next", query_link(params, count, last));
    }
    json_decref(images);
    if (rv != 0) {
        json_decref(page);
        return rv;
    }
    *page_out = page;
    return 0;
}

/* A page of no images still checks its marker. */
static int run(struct meta_view *view, const struct caller *caller, struct query *q,
               json_t **records_out, bool *more_out, struct err *err)
{
    struct meta_image_query m = q->meta;
    m.project = caller->project_id[0] != '\0' ? caller->project_id : NULL;
    m.admin = caller_is_admin(caller);
    m.limit = m.limit > 0 ? m.limit : 1;
    int rv = meta_image_list(view, &m, records_out, more_out);
    if (rv == TSR_EINVAL) {
        return err_set(err, rv, "Invalid marker. Image could not be found.");
    }
    return rv;
}

int image_list(struct meta_view *view, const struct caller *caller,
               const struct image_param *params, size_t count, size_t limit_default,
               size_t limit_max, json_t **page_out, struct err *err)
{
    struct query q = {0};
    json_t *records = NULL;
    bool more = false;
    int rv = policy_image(caller, ACT_LIST, NULL, false, err);
    if (rv == 0) {
        rv = query_parse(&q, params, count, limit_default, limit_max, err);
    }
    if (rv == 0 && !q.nothing) {
        rv = run(view, caller, &q, &records, &more, err);
    }
    if (rv == 0) {
        rv = page_of(records, more, q.meta.limit, params, count, page_out);
    }
    json_decref(records);
    query_free(&q);
    return rv;
}
