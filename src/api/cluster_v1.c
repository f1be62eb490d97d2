/* Cluster API /v1: status, hosts, the admin endpoint, join tokens, forming. JSON in, JSON out;
 * every call is one method of the cluster service. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/face.h"
#include "tessera/base/assert.h"
#include "tessera/image/examine.h"

/* --- one call of the cluster service
 * ------------------------------------------------------------------- */

struct v1_call {
    struct cluster_call call;
    struct api_req *r;
    int status; /* on success */
};

static void call_done(struct cluster_call *call, int status, json_t *result, const struct err *err)
{
    struct v1_call *c = call->arg;
    struct api_req *r = c->r;
    int http = c->status;
    free(c);
    if (api_release(r)) {
        return;
    }
    if (status != 0) {
        api_error(r, status, err);
    } else if (http == 204) {
        api_empty(r, 204);
    } else {
        api_json(r, http, json_incref(result));
    }
}

static void call(struct api_req *r, const char *method, json_t *args, int status)
{
    struct v1_call *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        json_decref(args);
        api_error(r, TSR_ENOMEM, NULL);
        return;
    }
    c->r = r;
    c->status = status;
    c->call = (struct cluster_call){
        .loop = r->o->loop, .method = method, .args = args, .cb = call_done, .arg = c};
    api_hold(r);
    cluster_call(r->o->cluster, &c->call);
}

static void status(struct api_req *r)
{
    call(r, "status", NULL, 200);
}

static void hosts(struct api_req *r)
{
    call(r, "host.list", NULL, 200);
}

static void host_remove(struct api_req *r)
{
    const char *force = api_param(r, "force");
    call(r, "host.remove",
         json_pack("{s:s,s:b}", "host", r->args[0], "force",
                   force != NULL && strcmp(force, "true") == 0),
         204);
}

/* PATCH /v1/hosts/{name} {"role": "image" | "witness"} */
static void host_update(struct api_req *r)
{
    const char *role = json_str(r->body, "role");
    if (!json_is_object(r->body) || json_object_size(r->body) != 1 || role == NULL) {
        api_errorf(r, TSR_EINVAL, "The request body must be an object with a role.");
        return;
    }
    call(r, "host.role", json_pack("{s:s,s:s}", "host", r->args[0], "role", role), 204);
}

/* The body may be missing, or an object in which @key, if it is there, is a text. What has another
 * key is refused: without the host that it means to name, a request would go to any host. False:
 * answered. @args_out is NULL or holds that key alone. */
static bool optional_text(struct api_req *r, const char *key, json_t **args_out)
{
    const json_t *value = json_object_get(r->body, key);
    *args_out = NULL;
    if (r->body != NULL && !json_is_object(r->body)) {
        api_errorf(r, TSR_EINVAL, "The request body must be an object.");
        return false;
    }
    if (json_object_size(r->body) > (value != NULL)) {
        api_errorf(r, TSR_EINVAL, "The request body may hold %s, and nothing else.", key);
        return false;
    }
    if (value != NULL && !json_is_null(value) && !json_is_string(value)) {
        api_errorf(r, TSR_EINVAL, "%s must be a string.", key);
        return false;
    }
    if (json_is_string(value)) {
        *args_out = json_pack("{s:s}", key, json_string_value(value));
    }
    return true;
}

static void endpoint_show(struct api_req *r)
{
    call(r, "endpoint.show", NULL, 200);
}

static void endpoint_move(struct api_req *r)
{
    json_t *args;
    if (optional_text(r, "host", &args)) {
        call(r, "endpoint.move", args, 200);
    }
}

static void token_create(struct api_req *r)
{
    json_t *args;
    if (optional_text(r, "role", &args)) {
        call(r, "token.create", args, 201);
    }
}

static void leader_transfer(struct api_req *r)
{
    json_t *args;
    if (optional_text(r, "host", &args)) {
        call(r, "leader.transfer", args, 204);
    }
}

/* --- forming
 * ---------------------------------------------------------------------------------------------- */

static void form_done(void *arg, int status_code, json_t *result, const struct err *err)
{
    struct api_req *r = arg;
    if (api_release(r)) {
        return;
    }
    if (status_code != 0) {
        api_error(r, status_code, err);
        return;
    }
    api_json(r, 200, json_incref(result));
}

static void form(struct api_req *r, const char *verb)
{
    if (r->body != NULL && !json_is_object(r->body)) {
        api_errorf(r, TSR_EINVAL, "The request body must be an object.");
        return;
    }
    if (r->o->meta != NULL || r->o->form == NULL) {
        api_errorf(r, TSR_EEXIST, "This host is part of a cluster already.");
        return;
    }
    json_t *args = r->body != NULL ? json_incref(r->body) : json_object();
    api_hold(r);
    r->o->form(r->o->arg, verb, args, r->o->loop, form_done, r);
    json_decref(args);
}

static void cluster_init(struct api_req *r)
{
    form(r, "init");
}

static void cluster_join(struct api_req *r)
{
    form(r, "join");
}

