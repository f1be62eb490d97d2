/* Commands on images: what users say about them (create, update, tag, delete). The life of their
 * data (saving .. active) is in apply_data.c. */
#include <stdlib.h>
#include <string.h>

#include "meta/apply.h"
#include "meta/index.h"
#include "meta/usage.h"
#include "tessera/base/assert.h"
#include "tessera/base/id.h"

/* --- storing ------------------------------------------------------------------------------------
 */

static void note_manifest(struct apply *a, const json_t *image)
{
    const char *hex = json_str(image, "manifest");
    uint8_t name[32];
    if (hex != NULL && hex_decode(hex, strlen(hex), name, sizeof(name)) == 0) {
        manifest_list_add(&a->data, name);
        a->kinds |= META_DATA;
    }
}

/* Those who keep the data are told when something about it changed: by manifest, as that is what
 * they hold. A refusal that follows leaves a manifest noted for nothing. */
static void note_data(struct apply *a, const json_t *old, const json_t *next)
{
    static const char *const fields[] = {"manifest", "placement", "replicas"};
    bool same = old != NULL && next != NULL;
    for (size_t i = 0; i < array_len(fields) && same; i++) {
        same = json_equal(json_object_get(old, fields[i]), json_object_get(next, fields[i])) != 0;
    }
    if (!same) {
        note_manifest(a, old);
        note_manifest(a, next);
    }
}

int apply_image_store(struct apply *a, const json_t *old, json_t *next)
{
    const char *id = json_str(next != NULL ? next : old, "id");
    struct key key;
    struct index_keys before, after;
    json_t *members = NULL;
    int rc = apply_members(a, id, &members);
    if (rc == 0) {
        rc = index_keys_of(&a->w, old, members, &before);
    }
    if (rc == 0) {
        rc = index_keys_of(&a->w, next, members, &after);
    }
    json_decref(members);
    if (rc == 0) {
        rc = apply_usage_change(a, old, next);
    }
    if (rc != 0) {
        return rc;
    }
    key_of_text(&key, id);
    if (next == NULL) {
        writeset_del(&a->w, DB_IMAGE, key_val(&key));
    } else {
        size_t size;
        char *text = json_text(next, &size);
        if (text == NULL) {
            a->w.error = TSR_ENOMEM;
            return TSR_ENOMEM;
        }
        if (size > IMAGE_METADATA_MAX) {
            free(text);
            return apply_refuse(a, TSR_ETOOBIG, "The image's metadata are over %d bytes.",
                                IMAGE_METADATA_MAX);
        }
        writeset_put_text(&a->w, DB_IMAGE, &key, text, size);
        free(text);
    }
    index_change(&a->w, &before, &after);
    note_data(a, old, next);
    return 0;
}

void apply_image_touch(struct apply *a, json_t *image, bool visible)
{
    put_int(a, image, "version", json_int(image, "version", 0) + 1);
    if (visible) {
        put_int(a, image, "updated_at", apply_time(a, json_int(image, "updated_at", 0)));
    }
}

/* Store a change of @old and give {image}. Takes @next. */
static int finish(struct apply *a, const json_t *old, json_t *next, bool visible)
{
    int rc = 0;
    if (!json_equal(old, next)) {
        apply_image_touch(a, next, visible);
        rc = apply_image_store(a, old, next);
    }
    if (rc == 0) {
        apply_result(a, "image", json_incref(next));
    }
    json_decref(next);
    return rc;
}

/* --- fields that clients set
 * ---------------------------------------------------------------------- */

enum field_kind { FIELD_TEXT, FIELD_BOOL, FIELD_INT, FIELD_VISIBILITY, FIELD_TAGS };

static const struct field {
    const char *name;
    enum field_kind kind;
} fields[] = {
    {"name", FIELD_TEXT},
    {"owner", FIELD_TEXT},
    {"disk_format", FIELD_TEXT},
    {"container_format", FIELD_TEXT},
    {"protected", FIELD_BOOL},
    {"os_hidden", FIELD_BOOL},
    {"min_disk", FIELD_INT},
    {"min_ram", FIELD_INT},
    {"visibility", FIELD_VISIBILITY},
    {"tags", FIELD_TAGS},
};

