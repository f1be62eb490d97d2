/* What clients see of a namespace's record: times as text, links, and nothing that is not set. */
#include <stdlib.h>
#include <string.h>

#include "image/metadef.h"
#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/str.h"

/* All setters: 0 or -1, as jansson's. */
static int set_time(json_t *out, const json_t *record, const char *name)
{
    char text[TIME_TEXT];
    time_format_seconds(json_int(record, name, 0), text);
    return json_object_set_new_nocheck(out, name, json_string_nocheck(text));
}

static int set_times(json_t *out, const json_t *record)
{
    return set_time(out, record, "created_at") | set_time(out, record, "updated_at");
}

/* Taken; an empty list or object is left out. */
static int set_if_any(json_t *out, const char *name, json_t *value)
{
    if (value == NULL) {
        return -1;
    }
    if (json_array_size(value) == 0 && json_object_size(value) == 0) {
        json_decref(value);
        return 0;
    }
    return json_object_set_new_nocheck(out, name, value);
}

/* The fields that are set and not null. */
static int set_plain(json_t *out, const json_t *record, const char *const *names, size_t count)
{
    int rv = 0;
    for (size_t i = 0; i < count; i++) {
        json_t *value = json_object_get(record, names[i]);
        if (value != NULL && !json_is_null(value)) {
            rv |= json_object_set_nocheck(out, names[i], value);
        }
    }
    return rv;
}

