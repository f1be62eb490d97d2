/* /v2/metadefs: namespaces of properties, objects, tags and resource types (image-api section
 * 2.14), and the schemas of them. Reads are answered from a view; a change waits, like those of
 * images, until this host knows everything that was answered before. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/image_face.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"
#include "tessera/image/metadef.h"

/* --- reading
 * ---------------------------------------------------------------------------------------- */

/* Reply of a read: @out on success (taken). */
static void reply(struct api_req *r, int status, json_t *out, const struct err *err)
{
    if (status != 0) {
        api_error(r, status, err);
        return;
    }
    api_json(r, 200, out);
}

typedef int (*list_fn)(struct meta_view *view, const struct caller *caller, const char *ns,
                       const struct metadef_query *query, json_t **out, struct err *err);

static int list_namespaces(struct meta_view *view, const struct caller *caller, const char *ns,
                           const struct metadef_query *query, json_t **out, struct err *err)
{
    (void)ns;
    return metadef_namespaces(view, caller, query, out, err);
}

static void list(struct api_req *r, list_fn fn)
{
    struct err err = {0};
    json_t *out = NULL;
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    struct image_param *params = calloc(r->params.count + 1, sizeof(*params));
    struct metadef_query query = {params, r->params.count, r->o->limit_default, r->o->limit_max};
    for (size_t i = 0; params != NULL && i < r->params.count; i++) {
        params[i] = (struct image_param){r->params.items[i].name, r->params.items[i].value};
    }
    int rv = params != NULL ? fn(view, &r->caller, r->args[0], &query, &out, &err) : TSR_ENOMEM;
    meta_view_close(view);
    free(params);
    reply(r, rv, out, &err);
}

static void get_namespaces(struct api_req *r)
{
    list(r, list_namespaces);
}

static void get_objects(struct api_req *r)
{
    list(r, metadef_objects);
}

static void get_tags(struct api_req *r)
{
    list(r, metadef_tags);
}

static void get_namespace(struct api_req *r)
{
    struct err err = {0};
    json_t *out = NULL;
    struct meta_view *view = api_view(r);
    if (view != NULL) {
        int rv = metadef_namespace(view, &r->caller, r->args[0], api_param(r, "resource_type"),
                                   &out, &err);
        meta_view_close(view);
        reply(r, rv, out, &err);
    }
}

static void get_property(struct api_req *r)
{
    struct err err = {0};
    json_t *out = NULL;
    struct meta_view *view = api_view(r);
    if (view != NULL) {
        int rv = metadef_property(view, &r->caller, r->args[0], r->args[1],
                                  api_param(r, "resource_type"), &out, &err);
        meta_view_close(view);
        reply(r, rv, out, &err);
    }
}

typedef int (*part_fn)(struct meta_view *view, const struct caller *caller, const char *ns,
                       json_t **out, struct err *err);

static void part(struct api_req *r, part_fn fn)
{
    struct err err = {0};
    json_t *out = NULL;
    struct meta_view *view = api_view(r);
    if (view != NULL) {
        int rv = fn(view, &r->caller, r->args[0], &out, &err);
        meta_view_close(view);
        reply(r, rv, out, &err);
    }
}

static void get_properties(struct api_req *r)
{
    part(r, metadef_properties);
}

static void get_associations(struct api_req *r)
{
    part(r, metadef_associations);
}

typedef int (*item_fn)(struct meta_view *view, const struct caller *caller, const char *ns,
                       const char *name, json_t **out, struct err *err);

static void item(struct api_req *r, item_fn fn)
{
    struct err err = {0};
    json_t *out = NULL;
    struct meta_view *view = api_view(r);
    if (view != NULL) {
        int rv = fn(view, &r->caller, r->args[0], r->args[1], &out, &err);
        meta_view_close(view);
        reply(r, rv, out, &err);
    }
}

static void get_object(struct api_req *r)
{
    item(r, metadef_object);
}

static void get_tag(struct api_req *r)
{
    item(r, metadef_tag);
}

static void get_types(struct api_req *r)
{
    struct err err = {0};
    json_t *out = NULL;
    struct meta_view *view = api_view(r);
    if (view != NULL) {
        int rv = metadef_resource_types(view, &r->caller, &out, &err);
        meta_view_close(view);
        reply(r, rv, out, &err);
    }
}

/* --- changing
 * --------------------------------------------------------------------------------------- */

static void created_cb(void *arg, int status, json_t *result, const struct err *err)
{
    struct api_req *r = arg;
    if (api_release(r)) {
        return;
    }
    if (status != 0) {
        api_error(r, status, err);
        return;
    }
    const char *self = json_str(result, "self");
    if (self != NULL) {
        image_set_location(r, self);
    }
    api_json(r, 201, json_incref(result));
}

static void run(struct api_req *r, enum metadef_op op, image_cb cb)
{
    struct metadef_change change = {
        .op = op, .ns = r->args[0], .item = r->args[1], .body = r->body};
    api_hold(r);
    metadef_change(r->o->image, &r->caller, &change, cb, r);
}

static bool appends(struct api_req *r)
{
    const char *value = http_header(r->http, "X-Openstack-Append");
    return value != NULL &&
           (str_ieq(value, "true") || str_ieq(value, "1") || str_ieq(value, "yes") ||
            str_ieq(value, "on") || str_ieq(value, "t") || str_ieq(value, "y"));
}

