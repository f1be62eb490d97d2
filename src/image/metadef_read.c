/* Reading metadata definitions, each on one view. */
#include <stdlib.h>
#include <string.h>

#include "image/fields.h"
#include "image/metadef.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"

enum { WALK = 32 }; /* namespaces held in full at a time */

/* Resource types that every cluster has. */
static const char *const default_types[] = {
    "OS::Cinder::Volume", "OS::Glance::Image", "OS::Nova::Aggregate",
    "OS::Nova::Flavor",   "OS::Nova::Server",  "OS::Trove::Instance",
};

static bool visible(const struct caller *caller, const json_t *record)
{
    const char *owner = json_str(record, "owner");
    if (policy_image(caller, ACT_METADEF_WRITE, NULL, false, NULL) == 0) {
        return true; /* who may change all of them sees all of them */
    }
    if (policy_image(caller, ACT_METADEF_READ, NULL, false, NULL) != 0) {
        return false;
    }
    return strcmp(json_str_or(record, "visibility", ""), "public") == 0 ||
           (owner != NULL && strcmp(owner, caller->project_id) == 0);
}

int metadef_record(struct meta_view *view, const struct caller *caller, const char *ns,
                   json_t **out, struct err *err)
{
    char shown[IMAGE_SHORT];
    json_t *record = NULL;
    int rv = metadef_name_ok(ns) ? meta_dir_find(view, METADEF_KIND, "", ns, &record) : TSR_ENOENT;
    if (rv == 0 && !visible(caller, record)) {
        json_decref(record);
        rv = TSR_ENOENT;
    }
    if (rv == TSR_ENOENT) {
        return err_set(err, TSR_ENOENT, "Namespace %s not found", field_short(ns, shown));
    }
    if (rv == 0) {
        *out = record;
    }
    return rv;
}

/* --- namespaces
 * ------------------------------------------------------------------------------------ */

/* Append what the caller sees of @records to @items, without what is in the namespaces. */
static int add_visible(const struct caller *caller, const json_t *records, json_t *items)
{
    static const char *const heavy[] = {"properties", "objects", "tags"};
    json_t *record;
    size_t i;
    json_array_foreach(records, i, record)
    {
        if (!visible(caller, record)) {
            continue;
        }
        for (size_t k = 0; k < array_len(heavy); k++) {
            (void)json_object_del(record, heavy[k]);
        }
        if (json_array_append(items, record) != 0) {
            return TSR_ENOMEM;
        }
    }
    return 0;
}

static int walk_visible(struct meta_view *view, const struct caller *caller, json_t *items)
{
    char after[64] = "";
    size_t n = WALK;
    int rv = 0;
    while (rv == 0 && n == WALK) {
        json_t *records = NULL;
        rv = meta_dir_list(view, METADEF_KIND, "", after, WALK, &records);
        n = json_array_size(records);
        if (rv == 0 && n > 0) {
            const char *last = json_str_or(json_array_get(records, n - 1), "id", "");
            rv = str_copy(after, sizeof(after), last) ? add_visible(caller, records, items)
                                                      : TSR_ECORRUPT;
        }
        json_decref(records);
    }
    return rv;
}

struct filter {
    const char *visibility, *resource_types;
};

static bool filter_keeps(const json_t *record, const void *arg)
{
    const struct filter *f = arg;
    json_t *association;
    size_t i;
    if (f->visibility != NULL &&
        strcmp(json_str_or(record, "visibility", ""), f->visibility) != 0) {
        return false;
    }
    json_array_foreach(json_arr(record, "resource_types"), i, association)
    {
        if (f->resource_types != NULL &&
            metadef_listed(f->resource_types, json_str_or(association, "name", ""))) {
            return true;
        }
    }
    return f->resource_types == NULL;
}

/* {"<name>": the page rendered, "first", "next"?, "schema"}; takes @list. */
static int page_reply(const char *name, json_t *list, const char *path,
                      const struct metadef_query *query, const char *marker, json_t **out)
{
    char schema[64];
    char *first = metadef_page_link(path, query, NULL);
    char *next = marker != NULL ? metadef_page_link(path, query, marker) : NULL;
    (void)str_copy(schema, sizeof(schema), "/v2/schemas/metadefs/");
    strncat(schema, name, sizeof(schema) - strlen(schema) - 1);
    json_t *reply = first != NULL && list != NULL && (marker == NULL || next != NULL)
                        ? json_pack("{s:O, s:s, s:s, s:s*}", name, list, "first", first, "schema",
                                    schema, "next", next)
                        : NULL;
    free(first);
    free(next);
    json_decref(list);
    *out = reply;
    return reply != NULL ? 0 : TSR_ENOMEM;
}

