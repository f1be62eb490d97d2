/* Image API v2: discovery, images, tags, actions, and the route table of it all but /file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/image_face.h"
#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/str.h"

/* --- shared
 * ------------------------------------------------------------------------------------------ */

static void change_barrier_cb(struct meta_barrier *barrier, int status)
{
    struct api_req *r = barrier->arg;
    if (api_release(r)) {
        return;
    }
    if (status != 0) {
        api_errorf(r, TSR_ENOQUORUM, "The service has no majority of its hosts at present.");
        return;
    }
    const struct image_step *step = r->state;
    r->state = NULL;
    if (api_token_again(r) && !api_replay(r)) {
        step->run(r);
    }
}

void image_change(struct api_req *r, const struct image_step *step)
{
    r->state = (void *)(uintptr_t)step;
    r->barrier = (struct meta_barrier){
        .loop = r->o->loop, .timeout_ms = 10000, .cb = change_barrier_cb, .arg = r};
    api_hold(r);
    meta_barrier(r->o->meta, &r->barrier);
}

void image_set_location(struct api_req *r, const char *path)
{
    char url[512], location[2048];
    api_public_url(r, url, sizeof(url));
    (void)snprintf(location, sizeof(location), "%s%s", url, path);
    http_set_header(r->http, "Location", location);
}

void image_empty_cb(void *arg, int status, json_t *result, const struct err *err)
{
    struct api_req *r = arg;
    (void)result;
    if (api_release(r)) {
        return;
    }
    if (status != 0) {
        api_error(r, status, err);
        return;
    }
    api_empty(r, 204);
}

void image_json_cb(void *arg, int status, json_t *result, const struct err *err)
{
    struct api_req *r = arg;
    if (api_release(r)) {
        return;
    }
    if (status != 0) {
        api_error(r, status, err);
        return;
    }
    api_json(r, 200, json_incref(result));
}

bool image_media_is(const char *content_type, const char *media)
{
    if (content_type == NULL) {
        return false;
    }
    size_t size = strcspn(content_type, ";");
    while (size > 0 && (content_type[size - 1] == ' ' || content_type[size - 1] == '\t')) {
        size--;
    }
    return size == strlen(media) && strncasecmp(content_type, media, size) == 0;
}

/* The cluster is one store; an image with data is in it. */
static void add_stores(const struct api_req *r, json_t *image)
{
    const char *status = json_str_or(image, "status", "");
    if (strcmp(status, "active") == 0 || strcmp(status, "deactivated") == 0) {
        (void)json_set_str(image, "stores", r->o->store_id);
    }
}

static void reply_image(struct api_req *r, int status, json_t *image)
{
    if (image != NULL) {
        add_stores(r, image);
        image_protect(&r->caller, image);
    }
    api_json(r, status, image);
}

/* --- discovery
 * ---------------------------------------------------------------------------------------- */

const char *const api_minors[] = {"18", "17", "16", "15", "14", "13", "12", "11", "10", "9",
                                  "8",  "7",  "6",  "5",  "4",  "3",  "2",  "1",  "0"};
const size_t api_minor_count = array_len(api_minors);

