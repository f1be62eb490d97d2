/* What POST import is asked for: pure checks of the body and of the image, in the order of the
 * contract. */
#include <string.h>

#include "image/import_job.h"
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

int import_request_parse(const struct import_rules *rules, const json_t *body,
                         const char *header_store, const char *store_id, struct import_request *out,
                         struct err *err)
{
    memset(out, 0, sizeof(*out));
    if (!json_is_object(body)) {
        return err_set(err, TSR_EINVAL, "The body of an import must be an object.");
    }
    const json_t *method = json_obj(body, "method");
    out->method = json_str(method, "name");
    if (out->method == NULL) {
        return err_set(err, TSR_EINVAL, "Input does not contain 'method' with a 'name'.");
    }
    if (!import_rules_method(rules, out->method)) {
        return err_set(err, TSR_EINVAL, "Unknown import method name '%.60s'.",
                       utf8_valid(out->method, strnlen(out->method, 60)) ? out->method : "");
    }
    out->download = strcmp(out->method, "web-download") == 0;
    out->uri = json_str(method, "uri");
    if (out->download && (out->uri == NULL || out->uri[0] == 0)) {
        return err_set(err, TSR_EINVAL, "URI for web-download does not pass filtering: (none)");
    }
    int rv = flag_check(body, "all_stores", err);
    if (rv == 0) {
        rv = flag_check(body, "all_stores_must_succeed", err);
    }
    return rv != 0 ? rv : stores_check(body, header_store, store_id, &out->unknown_store, err);
}

int import_request_check(const struct import_request *q, const json_t *image, struct err *err)
{
    const char *status = json_str_or(image, "status", "");
    const char *want = q->download ? "queued" : "uploading";
    if (strcmp(status, "importing") == 0) {
        return err_set(err, TSR_ECONFLICT, "Another import of this image is running.");
    }
    if (strcmp(status, want) != 0) {
        return err_set(err, TSR_ECONFLICT,
                       "Image needs to be in '%s' state to use %s method, it is '%s'.", want,
                       q->method, status);
    }
    if (!q->download && json_obj(image, "staged") == NULL) {
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
