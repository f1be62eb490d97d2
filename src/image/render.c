/* Values are shared with the record, not copied: a rendering costs a table of pointers. The field
 * `stores` is the face's, which knows what the cluster's store is called. */
#include "image/render.h"

#include <stdio.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/str.h"

/* Shown as they are in the record. */
static const char *const plain[] = {
    "id",    "name",         "status",           "visibility",   "protected",     "os_hidden",
    "owner", "disk_format",  "container_format", "min_disk",     "min_ram",       "tags",
    "size",  "virtual_size", "checksum",         "os_hash_algo", "os_hash_value",
};

static int set_time(json_t *out, const json_t *record, const char *name)
{
    char text[TIME_TEXT];
    time_format_seconds(json_int(record, name, 0), text);
    return json_object_set_new_nocheck(out, name, json_string_nocheck(text));
}

static int set_links(json_t *out, const char *id)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "/v2/images/%s", id);
    int rv = json_object_set_new_nocheck(out, "self", json_string(path));
    (void)snprintf(path, sizeof(path), "/v2/images/%s/file", id);
    rv |= json_object_set_new_nocheck(out, "file", json_string(path));
    return rv |
           json_object_set_new_nocheck(out, "schema", json_string_nocheck("/v2/schemas/image"));
}

json_t *image_render(const json_t *record)
{
    json_t *out = record != NULL ? json_object() : NULL;
    if (out == NULL) {
        return NULL;
    }
    /* Custom properties first: should one ever carry a base field's name, the base field wins. */
    json_t *props = json_obj(record, "props");
    int rv = props != NULL ? json_object_update(out, props) : 0;
    for (size_t i = 0; i < array_len(plain); i++) {
        json_t *value = json_object_get(record, plain[i]);
        rv |= value != NULL ? json_object_set_nocheck(out, plain[i], value)
                            : json_object_set_new_nocheck(out, plain[i], json_null());
    }
    rv |= set_time(out, record, "created_at");
    rv |= set_time(out, record, "updated_at");
    rv |= set_links(out, json_str_or(record, "id", ""));
    if (rv != 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}

json_t *member_render(const json_t *member)
{
    static const char *const names[] = {"member_id", "image_id", "status"};
    json_t *out = member != NULL ? json_object() : NULL;
    if (out == NULL) {
        return NULL;
    }
    int rv = 0;
    for (size_t i = 0; i < array_len(names); i++) {
        rv |= json_object_set(out, names[i], json_object_get(member, names[i]));
    }
    rv |= set_time(out, member, "created_at");
    rv |= set_time(out, member, "updated_at");
    rv |= json_object_set_new(out, "schema", json_string("/v2/schemas/member"));
    if (rv != 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}