/* A handler that waits, and what it does then. */
#define CHANGE(name, op, cb)                                \
    static void name##_run(struct api_req *r)               \
    {                                                       \
        run(r, op, cb);                                     \
    }                                                       \
    static void name(struct api_req *r)                     \
    {                                                       \
        static const struct image_step step = {name##_run}; \
        image_change(r, &step);                             \
    }

CHANGE(post_namespace, METADEF_CREATE, created_cb)
CHANGE(put_namespace, METADEF_UPDATE, image_json_cb)
CHANGE(delete_namespace, METADEF_DELETE, image_empty_cb)
CHANGE(clear_properties, METADEF_CLEAR_PROPERTIES, image_empty_cb)
CHANGE(clear_objects, METADEF_CLEAR_OBJECTS, image_empty_cb)
CHANGE(clear_tags, METADEF_CLEAR_TAGS, image_empty_cb)
CHANGE(post_property, METADEF_PROPERTY_CREATE, created_cb)
CHANGE(put_property, METADEF_PROPERTY_UPDATE, image_json_cb)
CHANGE(delete_property, METADEF_PROPERTY_DELETE, image_empty_cb)
CHANGE(post_object, METADEF_OBJECT_CREATE, created_cb)
CHANGE(put_object, METADEF_OBJECT_UPDATE, image_json_cb)
CHANGE(delete_object, METADEF_OBJECT_DELETE, image_empty_cb)
CHANGE(post_tag, METADEF_TAG_CREATE, created_cb)
CHANGE(put_tag, METADEF_TAG_UPDATE, image_json_cb)
CHANGE(delete_tag, METADEF_TAG_DELETE, image_empty_cb)
CHANGE(post_tags, appends(r) ? METADEF_TAGS_APPEND : METADEF_TAGS_REPLACE, created_cb)
CHANGE(post_association, METADEF_TYPE_CREATE, created_cb)
CHANGE(delete_association, METADEF_TYPE_DELETE, image_empty_cb)

/* --- the table
 * -------------------------------------------------------------------------------------- */

#define NS "/v2/metadefs/namespaces"

/* Methods in the order of the Allow header. */
const struct api_route api_metadef_routes[] = {
    {HTTP_METHOD_GET, NS, get_namespaces, API_READ | API_NO_BODY},
    {HTTP_METHOD_POST, NS, post_namespace, API_JSON},
    {HTTP_METHOD_GET, NS "/{}", get_namespace, API_READ | API_NO_BODY},
    {HTTP_METHOD_PUT, NS "/{}", put_namespace, API_JSON},
    {HTTP_METHOD_DELETE, NS "/{}", delete_namespace, API_NO_BODY},
    {HTTP_METHOD_GET, NS "/{}/properties", get_properties, API_READ | API_NO_BODY},
    {HTTP_METHOD_POST, NS "/{}/properties", post_property, API_JSON},
    {HTTP_METHOD_DELETE, NS "/{}/properties", clear_properties, API_NO_BODY},
    {HTTP_METHOD_GET, NS "/{}/properties/{}", get_property, API_READ | API_NO_BODY},
    {HTTP_METHOD_PUT, NS "/{}/properties/{}", put_property, API_JSON},
    {HTTP_METHOD_DELETE, NS "/{}/properties/{}", delete_property, API_NO_BODY},
    {HTTP_METHOD_GET, NS "/{}/objects", get_objects, API_READ | API_NO_BODY},
    {HTTP_METHOD_POST, NS "/{}/objects", post_object, API_JSON},
    {HTTP_METHOD_DELETE, NS "/{}/objects", clear_objects, API_NO_BODY},
    {HTTP_METHOD_GET, NS "/{}/objects/{}", get_object, API_READ | API_NO_BODY},
    {HTTP_METHOD_PUT, NS "/{}/objects/{}", put_object, API_JSON},
    {HTTP_METHOD_DELETE, NS "/{}/objects/{}", delete_object, API_NO_BODY},
    {HTTP_METHOD_GET, NS "/{}/tags", get_tags, API_READ | API_NO_BODY},
    {HTTP_METHOD_POST, NS "/{}/tags", post_tags, API_JSON},
    {HTTP_METHOD_DELETE, NS "/{}/tags", clear_tags, API_NO_BODY},
    {HTTP_METHOD_GET, NS "/{}/tags/{}", get_tag, API_READ | API_NO_BODY},
    {HTTP_METHOD_POST, NS "/{}/tags/{}", post_tag, API_NO_BODY},
    {HTTP_METHOD_PUT, NS "/{}/tags/{}", put_tag, API_JSON},
    {HTTP_METHOD_DELETE, NS "/{}/tags/{}", delete_tag, API_NO_BODY},
    {HTTP_METHOD_GET, NS "/{}/resource_types", get_associations, API_READ | API_NO_BODY},
    {HTTP_METHOD_POST, NS "/{}/resource_types", post_association, API_JSON},
    {HTTP_METHOD_DELETE, NS "/{}/resource_types/{}", delete_association, API_NO_BODY},
    {HTTP_METHOD_GET, "/v2/metadefs/resource_types", get_types, API_READ | API_NO_BODY},
    {HTTP_METHOD_GET, "/v2/schemas/metadefs/{}", metadef_schema, API_NO_BODY},
    {0},
};
