/* The cache API: which images this host keeps whatever their placement says (pins, chunk.h). Each
 * host answers for itself. "Cached" is what the replicator found or made whole here, "queued" what
 * it still has to see to. */
#include <stdlib.h>
#include <string.h>

#include "api/image_face.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"

/* May the caller, and does this host store images? false: replied. */
static bool may(struct api_req *r, enum image_action action)
{
    struct err err = {0};
    if (policy_image(&r->caller, action, NULL, false, &err) != 0) {
        api_error(r, TSR_EFORBIDDEN, &err);
        return false;
    }
    if (r->o->image->replica->chunks == NULL) {
        api_errorf(r, TSR_ENOENT, "Caching via API is not supported at this site.");
        return false;
    }
    return true;
}

static struct chunks *chunks_of(const struct api_req *r)
{
    return r->o->image->replica->chunks;
}

/* --- changing pins -------------------------------------------------------------------------- */

struct pin_change {
    struct chunk_req req;
    struct api_req *r;
    struct chunk_pin *pins;
    int status; /* of the reply */
    json_t *body;
};

static void changed_cb(struct chunk_req *req, int status)
{
    struct pin_change *change = req->arg;
    struct api_req *r = change->r;
    json_t *body = change->body;
    int reply = change->status;
    free(change->pins);
    free(change);
    if (api_release(r)) {
        json_decref(body);
    } else if (status != 0) {
        json_decref(body);
        api_error(r, status, NULL);
    } else if (body != NULL) {
        api_json(r, reply, body);
    } else {
        api_empty(r, reply);
    }
}

/* Takes @pins and @body. */
static void change_pins(struct api_req *r, void (*call)(struct chunks *c, struct chunk_req *req),
                        struct chunk_pin *pins, size_t count, int status, json_t *body)
{
    struct pin_change *change = calloc(1, sizeof(*change));
    if (change == NULL) {
        free(pins);
        json_decref(body);
        api_error(r, TSR_ENOMEM, NULL);
        return;
    }
    *change = (struct pin_change){.r = r, .pins = pins, .status = status, .body = body};
    change->req = (struct chunk_req){
        .loop = r->o->loop, .cb = changed_cb, .arg = change, .pins = pins, .pin_count = count};
    api_hold(r);
    call(chunks_of(r), &change->req);
}

/* The image of the path, or replied. New reference. */
static json_t *find(struct api_req *r)
{
    struct err err = {0};
    json_t *image = NULL;
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return NULL;
    }
    int rv = image_find(view, &r->caller, r->args[0], ACT_SHOW, &image, &err);
    meta_view_close(view);
    if (rv != 0) {
        api_error(r, rv, &err);
    }
    return image;
}

static struct chunk_pin *new_pin(struct api_req *r, const json_t *image)
{
    struct chunk_pin *pin = calloc(1, sizeof(*pin));
    if (pin == NULL) {
        api_error(r, TSR_ENOMEM, NULL);
        return NULL;
    }
    (void)str_copy(pin->name, sizeof(pin->name), json_str_or(image, "id", ""));
    pin->asked_us = loop_wall_us(r->o->loop);
    return pin;
}

void image_cache_queue(struct api_req *r)
{
    json_t *image = may(r, ACT_CACHE_IMAGE) ? find(r) : NULL;
    if (image == NULL) {
        return;
    }
    const char *hex = json_str_or(image, "manifest", "");
    struct chunk_id manifest;
    if (strcmp(json_str_or(image, "status", ""), "active") != 0 ||
        hex_decode(hex, strlen(hex), manifest.bytes, sizeof(manifest.bytes)) != 0) {
        api_errorf(r, TSR_EINVAL, "Only images with status active can be targeted for queueing.");
    } else {
        struct chunk_pin *pin = new_pin(r, image);
        if (pin != NULL) {
            pin->manifest = manifest;
            change_pins(r, chunk_pin_add, pin, 1, 202, NULL);
        }
    }
    json_decref(image);
}

void image_cache_delete(struct api_req *r)
{
    json_t *image = may(r, ACT_CACHE_DELETE) ? find(r) : NULL;
    struct chunk_pin *pin = image != NULL ? new_pin(r, image) : NULL;
    json_decref(image);
    if (pin != NULL) {
        change_pins(r, chunk_pin_remove, pin, 1, 204, NULL);
    }
}

static bool is_cached(struct api_req *r, const struct chunk_pin *pin)
{
    return pin->here_us > 0 && chunk_manifest_here(chunks_of(r), &pin->manifest);
}