static const struct field *field_find(const char *name)
{
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (strcmp(fields[i].name, name) == 0) {
            return &fields[i];
        }
    }
    return NULL;
}

static bool visibility_ok(const char *v)
{
    return v != NULL && (strcmp(v, "public") == 0 || strcmp(v, "private") == 0 ||
                         strcmp(v, "shared") == 0 || strcmp(v, "community") == 0);
}

static bool tags_ok(const json_t *tags)
{
    size_t i;
    json_t *tag;
    if (!json_is_array(tags)) {
        return false;
    }
    json_array_foreach(tags, i, tag)
    {
        if (!field_text_ok(json_string_value(tag), true, 255)) {
            return false;
        }
    }
    return true;
}

static bool field_ok(const struct field *f, const json_t *v)
{
    switch (f->kind) {
    case FIELD_TEXT:
        return json_is_null(v) || field_text_ok(json_string_value(v), true, 255);
    case FIELD_BOOL:
        return json_is_boolean(v);
    case FIELD_INT:
        return json_is_integer(v) && json_integer_value(v) >= 0 &&
               json_integer_value(v) <= INT32_MAX;
    case FIELD_VISIBILITY:
        return visibility_ok(json_string_value(v));
    case FIELD_TAGS:
        return tags_ok(v);
    }
    return false;
}