static json_t *done(json_t *out, int rv)
{
    if (rv != 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}

char *metadef_path(const char *ns, const char *kind, const char *name)
{
    struct buf b = {0};
    (void)buf_append_str(&b, "/v2/metadefs/namespaces/");
    (void)percent_encode(&b, ns, false);
    if (kind != NULL) {
        (void)buf_printf(&b, "/%s", kind);
    }
    if (name != NULL) {
        (void)buf_append_str(&b, "/");
        (void)percent_encode(&b, name, false);
    }
    if (b.failed) {
        buf_free(&b);
        return NULL;
    }
    return buf_detach(&b, NULL);
}

static int set_self(json_t *out, char *path)
{
    int rv = path != NULL ? json_object_set_new_nocheck(out, "self", json_string(path)) : -1;
    free(path);
    return rv;
}

/* --- the namespace
 * ----------------------------------------------------------------------------------- */

json_t *metadef_render_brief(const json_t *record)
{
    static const char *const plain[] = {"display_name", "description", "visibility", "protected",
                                        "owner"};
    const char *ns = json_str_or(record, "name", "");
    json_t *out = json_object();
    int rv = out != NULL ? 0 : -1;
    rv |= json_object_set_new(out, "namespace", json_string(ns));
    rv |= set_plain(out, record, plain, array_len(plain));
    rv |= set_times(out, record);
    rv |= set_self(out, metadef_path(ns, NULL, NULL));
    rv |= json_object_set_new(out, "schema", json_string("/v2/schemas/metadefs/namespace"));
    rv |= set_if_any(out, "resource_type_associations", metadef_render_associations(record));
    return done(out, rv);
}

/* Prefix of the association with @resource_type; NULL if there is none, or an empty one. */
static const char *prefix_of(const json_t *record, const char *resource_type)
{
    const json_t *association =
        resource_type == NULL ? NULL
                              : metadef_find(json_arr(record, "resource_types"), resource_type);
    const char *prefix = json_str_or(association, "prefix", "");
    return prefix[0] != '\0' ? prefix : NULL;
}

/* @prefix before @name; NULL: out of memory. */
static json_t *prefixed(const char *prefix, const char *name)
{
    return json_sprintf("%s%s", prefix != NULL ? prefix : "", name);
}

static json_t *render_properties(const json_t *properties, const char *prefix)
{
    json_t *out = json_object(), *property;
    const char *name;
    int rv = out != NULL ? 0 : -1;
    json_object_foreach((json_t *)(uintptr_t)properties, name, property)
    {
        json_t *key = prefixed(prefix, name);
        rv |= key != NULL ? json_object_set(out, json_string_value(key), property) : -1;
        json_decref(key);
    }
    return done(out, rv);
}

json_t *metadef_render(const json_t *record, const char *resource_type)
{
    const char *prefix = prefix_of(record, resource_type);
    json_t *out = metadef_render_brief(record);
    int rv = out != NULL ? 0 : -1;
    rv |= set_if_any(out, "properties", render_properties(json_obj(record, "properties"), prefix));
    rv |= set_if_any(out, "objects", metadef_render_objects(record, prefix));
    rv |= set_if_any(out, "tags", metadef_render_tag_names(json_arr(record, "tags")));
    return done(out, rv);
}

/* --- what is in it
 * ---------------------------------------------------------------------------------- */

json_t *metadef_render_property(const json_t *property, const char *name)
{
    json_t *out = json_copy((json_t *)(uintptr_t)property);
    int rv = out != NULL ? json_object_set_new(out, "name", json_string(name)) : -1;
    return done(out, rv);
}

static json_t *render_required(const json_t *object, const char *prefix)
{
    json_t *out = json_array(), *name;
    size_t i;
    int rv = out != NULL ? 0 : -1;
    json_array_foreach(json_arr(object, "required"), i, name)
    {
        rv |= json_array_append_new(out, prefixed(prefix, json_string_value(name)));
    }
    return done(out, rv);
}

json_t *metadef_render_object(const char *ns, const json_t *object, const char *prefix)
{
    static const char *const plain[] = {"name", "description"};
    json_t *out = json_object();
    int rv = out != NULL ? 0 : -1;
    rv |= set_plain(out, object, plain, array_len(plain));
    rv |= json_object_set_new(out, "required", render_required(object, prefix));
    rv |= json_object_set_new(out, "properties",
                              render_properties(json_obj(object, "properties"), prefix));
    rv |= set_times(out, object);
    rv |= set_self(out, metadef_path(ns, "objects", json_str_or(object, "name", "")));
    rv |= json_object_set_new(out, "schema", json_string("/v2/schemas/metadefs/object"));
    return done(out, rv);
}

json_t *metadef_render_objects(const json_t *record, const char *prefix)
{
    json_t *out = json_array(), *object;
    size_t i;
    int rv = out != NULL ? 0 : -1;
    json_array_foreach(json_arr(record, "objects"), i, object)
    {
        rv |= json_array_append_new(
            out, metadef_render_object(json_str_or(record, "name", ""), object, prefix));
    }
    return done(out, rv);
}

json_t *metadef_render_tag(const json_t *tag)
{
    static const char *const plain[] = {"name"};
    json_t *out = json_object();
    int rv = out != NULL ? 0 : -1;
    rv |= set_plain(out, tag, plain, array_len(plain));
    rv |= set_times(out, tag);
    return done(out, rv);
}

json_t *metadef_render_tag_names(const json_t *tags)
{
    json_t *out = json_array(), *tag;
    size_t i;
    int rv = out != NULL ? 0 : -1;
    json_array_foreach(tags, i, tag)
    {
        rv |= json_array_append_new(out, json_pack("{s:O}", "name", json_object_get(tag, "name")));
    }
    return done(out, rv);
}

json_t *metadef_render_association(const json_t *association)
{
    static const char *const plain[] = {"name", "prefix", "properties_target"};
    json_t *out = json_object();
    int rv = out != NULL ? 0 : -1;
    rv |= set_plain(out, association, plain, array_len(plain));
    rv |= set_times(out, association);
    return done(out, rv);
}

json_t *metadef_render_associations(const json_t *record)
{
    json_t *out = json_array(), *association;
    size_t i;
    int rv = out != NULL ? 0 : -1;
    json_array_foreach(json_arr(record, "resource_types"), i, association)
    {
        rv |= json_array_append_new(out, metadef_render_association(association));
    }
    return done(out, rv);
}

json_t *metadef_render_type(const char *name, int64_t created_at)
{
    char text[TIME_TEXT];
    time_format_seconds(created_at, text);
    return json_pack("{s:s, s:s, s:s}", "name", name, "created_at", text, "updated_at", text);
}