/* Those that are here, those that are not, or both; *pins with *count of them. */
static int pins_of(struct api_req *r, bool cached, bool queued, struct chunk_pin **pins,
                   size_t *count_out)
{
    size_t count, kept = 0;
    int rv = chunk_pins(chunks_of(r), pins, &count);
    for (size_t i = 0; rv == 0 && i < count; i++) {
        if (is_cached(r, &(*pins)[i]) ? cached : queued) {
            (*pins)[kept++] = (*pins)[i];
        }
    }
    *count_out = kept;
    return rv;
}

void image_cache_clear(struct api_req *r)
{
    const char *target = http_header(r->http, "x-image-cache-clear-target");
    bool both = target == NULL || target[0] == '\0';
    bool cached = both || strcmp(target, "cache") == 0,
         queued = both || strcmp(target, "queue") == 0;
    struct chunk_pin *pins;
    size_t count;
    if (!may(r, ACT_CACHE_DELETE)) {
        return;
    }
    if (!cached && !queued) {
        api_errorf(r, TSR_EINVAL, "x-image-cache-clear-target is cache, queue, or empty for both.");
        return;
    }
    int rv = pins_of(r, cached, queued, &pins, &count);
    if (rv != 0) {
        api_error(r, rv, NULL);
        return;
    }
    change_pins(r, chunk_pin_remove, pins, count, 204, NULL);
}

/* --- the list ------------------------------------------------------------------------------- */

static double seconds(int64_t us)
{
    return (double)us / 1e6;
}

static json_t *cached_json(const struct chunk_pin *pin, const json_t *image)
{
    int64_t used = pin->read_us > pin->here_us ? pin->read_us : pin->here_us;
    return json_pack("{s:s, s:I, s:f, s:f, s:I}", "image_id", pin->name, "hits",
                     (json_int_t)pin->reads, "last_accessed", seconds(used), "last_modified",
                     seconds(pin->here_us), "size", (json_int_t)json_int(image, "size", 0));
}

/* Pins of images that are gone are no news to anybody. */
static json_t *list_json(struct api_req *r, struct meta_view *view, const struct chunk_pin *pins,
                         size_t count)
{
    json_t *cached = json_array(), *queued = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *image = NULL;
        if (meta_image_get(view, pins[i].name, &image) == 0) {
            bool here = is_cached(r, &pins[i]);
            (void)json_array_append_new(here ? cached : queued, here ? cached_json(&pins[i], image)
                                                                     : json_string(pins[i].name));
        }
        json_decref(image);
    }
    return json_pack("{s:o, s:o}", "cached_images", cached, "queued_images", queued);
}

void image_cache_list(struct api_req *r)
{
    struct chunk_pin *pins;
    size_t count;
    struct meta_view *view = may(r, ACT_CACHE_LIST) ? api_view(r) : NULL;
    if (view == NULL) {
        return;
    }
    int rv = chunk_pins(chunks_of(r), &pins, &count);
    json_t *list = rv == 0 ? list_json(r, view, pins, count) : NULL;
    meta_view_close(view);
    free(pins);
    if (rv != 0) {
        api_error(r, rv, NULL);
        return;
    }
    api_json(r, 200, list);
}

/* --- upkeep: what the replicator does by itself, at once ---------------------------------------
 */

/* What is void may be so because this host lags behind; so not from stale state. */
static struct meta_view *upkeep_view(struct api_req *r)
{
    if (!may(r, ACT_CACHE_DELETE)) {
        return NULL;
    }
    if (r->stale) {
        api_error(r, TSR_EUNAVAILABLE, NULL);
        return NULL;
    }
    return api_view(r);
}

void image_cache_clean(struct api_req *r)
{
    struct chunk_pin *pins;
    size_t count;
    struct meta_view *view = upkeep_view(r);
    if (view == NULL) {
        return;
    }
    int rv = replica_pins_void(chunks_of(r), view, &pins, &count);
    meta_view_close(view);
    if (rv != 0) {
        free(pins);
        api_error(r, rv, NULL);
        return;
    }
    change_pins(r, chunk_pin_remove, pins, count, 200, NULL);
}

void image_cache_prune(struct api_req *r)
{
    struct chunk_pin *pins;
    size_t count;
    int64_t bytes;
    struct meta_view *view = upkeep_view(r);
    if (view == NULL) {
        return;
    }
    int rv = replica_pins_excess(r->o->image->replica, view, &pins, &count, &bytes);
    meta_view_close(view);
    if (rv != 0) {
        free(pins);
        api_error(r, rv, NULL);
        return;
    }
    change_pins(r, chunk_pin_remove, pins, count, 200,
                json_pack("{s:I, s:I}", "total_files_pruned", (json_int_t)count,
                          "total_bytes_pruned", (json_int_t)bytes));
}

void image_cache_nodes(struct api_req *r)
{
    if (may(r, ACT_CACHE_LIST)) {
        api_errorf(r, TSR_ECONFLICT,
                   "There is no list over all hosts: ask each for its own with GET /v2/cache.");
    }
}