static int compare_text(const void *x, const void *y)
{
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

/* Sorted, each once. NULL when out of memory. */
static json_t *tags_sorted(const json_t *tags)
{
    size_t n = json_array_size(tags);
    const char **texts = malloc((n + 1) * sizeof(*texts));
    json_t *out = texts == NULL ? NULL : json_array();
    for (size_t i = 0; i < n && out != NULL; i++) {
        texts[i] = json_string_value(json_array_get(tags, i));
    }
    if (out != NULL && n != 0) {
        qsort(texts, n, sizeof(*texts), compare_text);
    }
    for (size_t i = 0; i < n && out != NULL; i++) {
        if (i > 0 && strcmp(texts[i], texts[i - 1]) == 0) {
            continue;
        }
        if (json_array_append_new(out, json_string(texts[i])) != 0) {
            json_decref(out);
            out = NULL;
        }
    }
    free(texts);
    return out;
}

/* Set the fields of @set in @image. */
static int set_fields(struct apply *a, json_t *image, json_t *set)
{
    const char *name;
    json_t *value;
    json_object_foreach(set, name, value)
    {
        const struct field *f = field_find(name);
        if (f == NULL) {
            return apply_refuse(a, TSR_EINVAL, "Attribute '%s' cannot be set.", name);
        }
        if (!field_ok(f, value)) {
            return apply_refuse(a, TSR_EINVAL, "Invalid value for attribute '%s'.", name);
        }
        if (f->kind == FIELD_TAGS) {
            put_value(a, image, name, tags_sorted(value));
        } else {
            put_copy(a, image, name, value);
        }
    }
    return 0;
}

static bool property_ok(const char *name, const json_t *value)
{
    return field_text_ok(name, true, 255) && (json_is_string(value) || json_is_null(value));
}

static int set_props(struct apply *a, json_t *props, json_t *set)
{
    const char *name;
    json_t *value;
    json_object_foreach(set, name, value)
    {
        if (!property_ok(name, value)) {
            return apply_refuse(a, TSR_EINVAL, "Invalid value for property '%s'.", name);
        }
        put_copy(a, props, name, value);
    }
    return 0;
}

/* --- create
 * ------------------------------------------------------------------------------------------ */

static json_t *image_new(struct apply *a, const char *id)
{
    json_t *image = json_object();
    if (image == NULL) {
        a->w.error = TSR_ENOMEM;
        return NULL;
    }
    static const char *const nulls[] = {
        "name",     "owner",        "disk_format",   "container_format", "size",   "virtual_size",
        "checksum", "os_hash_algo", "os_hash_value", "manifest",         "session"};
    for (size_t i = 0; i < sizeof(nulls) / sizeof(nulls[0]); i++) {
        put_str(a, image, nulls[i], NULL);
    }
    put_str(a, image, "id", id);
    put_str(a, image, "status", "queued");
    put_str(a, image, "visibility", "shared");
    put_bool(a, image, "protected", false);
    put_bool(a, image, "os_hidden", false);
    put_int(a, image, "min_disk", 0);
    put_int(a, image, "min_ram", 0);
    put_value(a, image, "tags", json_array());
    put_value(a, image, "props", json_object());
    put_int(a, image, "created_at", a->now);
    put_int(a, image, "updated_at", a->now);
    put_int(a, image, "version", 1);
    put_value(a, image, "placement", json_array());
    put_value(a, image, "replicas", json_object());
    return image;
}

static int create_fill(struct apply *a, const json_t *given, json_t *image)
{
    json_t *plain = json_copy((json_t *)(uintptr_t)given);
    if (plain == NULL) {
        a->w.error = TSR_ENOMEM;
        return TSR_ENOMEM;
    }
    json_t *props = json_object_get(given, "props");
    json_object_del(plain, "id");
    json_object_del(plain, "props");
    int rc = set_fields(a, image, plain);
    json_decref(plain);
    if (rc == 0 && props != NULL) {
        if (!json_is_object(props)) {
            return apply_refuse(a, TSR_EINVAL, "Invalid value for attribute 'props'.");
        }
        rc = set_props(a, json_obj(image, "props"), props);
    }
    return rc;
}

int apply_image_create(struct apply *a, const json_t *cmd)
{
    const json_t *given = json_obj(cmd, "image");
    const char *id = json_str(given, "id");
    struct key key;
    struct kv_val value;
    if (id == NULL || !uuid_valid(id)) {
        return apply_refuse(a, TSR_EINVAL, "Invalid image id.");
    }
    key_of_text(&key, id);
    int rc = writeset_get(&a->w, DB_IMAGE, key_val(&key), &value);
    if (rc == TSR_ENOENT) {
        rc = writeset_get(&a->w, DB_TOMBSTONE, key_val(&key), &value);
    }
    if (rc == 0) {
        return apply_refuse(a, TSR_EEXIST, "Image ID %s already exists!", id);
    }
    if (rc != TSR_ENOENT) {
        return rc;
    }
    json_t *image = image_new(a, id);
    if (image == NULL) {
        return TSR_ENOMEM;
    }
    rc = create_fill(a, given, image);
    if (rc == 0 && a->w.error == 0) {
        rc = apply_image_store(a, NULL, image);
    }
    if (rc == 0) {
        apply_result(a, "image", json_incref(image));
    }
    json_decref(image);
    return rc;
}

/* --- update, tags, delete
 * ------------------------------------------------------------------------------ */

static int check_version(struct apply *a, const json_t *cmd, const json_t *image)
{
    const json_t *version = json_object_get(cmd, "version");
    if (json_is_integer(version) && json_integer_value(version) != json_int(image, "version", 0)) {
        return apply_refuse(a, TSR_EVERSION, "The image was changed meanwhile.");
    }
    return 0;
}

static int check_formats(struct apply *a, const json_t *old, const json_t *next)
{
    static const char *const names[] = {"disk_format", "container_format"};
    const char *status = json_str_or(old, "status", "");
    if (strcmp(status, "queued") == 0 || strcmp(status, "importing") == 0) {
        return 0;
    }
    for (int i = 0; i < 2; i++) {
        if (!json_equal(json_object_get(old, names[i]), json_object_get(next, names[i]))) {
            return apply_refuse(a, TSR_EFORBIDDEN,
                                "Attribute %s can be only replaced for a queued image.", names[i]);
        }
    }
    return 0;
}

static int change_fields(struct apply *a, const json_t *cmd, json_t *image)
{
    size_t i;
    json_t *name, *props = json_obj(image, "props");
    int rc = set_fields(a, image, json_obj(cmd, "set"));
    if (rc == 0) {
        rc = set_props(a, props, json_obj(cmd, "props_set"));
    }
    if (rc != 0) {
        return rc;
    }
    json_array_foreach(json_arr(cmd, "props_unset"), i, name)
    {
        if (json_is_string(name)) {
            json_object_del(props, json_string_value(name)); /* absent: nothing to do */
        }
    }
    return 0;
}

int apply_image_update(struct apply *a, const json_t *cmd)
{
    json_t *old = NULL;
    int rc = apply_image(a, json_str(cmd, "id"), &old);
    if (rc == 0) {
        rc = check_version(a, cmd, old);
    }
    json_t *next = rc == 0 ? apply_copy(a, old) : NULL;
    if (next != NULL) {
        rc = change_fields(a, cmd, next);
        if (rc == 0) {
            rc = check_formats(a, old, next);
        }
        if (rc == 0 && a->w.error == 0) {
            rc = finish(a, old, json_incref(next), true);
        }
    }
    json_decref(next);
    json_decref(old);
    return rc;
}

static size_t tag_find(const json_t *tags, const char *tag)
{
    size_t i;
    json_t *have;
    json_array_foreach(tags, i, have)
    {
        if (strcmp(json_string_value(have), tag) == 0) {
            return i;
        }
    }
    return SIZE_MAX;
}

static int change_tags(struct apply *a, const json_t *cmd, json_t *image)
{
    const char *tag = json_str(cmd, "tag");
    json_t *tags = json_arr(image, "tags");
    size_t at = tag_find(tags, tag);
    int64_t quota = json_int(cmd, "quota", -1);
    if (!json_bool(cmd, "add", true)) {
        if (at == SIZE_MAX) {
            return apply_refuse(a, TSR_ENOENT, "Image %s does not have tag %s",
                                json_str_or(image, "id", ""), tag);
        }
        json_array_remove(tags, at);
        return 0;
    }
    if (at != SIZE_MAX) {
        return 0;
    }
    if (quota >= 0 && (int64_t)json_array_size(tags) >= quota) {
        return apply_refuse(a, TSR_ETOOBIG, "The limit of %lld tags on an image is reached.",
                            (long long)quota);
    }
    if (json_array_append_new(tags, json_string(tag)) != 0) {
        a->w.error = TSR_ENOMEM;
        return TSR_ENOMEM;
    }
    put_value(a, image, "tags", tags_sorted(tags));
    return 0;
}

int apply_image_tag(struct apply *a, const json_t *cmd)
{
    json_t *old = NULL;
    if (!field_text_ok(json_str(cmd, "tag"), true, 255)) {
        return apply_refuse(a, TSR_EINVAL, "Invalid tag.");
    }
    int rc = apply_image(a, json_str(cmd, "id"), &old);
    json_t *next = rc == 0 ? apply_copy(a, old) : NULL;
    if (next != NULL) {
        rc = change_tags(a, cmd, next);
        if (rc == 0 && a->w.error == 0 && !json_equal(old, next)) {
            apply_image_touch(a, next, true);
            rc = apply_image_store(a, old, next);
        }
    }
    json_decref(next);
    json_decref(old);
    return rc;
}

static void delete_members(struct apply *a, const char *id, const json_t *members)
{
    size_t i;
    json_t *member;
    struct key key;
    json_array_foreach(members, i, member)
    {
        key_of_member(&key, id, json_str_or(member, "member_id", ""));
        writeset_del(&a->w, DB_MEMBER, key_val(&key));
    }
}

int apply_image_delete(struct apply *a, const json_t *cmd)
{
    const char *id = json_str(cmd, "id");
    json_t *image = NULL, *members = NULL;
    struct key key;
    int rc = apply_image(a, id, &image);
    if (rc == 0 && json_bool(image, "protected", false)) {
        rc = apply_refuse(a, TSR_EFORBIDDEN, "Image %s is protected and cannot be deleted.", id);
    }
    if (rc == 0) {
        rc = apply_members(a, id, &members);
    }
    if (rc == 0) {
        rc = apply_image_store(a, image, NULL);
    }
    json_t *tombstone = rc == 0 ? json_object() : NULL;
    if (tombstone != NULL) {
        apply_import_end(a, image, "The image was deleted during the import.");
        delete_members(a, id, members);
        put_int(a, tombstone, "deleted_at", apply_time(a, json_int(image, "updated_at", 0)));
        key_of_text(&key, id);
        writeset_put_json(&a->w, DB_TOMBSTONE, &key, tombstone);
    } else if (rc == 0) {
        a->w.error = TSR_ENOMEM;
    }
    json_decref(tombstone);
    json_decref(members);
    json_decref(image);
    return rc;
}
