/* What the service tells about itself: import methods, stores, usage; and the list of an image's
 * locations, which is empty as long as there are none. */
#include <string.h>

#include "api/image_face.h"
#include "tessera/base/assert.h"
#include "tessera/image/import.h"
#include "tessera/meta/usage.h"

void image_info_import(struct api_req *r)
{
    const struct import_rules *rules = r->o->image->import;
    json_t *methods = json_array();
    for (size_t i = 0; rules != NULL && i < rules->methods->count; i++) {
        (void)json_array_append_new(methods, json_string(rules->methods->items[i]));
    }
    api_json(r, 200,
             json_pack("{s:{s:s, s:s, s:o}}", "import-methods", "description",
                       "Import methods available.", "type", "array", "value", methods));
}

void image_info_stores(struct api_req *r)
{
    api_json(r, 200,
             json_pack("{s:[{s:s, s:s}]}", "stores", "id", r->o->store_id, "default", "true"));
}

void image_info_stores_detail(struct api_req *r)
{
    struct err err = {0};
    int rv = policy_image(&r->caller, ACT_STORES_DETAIL, NULL, false, &err);
    if (rv != 0) {
        api_error(r, rv, &err);
        return;
    }
    api_json(r, 200,
             json_pack("{s:[{s:s, s:s, s:s, s:i, s:{}}]}", "stores", "id", r->o->store_id,
                       "default", "true", "type", "file", "weight", 0, "properties"));
}

/* Bytes in MiB, a part counting whole; counts as they are. */
static int64_t shown_usage(const struct meta_usage *usage, enum meta_limit limit)
{
    const int64_t mib = INT64_C(1) << 20;
    int64_t have = meta_usage_counter(usage, limit);
    return limit == LIMIT_SIZE || limit == LIMIT_STAGE ? have / mib + (have % mib != 0) : have;
}

/* {} when the project has none of the limits that the call is about. */
static json_t *usage_json(const struct meta_quota *quota, const struct meta_usage *usage)
{
    static const enum meta_limit shown[] = {LIMIT_SIZE, LIMIT_STAGE, LIMIT_COUNT, LIMIT_UPLOADING};
    json_t *out = json_object();
    bool any = false;
    for (size_t i = 0; i < array_len(shown); i++) {
        any = any || quota->limit[shown[i]] >= 0;
    }
    for (size_t i = 0; any && i < array_len(shown); i++) {
        (void)json_object_set_new(out, meta_limit_names[shown[i]],
                                  json_pack("{s:I, s:I}", "limit",
                                            (json_int_t)quota->limit[shown[i]], "usage",
                                            (json_int_t)shown_usage(usage, shown[i])));
    }
    return out;
}

void image_info_usage(struct api_req *r)
{
    const char *project = r->caller.project_id;
    struct meta_quota quota;
    struct meta_usage usage = {0};
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    int rv = meta_quota_get(view, project[0] != 0 ? project : NULL, &quota);
    if (rv == 0 && project[0] != 0) {
        rv = meta_usage_get(view, project, &usage);
    }
    meta_view_close(view);
    if (rv != 0) {
        api_error(r, rv, NULL);
        return;
    }
    api_json(r, 200, json_pack("{s:o}", "usage", usage_json(&quota, &usage)));
}

/* Find the image of the path's argument @n for @action, or reply. New reference. */
static json_t *find(struct api_req *r, size_t n, enum image_action action)
{
    struct err err = {0};
    json_t *image = NULL;
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return NULL;
    }
    int rv = image_find(view, &r->caller, r->args[n], action, &image, &err);
    meta_view_close(view);
    if (rv != 0) {
        api_error(r, rv, &err);
        return NULL;
    }
    return image;
}

/* There is one store, so no image is in more than one: its only data is never deleted this way. */
void image_store_delete(struct api_req *r)
{
    struct err err = {0};
    if (policy_image(&r->caller, ACT_STORE_DELETE, NULL, false, &err) != 0) {
        api_error(r, TSR_EFORBIDDEN, &err);
        return;
    }
    if (strcmp(r->args[0], r->o->store_id) != 0) {
        api_errorf(r, TSR_ECONFLICT, "The selected store is not available on this host.");
        return;
    }
    json_t *image = find(r, 1, ACT_SHOW);
    if (image == NULL) {
        return;
    }
    bool active = strcmp(json_str_or(image, "status", ""), "active") == 0;
    json_decref(image);
    if (!active) {
        api_errorf(r, TSR_ECONFLICT, "Only data of active images can be deleted from a store.");
        return;
    }
    api_errorf(r, TSR_EFORBIDDEN,
               "The image has data in one store only; delete the image instead.");
}

void image_locations_list(struct api_req *r)
{
    json_t *image = find(r, 0, ACT_LOCATIONS_READ);
    if (image != NULL) {
        json_decref(image);
        api_json(r, 200, json_array());
    }
}
