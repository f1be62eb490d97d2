/* What POST import is asked for: pure checks of the body and of the image, in the order of the
 * contract. */
#include <string.h>

#include "image/import_job.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"

static int flag_check(const json_t *body, const char *name, struct err *err)
{
    const json_t *v = json_object_get(body, name);
    if (v != NULL && !json_is_boolean(v)) {
        return err_set(err, TSR_EINVAL, "The value of '%s' must be true or false.", name);
    }
    return 0;
}

static int stores_check(const json_t *body, const char *header_store, const char *store_id,
                        const char **unknown_out, struct err *err)
{
    const json_t *stores = json_object_get(body, "stores");
    bool all = json_bool(body, "all_stores", false);
    json_t *name;
    size_t i;
    if (stores != NULL && !json_is_array(stores)) {
        return err_set(err, TSR_EINVAL, "'stores' must be a list of names.");
    }
    json_array_foreach(stores, i, name)
    {
        if (!json_is_string(name)) {
            return err_set(err, TSR_EINVAL, "'stores' must be a list of names.");
        }
        if (strcmp(json_string_value(name), store_id) != 0) {
            *unknown_out = json_string_value(name);
        }
    }
    if (all && (stores != NULL || header_store != NULL)) {
        return err_set(err, TSR_EINVAL, "All_stores parameter can't be used with %s.",
                       stores != NULL ? "'stores'" : "the x-image-meta-store header");
    }
    if (stores != NULL && header_store != NULL) {
        return err_set(err, TSR_EINVAL,
                       "Stores parameter and x-image-meta-store header can't be both specified.");
    }
    if (header_store != NULL && strcmp(header_store, store_id) != 0) {
        *unknown_out = header_store;
    }
    return 0;
}

static const struct {
    const char *name;
    enum import_kind kind;
    const char *status; /* that the image must have */
} methods[] = {{"glance-direct", IMPORT_DIRECT, "uploading"},
               {"web-download", IMPORT_WEB, "queued"},
               {"copy-image", IMPORT_COPY, "active"},
               {"glance-download", IMPORT_REMOTE, "queued"}};

static int method_parse(const struct import_rules *rules, const json_t *method,
                        struct import_request *out, struct err *err)
{
    out->method = json_str(method, "name");
    if (out->method == NULL) {
        return err_set(err, TSR_EINVAL, "Input does not contain 'method' with a 'name'.");
    }
    for (size_t n = 0; n < array_len(methods) && import_rules_method(rules, out->method); n++) {
        if (strcmp(methods[n].name, out->method) == 0) {
            out->kind = methods[n].kind;
            return 0;
        }
    }
    return err_set(err, TSR_EINVAL, "Unknown import method name '%.60s'.",
                   utf8_valid(out->method, strnlen(out->method, 60)) ? out->method : "");
}

static int remote_parse(const struct import_rules *rules, const json_t *method,
                        struct import_request *out, struct err *err)
{
    const char *face = json_str(method, "glance_service_interface");
    out->region = json_str(method, "glance_region");
    out->remote_id = json_str(method, "glance_image_id");
    if (out->region == NULL || out->region[0] == 0 || out->remote_id == NULL) {
        return err_set(err, TSR_EINVAL,
                       "glance-download needs 'glance_region' and 'glance_image_id'.");
    }
    if (!uuid_valid(out->remote_id)) {
        return err_set(err, TSR_EINVAL, "Remote glance image id does not look like a UUID.");
    }
    /* A region or an interface that is not known fails the task, as with Glance. */
    out->wrong = import_rules_region(rules, out->region) == NULL
                     ? "The region that is named is not known here."
                 : face == NULL || strcmp(face, "public") == 0 || strcmp(face, "internal") == 0 ||
                         strcmp(face, "admin") == 0
                     ? NULL
                     : "'glance_service_interface' is none of public, internal, admin.";
    return 0;
}

int import_request_parse(const struct import_rules *rules, const json_t *body,
                         const char *header_store, const char *store_id, struct import_request *out,
                         struct err *err)
{
    memset(out, 0, sizeof(*out));
    if (!json_is_object(body)) {
        return err_set(err, TSR_EINVAL, "The body of an import must be an object.");
    }
    const json_t *method = json_obj(body, "method");
    int rv = method_parse(rules, method, out, err);
    out->uri = json_str(method, "uri");
    out->all_stores = json_bool(body, "all_stores", false);
    if (rv == 0 && out->kind == IMPORT_WEB && (out->uri == NULL || out->uri[0] == 0)) {
        rv = err_set(err, TSR_EINVAL, "URI for web-download does not pass filtering: (none)");
    }
    if (rv == 0 && out->kind == IMPORT_REMOTE) {
        rv = remote_parse(rules, method, out, err);
    }
    rv = rv != 0 ? rv : flag_check(body, "all_stores", err);
    rv = rv != 0 ? rv : flag_check(body, "all_stores_must_succeed", err);
    return rv != 0 ? rv : stores_check(body, header_store, store_id, &out->unknown_store, err);
}

int import_request_check(const struct import_request *q, const json_t *image, struct err *err)
{
    const char *status = json_str_or(image, "status", ""), *want = methods[q->kind].status;
    if (strcmp(status, "importing") == 0) {
        return err_set(err, TSR_ECONFLICT, "Another import of this image is running.");
    }
    if (strcmp(status, want) != 0) {
        return err_set(err, TSR_ECONFLICT,
                       "Image needs to be in '%s' state to use %s method, it is '%s'.", want,
                       q->method, status);
    }
    if (q->kind == IMPORT_DIRECT && json_obj(image, "staged") == NULL) {
        return err_set(err, TSR_ECONFLICT, "The data of the image is still being staged.");
    }
    if (json_str(image, "container_format") == NULL || json_str(image, "disk_format") == NULL) {
        return err_set(err, TSR_ECONFLICT, "'%s' needs to be set before import",
                       json_str(image, "container_format") == NULL ? "container_format"
                                                                   : "disk_format");
    }
    if (q->unknown_store != NULL) {
        return err_set(err, TSR_ECONFLICT, "A store that is named does not exist.");
    }
    return 0;
}

_Static_assert(IMPORT_DIRECT == 0 && IMPORT_WEB == 1 && IMPORT_COPY == 2 && IMPORT_REMOTE == 3,
               "methods[] is in the order of the kinds");