static void reply_versions(struct api_req *r, int status)
{
    char url[512];
    json_t *list = json_array();
    api_public_url(r, url, sizeof(url));
    size_t size = strlen(url);
    while (size > 0 && url[size - 1] == '/') {
        url[--size] = '\0';
    }
    strncat(url, "/v2/", sizeof(url) - size - 1);
    for (size_t i = 0; i < api_minor_count && list != NULL; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "v2.%s", api_minors[i]);
        if (json_array_append_new(list, json_pack("{s:s, s:s, s:[{s:s, s:s}]}", "id", id, "status",
                                                  i == 0 ? "CURRENT" : "SUPPORTED", "links", "rel",
                                                  "self", "href", url)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    api_json(r, status, list != NULL ? json_pack("{s:o}", "versions", list) : NULL);
}

static void get_versions(struct api_req *r)
{
    reply_versions(r, 200);
}

/* A token is needed to learn what is not there. */
static bool has_token(struct api_req *r)
{
    const char *token = http_header(r->http, "X-Auth-Token");
    struct meta_view *view = NULL;
    if (r->local) {
        return true;
    }
    if (token == NULL || token[0] == '\0' || strlen(token) > TOKEN_TEXT_MAX || r->o->meta == NULL ||
        r->o->identity == NULL) {
        api_error(r, TSR_EUNAUTHORIZED, NULL);
        return false;
    }
    int rv = meta_view_open(r->o->meta, &view);
    if (rv == 0) {
        rv = identity_check(r->o->identity, view, token, loop_wall_us(r->o->loop), &r->caller);
        meta_view_close(view);
    }
    if (rv != 0) {
        api_error(r, rv, NULL);
        return false;
    }
    return true;
}

static void reply_not_found(struct api_req *r)
{
    api_errorf(r, TSR_ENOENT, "The resource could not be found.");
}

void api_route_unknown(struct api_req *r)
{
    static const char *const own[] = {"identity",    "v1", "metrics", "health",
                                      "healthcheck", "ui", "versions"};
    const char *first = r->segments.count > 0 ? r->segments.segment[0] : "";
    bool ours = strcmp(first, "v2") == 0;
    if (ours && r->o->keystone != NULL && !r->local) {
        api_keystone_step(r, reply_not_found);
        return;
    }
    if (ours && !has_token(r)) {
        return;
    }
    for (size_t i = 0; i < array_len(own) && !ours; i++) {
        ours = strcmp(first, own[i]) == 0;
    }
    if (r->o->keystone != NULL && strcmp(first, "identity") == 0) {
        api_errorf(r, TSR_ENOENT, "The identity service is at %.200s", r->o->keystone_uri);
        return;
    }
    if (ours) {
        reply_not_found(r);
        return;
    }
    reply_versions(r, 300);
}

/* --- images
 * ------------------------------------------------------------------------------------------- */

static void post_image(struct api_req *r);

/* A role that was given through another host a moment ago counts: what a create is refused for is
 * judged again behind a barrier, once. */
static bool create_again(struct api_req *r, int status)
{
    static const struct image_step step = {post_image};
    if (status != TSR_EFORBIDDEN || r->token_again || r->caller.local_admin) {
        return false;
    }
    r->token_again = true;
    image_change(r, &step);
    return true;
}

static void created_cb(void *arg, int status, json_t *result, const struct err *err)
{
    struct api_req *r = arg;
    if (api_release(r)) {
        return;
    }
    if (status != 0) {
        if (!create_again(r, status)) {
            api_error(r, status, err);
        }
        return;
    }
    char url[512], location[640];
    api_public_url(r, url, sizeof(url));
    (void)snprintf(location, sizeof(location), "%s/v2/images/%s", url,
                   json_str_or(result, "id", ""));
    http_set_header(r->http, "Location", location);
    image_import_headers(r);
    http_set_header(r->http, "OpenStack-image-store-ids", r->o->store_id);
    reply_image(r, 201, json_incref(result));
}

static void post_image(struct api_req *r)
{
    api_hold(r);
    image_create(r->o->image, &r->caller, r->body, r->caller.keyed ? r->caller.key_id : NULL,
                 created_cb, r);
}

char *image_store_text(const struct api_req *r)
{
    json_t *name = json_string(r->o->store_id);
    char *text = name != NULL ? json_text(name, NULL) : NULL;
    json_decref(name);
    return text;
}

static void get_image(struct api_req *r)
{
    struct err err = {0};
    struct meta_view *view = api_view(r);
    struct meta_text text;
    struct buf out = {0};
    json_t *record = NULL;
    if (view == NULL) {
        return;
    }
    char *store = image_store_text(r);
    int rv = store != NULL ? image_find(view, &r->caller, r->args[0], ACT_SHOW, &record, &err)
                           : TSR_ENOMEM;
    if (rv == 0) {
        rv = meta_image_text(view, json_str_or(record, "id", ""), &text);
    }
    if (rv == 0) {
        rv = image_render_seen(&r->caller, &text, store, &out);
    }
    json_decref(record);
    meta_view_close(view);
    free(store);
    if (rv != 0) {
        api_error(r, rv, &err);
    } else {
        api_json_text(r, 200, out.data, out.size);
    }
    buf_free(&out);
}

static void delete_run(struct api_req *r)
{
    api_hold(r);
    image_delete(r->o->image, &r->caller, r->args[0], image_empty_cb, r);
}

static void delete_image(struct api_req *r)
{
    static const struct image_step step = {delete_run};
    image_change(r, &step);
}

/* --- patch
 * ------------------------------------------------------------------------------------------------
 */

static const char patch_v20[] = "application/openstack-images-v2.0-json-patch";
static const char patch_v21[] = "application/openstack-images-v2.1-json-patch";

static void patched_cb(void *arg, int status, json_t *result, const struct err *err)
{
    struct api_req *r = arg;
    if (api_release(r)) {
        return;
    }
    if (status != 0) {
        api_error(r, status, err);
        return;
    }
    reply_image(r, 200, json_incref(result));
}

static bool is_v20(const struct api_req *r)
{
    return image_media_is(http_header(r->http, "Content-Type"), patch_v20);
}

static void patch_run(struct api_req *r)
{
    api_hold(r);
    image_patch(r->o->image, &r->caller, r->args[0], r->body, is_v20(r), patched_cb, r);
}

/* The operations take the body's place in the request. */
static void patch_body(struct api_req *r, const char *data, size_t size)
{
    static const struct image_step step = {patch_run};
    struct err err = {0};
    json_t *operations = NULL;
    if (size == 0) {
        api_errorf(r, TSR_EINVAL, "A body is expected with this request.");
        return;
    }
    json_t *body = json_parse(data, size);
    if (body == NULL) {
        api_errorf(r, TSR_EINVAL, "Malformed JSON in request body.");
        return;
    }
    int rv = image_patch_parse(body, is_v20(r), &operations, &err);
    json_decref(body);
    if (rv != 0) {
        api_error(r, rv, &err);
        return;
    }
    r->body = operations;
    if (api_key_set(r)) { /* once more, with the operations */
        image_change(r, &step);
    }
}

static void patch_body_cb(struct http_req *http, int status, const char *data, size_t size)
{
    struct api_req *r = http_data(http);
    if (status == TSR_EEOF) {
        return; /* the abort callback follows */
    }
    if (status == TSR_ETOOBIG) {
        api_errorf(r, status, "Request body is too large.");
    } else if (status != 0) {
        api_errorf(r, TSR_EINVAL, "The request body could not be read.");
    } else {
        patch_body(r, data, size);
    }
}

/* The media type is judged before the body is asked for. */
static void patch_image(struct api_req *r)
{
    if (!is_v20(r) && !image_media_is(http_header(r->http, "Content-Type"), patch_v21)) {
        char both[128];
        (void)snprintf(both, sizeof(both), "%s, %s", patch_v20, patch_v21);
        http_set_header(r->http, "Accept-Patch", both);
        api_errorf(r, TSR_EMEDIA, "The media type of a patch is one of %s.", both);
        return;
    }
    http_body_collect(r->http, r->o->json_body_max, patch_body_cb);
}

/* --- tags and actions
 * ----------------------------------------------------------------------------------- */

static void tag_put_run(struct api_req *r)
{
    api_hold(r);
    image_tag(r->o->image, &r->caller, r->args[0], r->args[1], true, image_empty_cb, r);
}

static void put_tag(struct api_req *r)
{
    static const struct image_step step = {tag_put_run};
    image_change(r, &step);
}

static void tag_delete_run(struct api_req *r)
{
    api_hold(r);
    image_tag(r->o->image, &r->caller, r->args[0], r->args[1], false, image_empty_cb, r);
}

static void delete_tag(struct api_req *r)
{
    static const struct image_step step = {tag_delete_run};
    image_change(r, &step);
}

static void deactivate_run(struct api_req *r)
{
    api_hold(r);
    image_set_active(r->o->image, &r->caller, r->args[0], false, image_empty_cb, r);
}

static void post_deactivate(struct api_req *r)
{
    static const struct image_step step = {deactivate_run};
    image_change(r, &step);
}

static void reactivate_run(struct api_req *r)
{
    api_hold(r);
    image_set_active(r->o->image, &r->caller, r->args[0], true, image_empty_cb, r);
}

static void post_reactivate(struct api_req *r)
{
    static const struct image_step step = {reactivate_run};
    image_change(r, &step);
}

/* --- the table
 * --------------------------------------------------------------------------------------------- */

/* Methods in the order of the Allow header. */
const struct api_route api_image_routes[] = {
    {HTTP_METHOD_GET, "/versions", get_versions, API_OPEN | API_UNFORMED},
    {HTTP_METHOD_GET, "/versions/", get_versions, API_OPEN | API_UNFORMED},
    {HTTP_METHOD_GET, "/v2/images", image_index, API_READ},
    {HTTP_METHOD_POST, "/v2/images", post_image, API_JSON},
    {HTTP_METHOD_GET, "/v2/images/{}", get_image, API_READ | API_NO_BODY},
    {HTTP_METHOD_PATCH, "/v2/images/{}", patch_image, 0},
    {HTTP_METHOD_DELETE, "/v2/images/{}", delete_image, API_NO_BODY},
    {HTTP_METHOD_GET, "/v2/images/{}/members", image_members_list, API_READ | API_NO_BODY},
    {HTTP_METHOD_POST, "/v2/images/{}/members", image_members_add, API_JSON},
    {HTTP_METHOD_GET, "/v2/images/{}/members/{}", image_members_get, API_READ | API_NO_BODY},
    {HTTP_METHOD_PUT, "/v2/images/{}/members/{}", image_members_set, API_JSON},
    {HTTP_METHOD_DELETE, "/v2/images/{}/members/{}", image_members_remove, API_NO_BODY},
    {HTTP_METHOD_PUT, "/v2/images/{}/tags/{}", put_tag, API_NO_BODY},
    {HTTP_METHOD_DELETE, "/v2/images/{}/tags/{}", delete_tag, API_NO_BODY},
    {HTTP_METHOD_POST, "/v2/images/{}/actions/deactivate", post_deactivate, API_NO_BODY},
    {HTTP_METHOD_POST, "/v2/images/{}/actions/reactivate", post_reactivate, API_NO_BODY},
    {HTTP_METHOD_GET, "/v2/images/{}/tasks", image_tasks_list, API_READ | API_NO_BODY},
    {HTTP_METHOD_POST, "/v2/images/{}/import", image_import_post, API_JSON},
    {HTTP_METHOD_GET, "/v2/tasks", image_task_index, API_READ},
    {HTTP_METHOD_POST, "/v2/tasks", image_task_post, API_JSON},
    {HTTP_METHOD_GET, "/v2/tasks/{}", image_task_show, API_READ | API_NO_BODY},
    {HTTP_METHOD_GET, "/v2/images/{}/locations", image_locations_list, API_READ | API_NO_BODY},
    {HTTP_METHOD_POST, "/v2/images/{}/locations", image_locations_post, API_JSON},
    {HTTP_METHOD_GET, "/v2/info/import", image_info_import, API_NO_BODY},
    {HTTP_METHOD_GET, "/v2/info/stores", image_info_stores, API_NO_BODY},
    {HTTP_METHOD_GET, "/v2/info/stores/detail", image_info_stores_detail, API_READ | API_NO_BODY},
    {HTTP_METHOD_GET, "/v2/info/usage", image_info_usage, API_READ | API_NO_BODY},
    {HTTP_METHOD_DELETE, "/v2/stores/{}/{}", image_store_delete, API_READ | API_NO_BODY},
    {HTTP_METHOD_GET, "/v2/cache", image_cache_list, API_READ | API_NO_BODY},
    {HTTP_METHOD_DELETE, "/v2/cache", image_cache_clear, API_READ | API_NO_BODY},
    {HTTP_METHOD_DELETE, "/v2/cache/{}", image_cache_delete, API_READ | API_NO_BODY},
    {HTTP_METHOD_PUT, "/v2/cache/{}", image_cache_queue, API_READ | API_NO_BODY},
    {HTTP_METHOD_POST, "/v2/cache/clean", image_cache_clean, API_READ},
    {HTTP_METHOD_POST, "/v2/cache/prune", image_cache_prune, API_READ},
    {HTTP_METHOD_GET, "/v2/cache/nodes/{}", image_cache_nodes, API_READ | API_NO_BODY},
    {HTTP_METHOD_GET, "/v2/schemas/{}", image_schema, API_NO_BODY},
    {0},
};