static json_t *render_briefs(const json_t *records)
{
    json_t *out = json_array(), *record;
    size_t i;
    json_array_foreach(records, i, record)
    {
        if (out != NULL && json_array_append_new(out, metadef_render_brief(record)) != 0) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}

static const char *last_name(const json_t *items)
{
    size_t n = json_array_size(items);
    return n > 0 ? json_str(json_array_get(items, n - 1), "name") : NULL;
}

int metadef_namespaces(struct meta_view *view, const struct caller *caller,
                       const struct metadef_query *query, json_t **out, struct err *err)
{
    struct filter filter = {metadef_param(query, "visibility"),
                            metadef_param(query, "resource_types")};
    struct metadef_page page;
    char shown[IMAGE_SHORT];
    bool more = false;
    json_t *items = NULL, *cut = NULL;
    int rv = metadef_page_parse(query, false, &page, err);
    if (rv == 0 && filter.visibility != NULL && strcmp(filter.visibility, "public") != 0 &&
        strcmp(filter.visibility, "private") != 0) {
        rv = err_set(err, TSR_EINVAL, "Invalid visibility value: %s",
                     field_short(filter.visibility, shown));
    }
    if (rv == 0) {
        rv = policy_image(caller, ACT_METADEF_READ, NULL, false, err);
    }
    if (rv == 0) {
        items = json_array();
        rv = items != NULL ? walk_visible(view, caller, items) : TSR_ENOMEM;
    }
    if (rv == 0) {
        page.keep = filter_keeps;
        page.arg = &filter;
        rv = metadef_page_cut(items, &page, &cut, &more, err);
    }
    if (rv == 0) {
        rv = page_reply("namespaces", render_briefs(cut), "/v2/metadefs/namespaces", query,
                        more ? last_name(cut) : NULL, out);
    }
    json_decref(cut);
    json_decref(items);
    return rv;
}

int metadef_namespace(struct meta_view *view, const struct caller *caller, const char *ns,
                      const char *resource_type, json_t **out, struct err *err)
{
    json_t *record = NULL;
    int rv = metadef_record(view, caller, ns, &record, err);
    if (rv == 0) {
        *out = metadef_render(record, resource_type);
        rv = *out != NULL ? 0 : TSR_ENOMEM;
    }
    json_decref(record);
    return rv;
}

/* --- what is in one
 * -------------------------------------------------------------------------------- */

static int no_such(const char *what, const char *name, struct err *err)
{
    char shown[IMAGE_SHORT];
    return err_set(err, TSR_ENOENT, "The %s '%s' was not found.", what, field_short(name, shown));
}

int metadef_properties(struct meta_view *view, const struct caller *caller, const char *ns,
                       json_t **out, struct err *err)
{
    json_t *record = NULL;
    int rv = metadef_record(view, caller, ns, &record, err);
    if (rv == 0) {
        *out = json_pack("{s:O}", "properties", json_object_get(record, "properties"));
        rv = *out != NULL ? 0 : TSR_ENOMEM;
    }
    json_decref(record);
    return rv;
}

/* The name without the prefix that the association with @resource_type asks for. */
static int strip_prefix(const json_t *record, const char *resource_type, const char **name,
                        struct err *err)
{
    char shown[IMAGE_SHORT];
    const json_t *association = metadef_find(json_arr(record, "resource_types"), resource_type);
    const char *prefix = json_str_or(association, "prefix", "");
    if (association == NULL) {
        return no_such("resource type association", resource_type, err);
    }
    if (prefix[0] == '\0' || !str_starts(*name, prefix)) {
        return err_set(err, TSR_ENOENT,
                       "Property %s does not start with the prefix of its resource type.",
                       field_short(*name, shown));
    }
    *name += strlen(prefix);
    return 0;
}

int metadef_property(struct meta_view *view, const struct caller *caller, const char *ns,
                     const char *name, const char *resource_type, json_t **out, struct err *err)
{
    json_t *record = NULL;
    int rv = metadef_record(view, caller, ns, &record, err);
    if (rv == 0 && resource_type != NULL && resource_type[0] != '\0') {
        rv = strip_prefix(record, resource_type, &name, err);
    }
    if (rv == 0) {
        json_t *property = json_object_get(json_obj(record, "properties"), name);
        *out = property != NULL ? metadef_render_property(property, name) : NULL;
        rv = *out != NULL ? 0 : property != NULL ? TSR_ENOMEM : no_such("property", name, err);
    }
    json_decref(record);
    return rv;
}

/* Every object: there is no paging here, but a limit that could not be one is refused. */
int metadef_objects(struct meta_view *view, const struct caller *caller, const char *ns,
                    const struct metadef_query *query, json_t **out, struct err *err)
{
    int64_t limit = 1;
    json_t *record = NULL, *objects = NULL;
    const char *text = metadef_param(query, "limit");
    if (text != NULL && (str_to_i64(text, 1, INT64_MAX, &limit) != 0)) {
        return err_set(err, TSR_EINVAL, "The limit must be a number greater than 0.");
    }
    int rv = metadef_record(view, caller, ns, &record, err);
    if (rv == 0) {
        objects = metadef_render_objects(record, NULL);
        *out = objects != NULL ? json_pack("{s:O, s:s}", "objects", objects, "schema",
                                           "v2/schemas/metadefs/objects")
                               : NULL;
        rv = *out != NULL ? 0 : TSR_ENOMEM;
    }
    json_decref(objects);
    json_decref(record);
    return rv;
}

int metadef_object(struct meta_view *view, const struct caller *caller, const char *ns,
                   const char *name, json_t **out, struct err *err)
{
    json_t *record = NULL;
    int rv = metadef_record(view, caller, ns, &record, err);
    if (rv == 0) {
        json_t *object = metadef_find(json_arr(record, "objects"), name);
        *out = object != NULL ? metadef_render_object(ns, object, NULL) : NULL;
        rv = *out != NULL ? 0 : object != NULL ? TSR_ENOMEM : no_such("object", name, err);
    }
    json_decref(record);
    return rv;
}

int metadef_tags(struct meta_view *view, const struct caller *caller, const char *ns,
                 const struct metadef_query *query, json_t **out, struct err *err)
{
    struct metadef_page page;
    bool more = false;
    json_t *record = NULL, *cut = NULL;
    char *path = metadef_path(ns, "tags", NULL);
    int rv = metadef_page_parse(query, true, &page, err);
    if (rv == 0) {
        rv = path != NULL ? metadef_record(view, caller, ns, &record, err) : TSR_ENOMEM;
    }
    if (rv == 0) {
        rv = metadef_page_cut(json_arr(record, "tags"), &page, &cut, &more, err);
    }
    if (rv == 0) {
        rv = page_reply("tags", metadef_render_tag_names(cut), path, query,
                        more ? last_name(cut) : NULL, out);
    }
    free(path);
    json_decref(cut);
    json_decref(record);
    return rv;
}

int metadef_tag(struct meta_view *view, const struct caller *caller, const char *ns,
                const char *name, json_t **out, struct err *err)
{
    json_t *record = NULL;
    int rv = metadef_record(view, caller, ns, &record, err);
    if (rv == 0) {
        json_t *tag = metadef_find(json_arr(record, "tags"), name);
        *out = tag != NULL ? metadef_render_tag(tag) : NULL;
        rv = *out != NULL ? 0 : tag != NULL ? TSR_ENOMEM : no_such("tag", name, err);
    }
    json_decref(record);
    return rv;
}

int metadef_associations(struct meta_view *view, const struct caller *caller, const char *ns,
                         json_t **out, struct err *err)
{
    json_t *record = NULL, *list = NULL;
    int rv = metadef_record(view, caller, ns, &record, err);
    if (rv == 0) {
        list = metadef_render_associations(record);
        *out = list != NULL ? json_pack("{s:O}", "resource_type_associations", list) : NULL;
        rv = *out != NULL ? 0 : TSR_ENOMEM;
    }
    json_decref(list);
    json_decref(record);
    return rv;
}

/* --- resource types
 * -------------------------------------------------------------------------------- */

int metadef_type_exists(struct meta_view *view, const char *name, bool *out)
{
    json_t *record = NULL;
    *out = true;
    for (size_t i = 0; i < array_len(default_types); i++) {
        if (strcmp(default_types[i], name) == 0) {
            return 0;
        }
    }
    int rv = meta_dir_get(view, METADEF_TYPE_KIND, name, &record);
    json_decref(record);
    *out = rv == 0;
    return rv == TSR_ENOENT ? 0 : rv;
}

static int default_types_list(struct meta_view *view, json_t *list)
{
    json_t *cluster = NULL;
    int rv = meta_cluster_get(view, &cluster);
    int64_t created = json_int(cluster, "created_at", 0);
    json_decref(cluster);
    rv = rv == TSR_ENOENT ? 0 : rv;
    for (size_t i = 0; rv == 0 && i < array_len(default_types); i++) {
        rv = json_array_append_new(list, metadef_render_type(default_types[i], created)) == 0
                 ? 0
                 : TSR_ENOMEM;
    }
    return rv;
}

static int made_types_list(struct meta_view *view, json_t *list)
{
    json_t *records = NULL, *record;
    size_t i;
    int rv = meta_dir_list(view, METADEF_TYPE_KIND, "", "", SIZE_MAX, &records);
    json_array_foreach(records, i, record)
    {
        if (rv == 0 && json_array_append_new(
                           list, metadef_render_type(json_str_or(record, "id", ""),
                                                     json_int(record, "created_at", 0))) != 0) {
            rv = TSR_ENOMEM;
        }
    }
    json_decref(records);
    return rv;
}

int metadef_resource_types(struct meta_view *view, const struct caller *caller, json_t **out,
                           struct err *err)
{
    json_t *list = json_array();
    int rv = list != NULL ? policy_image(caller, ACT_METADEF_READ, NULL, false, err) : TSR_ENOMEM;
    if (rv == 0) {
        rv = default_types_list(view, list);
    }
    if (rv == 0) {
        rv = made_types_list(view, list);
    }
    if (rv == 0) {
        *out = json_pack("{s:O}", "resource_types", list);
        rv = *out != NULL ? 0 : TSR_ENOMEM;
    }
    json_decref(list);
    return rv;
}