/* A joining host, over the network: its one-time secret is what admits it. */
static void join(struct api_req *r)
{
    if (!json_is_object(r->body)) {
        api_errorf(r, TSR_EINVAL, "The request body must be an object.");
        return;
    }
    api_hold(r);
    r->o->admit(r->o->arg, r->body, r->o->loop, form_done, r);
}

/* --- replicas of an image
 * ------------------------------------------------------------------------------------ */

static json_t *host_names(struct meta_view *view)
{
    json_t *list = NULL, *names = json_object(), *h;
    size_t i;
    if (meta_host_list(view, &list) == 0) {
        json_array_foreach(list, i, h)
        {
            char id[24];
            (void)snprintf(id, sizeof(id), "%lld", (long long)json_int(h, "id", 0));
            json_set_str(names, id, json_str_or(h, "name", ""));
        }
    }
    json_decref(list);
    return names;
}

static void replicas(struct api_req *r)
{
    struct meta_view *view = api_view(r);
    json_t *image = NULL;
    if (view == NULL) {
        return;
    }
    int rv = meta_image_get(view, r->args[0], &image);
    json_t *names = rv == 0 ? host_names(view) : NULL;
    meta_view_close(view);
    if (rv != 0) {
        api_errorf(r, rv, "No image found with ID %s", r->args[0]);
        return;
    }
    json_t *list = json_array(), *v;
    size_t i;
    json_array_foreach(json_arr(image, "placement"), i, v)
    {
        char id[24];
        (void)snprintf(id, sizeof(id), "%lld", (long long)json_integer_value(v));
        json_array_append_new(list,
                              json_pack("{s:I,s:s,s:s}", "host_id", json_integer_value(v), "host",
                                        json_str_or(names, id, ""), "state",
                                        json_str_or(json_obj(image, "replicas"), id, "missing")));
    }
    const char *manifest = json_str(image, "manifest");
    json_t *out =
        json_pack("{s:s,s:s?,s:o}", "image_id", r->args[0], "manifest", manifest, "replicas", list);
    json_decref(names);
    json_decref(image);
    api_json(r, 200, out);
}

/* --- the inspector over stored data
 * ---------------------------------------------------------------------------------------------- */

static void inspect_dead(struct api_req *r)
{
    struct image_examination *e = r->state;
    r->state = NULL;
    r->on_dead = NULL;
    image_examine_stop(e);
}

static void inspect_done(void *arg, int status_code, json_t *result, const struct err *err)
{
    struct api_req *r = arg;
    r->state = NULL;
    r->on_dead = NULL;
    if (status_code != 0) {
        api_error(r, status_code, err);
        return;
    }
    api_json(r, 200, json_incref(result));
}

static void inspect(struct api_req *r)
{
    struct image_examination *e = NULL;
    struct meta_view *view = api_view(r);
    json_t *image = NULL;
    if (view == NULL) {
        return;
    }
    int rv = meta_image_get(view, r->args[0], &image);
    meta_view_close(view);
    if (rv != 0) {
        api_errorf(r, rv, "No image found with ID %s", r->args[0]);
        return;
    }
    if (!json_is_integer(json_object_get(image, "size"))) {
        api_errorf(r, TSR_ECONFLICT, "The image has no data yet.");
        json_decref(image);
        return;
    }
    rv = image_examine(r->o->image, image, inspect_done, r, &e);
    json_decref(image);
    if (rv != 0) {
        api_error(r, rv, NULL);
        return;
    }
    r->state = e;
    r->on_dead = inspect_dead;
}

const struct api_route api_cluster_routes[] = {
    {HTTP_METHOD_GET, "/v1/status", status, API_ADMIN | API_NO_BODY},
    {HTTP_METHOD_GET, "/v1/hosts", hosts, API_ADMIN | API_NO_BODY},
    {HTTP_METHOD_PATCH, "/v1/hosts/{}", host_update, API_ADMIN | API_JSON},
    {HTTP_METHOD_DELETE, "/v1/hosts/{}", host_remove, API_ADMIN | API_NO_BODY},
    {HTTP_METHOD_GET, "/v1/admin-endpoint", endpoint_show, API_READ | API_NO_BODY},
    {HTTP_METHOD_POST, "/v1/admin-endpoint", endpoint_move, API_ADMIN | API_JSON_OPTIONAL},
    {HTTP_METHOD_POST, "/v1/join-tokens", token_create, API_ADMIN | API_JSON_OPTIONAL},
    {HTTP_METHOD_POST, "/v1/leader/transfer", leader_transfer, API_ADMIN | API_JSON_OPTIONAL},
    {HTTP_METHOD_GET, "/v1/images/{}/replicas", replicas, API_ADMIN | API_READ | API_NO_BODY},
    {HTTP_METHOD_GET, "/v1/images/{}/inspect", inspect, API_ADMIN | API_READ | API_NO_BODY},
    {HTTP_METHOD_POST, "/v1/init", cluster_init, API_LOCAL | API_UNFORMED | API_JSON_OPTIONAL},
    {HTTP_METHOD_POST, "/v1/join-cluster", cluster_join, API_LOCAL | API_UNFORMED | API_JSON},
    {HTTP_METHOD_POST, "/v1/join", join, API_OPEN | API_JSON},
    {0},
};
