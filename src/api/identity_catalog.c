/* The catalog: two services with three interfaces each, computed, never stored.
 *
 *   public    public_endpoint, else this host as the client named it
 *   internal  internal_endpoint, else the same
 *   admin     the host that holds the admin endpoint now; this host while there is none
 * Ids are digests of names: the same on every host and for ever. */
#include "api/identity_face.h"

#include <stdio.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/str.h"

static const struct service {
    const char *type, *name, *path; /* path: what follows the origin */
} services[] = {
    {"identity", "keystone", "/identity/v3"},
    {"image", "glance", ""},
};
static const char *const interfaces[] = {"public", "internal", "admin"};
enum { INTERFACES = 3, ORIGIN_MAX = 512 };

struct origins {
    char url[INTERFACES][ORIGIN_MAX];
};

static void stable_id(const char *a, const char *b, const char *c, char out[ID_HEX + 1])
{
    char text[256];
    uint8_t digest[32];
    (void)snprintf(text, sizeof(text), "tessera:%s:%s:%s", a, b, c);
    digest_of(DIGEST_SHA256, text, strlen(text), digest);
    hex_encode(digest, ID_HEX / 2, out);
}

/* A trailing slash would double in what clients append. */
static void trim_slash(char *url)
{
    size_t size = strlen(url);
    while (size > 0 && url[size - 1] == '/') {
        url[--size] = '\0';
    }
}

static bool admin_origin(struct meta_view *view, char out[ORIGIN_MAX])
{
    json_t *endpoint = NULL, *host = NULL;
    bool found = false;
    if (meta_endpoint_get(view, &endpoint) != 0) {
        return false;
    }
    if (meta_host_get(view, (uint64_t)json_int(endpoint, "host", 0), &host) == 0) {
        found = str_copy(out, ORIGIN_MAX, json_str_or(host, "api_url", "")) && out[0] != '\0';
        json_decref(host);
    }
    json_decref(endpoint);
    return found;
}

/* This host, as the client named it; over the local socket, as the other hosts know it. */
static void own_origin(struct api_req *r, struct meta_view *view, char out[ORIGIN_MAX])
{
    json_t *host = NULL;
    http_origin(r->http, out, ORIGIN_MAX);
    if (r->local && meta_host_get(view, r->o->image->self, &host) == 0) {
        (void)str_copy(out, ORIGIN_MAX, json_str_or(host, "api_url", ""));
        json_decref(host);
    }
}

static void find_origins(struct api_req *r, struct meta_view *view, struct origins *out)
{
    const char *internal = r->o->internal_endpoint;
    const char *public = r->o->public_endpoint;
    if (public != NULL && public[0] != '\0') {
        (void)str_copy(out->url[0], ORIGIN_MAX, public);
    } else {
        own_origin(r, view, out->url[0]);
    }
    if (internal != NULL && internal[0] != '\0') {
        (void)str_copy(out->url[1], ORIGIN_MAX, internal);
    } else {
        own_origin(r, view, out->url[1]);
    }
    if (!admin_origin(view, out->url[2])) {
        own_origin(r, view, out->url[2]);
    }
    for (size_t i = 0; i < INTERFACES; i++) {
        trim_slash(out->url[i]);
    }
}

bool ident_origin(struct api_req *r, struct meta_view *view, const char *interface, char *out,
                  size_t size)
{
    struct origins o;
    find_origins(r, view, &o);
    for (size_t i = 0; i < INTERFACES; i++) {
        if (strcmp(interfaces[i], interface) == 0) {
            return str_copy(out, size, o.url[i]);
        }
    }
    return false;
}

static json_t *endpoint_json(struct api_req *r, const struct origins *o, const struct service *s,
                             size_t i)
{
    char id[ID_HEX + 1];
    stable_id("endpoint", s->type, interfaces[i], id);
    return json_pack("{s:s,s:s,s:s,s:s,s:s+}", "id", id, "interface", interfaces[i], "region",
                     r->o->region, "region_id", r->o->region, "url", o->url[i], s->path);
}

json_t *ident_catalog(struct api_req *r, struct meta_view *view)
{
    struct origins o;
    json_t *catalog = json_array();
    find_origins(r, view, &o);
    for (size_t s = 0; s < array_len(services) && catalog != NULL; s++) {
        char id[ID_HEX + 1];
        json_t *list = json_array();
        stable_id("service", services[s].type, "", id);
        for (size_t i = 0; i < INTERFACES; i++) {
            (void)json_array_append_new(list, endpoint_json(r, &o, &services[s], i));
        }
        (void)json_array_append_new(catalog, json_pack("{s:s,s:s,s:s,s:o}", "id", id, "type",
                                                       services[s].type, "name", services[s].name,
                                                       "endpoints", list));
    }
    return catalog;
}

void ident_catalog_auth(struct api_req *r)
{
    if (r->caller.scope == SCOPE_NONE) {
        ident_forbidden(r, "identity:get_auth_catalog");
        return;
    }
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    json_t *catalog = ident_catalog(r, view);
    meta_view_close(view);
    ident_reply_list(r, "catalog", catalog);
}

/* --- the same as lists of services, endpoints and regions
 * ------------------------------------------- */

static json_t *service_json(struct api_req *r, const struct service *s)
{
    char id[ID_HEX + 1];
    stable_id("service", s->type, "", id);
    return json_pack("{s:s,s:s,s:s,s:s,s:b,s:o}", "id", id, "type", s->type, "name", s->name,
                     "description", "", "enabled", 1, "links", ident_links(r, "services", id));
}

void ident_service_list(struct api_req *r)
{
    if (!ident_admin(r, "identity:list_services")) {
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < array_len(services); i++) {
        if (ident_filter_text(r, "type", services[i].type) &&
            ident_filter_text(r, "name", services[i].name)) {
            (void)json_array_append_new(list, service_json(r, &services[i]));
        }
    }
    ident_reply_list(r, "services", list);
}

/* Take what has this id out of @list (consumed); NULL if none. */
static json_t *pick(json_t *list, const char *id)
{
    json_t *item, *found = NULL;
    size_t i;
    json_array_foreach(list, i, item)
    {
        if (strcmp(json_str_or(item, "id", ""), id) == 0) {
            found = json_incref(item);
            break;
        }
    }
    json_decref(list);
    return found;
}

static void reply_picked(struct api_req *r, const char *kind, json_t *list)
{
    json_t *found = pick(list, r->args[0]);
    if (found == NULL) {
        ident_not_found(r, kind, r->args[0]);
        return;
    }
    ident_reply_one(r, 200, kind, found);
}

void ident_service_get(struct api_req *r)
{
    if (!ident_admin(r, "identity:get_service")) {
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < array_len(services); i++) {
        (void)json_array_append_new(list, service_json(r, &services[i]));
    }
    reply_picked(r, "service", list);
}

/* All endpoints in the form of their own resource; on failure replied and NULL. */
static json_t *endpoints(struct api_req *r)
{
    struct origins o;
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return NULL;
    }
    find_origins(r, view, &o);
    meta_view_close(view);
    json_t *list = json_array();
    for (size_t s = 0; s < array_len(services); s++) {
        char service_id[ID_HEX + 1];
        stable_id("service", services[s].type, "", service_id);
        for (size_t i = 0; i < INTERFACES; i++) {
            json_t *e = endpoint_json(r, &o, &services[s], i);
            (void)json_set_str(e, "service_id", service_id);
            (void)json_set_bool(e, "enabled", true);
            (void)json_object_set_new(e, "links",
                                      ident_links(r, "endpoints", json_str_or(e, "id", "")));
            (void)json_array_append_new(list, e);
        }
    }
    if (list == NULL) {
        api_error(r, TSR_ENOMEM, NULL);
    }
    return list;
}

void ident_endpoint_list(struct api_req *r)
{
    json_t *all, *item;
    size_t i;
    if (!ident_admin(r, "identity:list_endpoints") || (all = endpoints(r)) == NULL) {
        return;
    }
    json_t *list = json_array();
    json_array_foreach(all, i, item)
    {
        if (ident_filter_text(r, "service_id", json_str(item, "service_id")) &&
            ident_filter_text(r, "interface", json_str(item, "interface")) &&
            ident_filter_text(r, "region_id", json_str(item, "region_id"))) {
            (void)json_array_append(list, item);
        }
    }
    json_decref(all);
    ident_reply_list(r, "endpoints", list);
}

void ident_endpoint_get(struct api_req *r)
{
    json_t *all;
    if (ident_admin(r, "identity:get_endpoint") && (all = endpoints(r)) != NULL) {
        reply_picked(r, "endpoint", all);
    }
}

static json_t *region_json(struct api_req *r)
{
    return json_pack("{s:s,s:s,s:n,s:o}", "id", r->o->region, "description", "", "parent_region_id",
                     "links", ident_links(r, "regions", r->o->region));
}

void ident_region_list(struct api_req *r)
{
    ident_reply_list(r, "regions", json_pack("[o]", region_json(r)));
}

void ident_region_get(struct api_req *r)
{
    reply_picked(r, "region", json_pack("[o]", region_json(r)));
}
