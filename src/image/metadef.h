/* Pure parts of metadata definitions. The record of a namespace:
 *   id name version display_name? description? visibility protected owner? created_at updated_at
 *   properties {name: {...}}
 *   objects [{name, description?, required[], properties{}, created_at, updated_at}]
 *   tags [{name, created_at, updated_at}]
 *   resource_types [{name, prefix?, properties_target?, created_at, updated_at}]
 * What is not given is not there. Times are microseconds. */
#ifndef IMAGE_METADEF_H
#define IMAGE_METADEF_H

#include "tessera/image/metadef.h"

#define METADEF_KIND "metadef"           /* directory kind of namespaces */
#define METADEF_TYPE_KIND "metadef_type" /* of resource types: id = name, {created_at} */

/* --- metadef_check.c
 * ----------------------------------------------------------------------------- */

/* The body of a request for @op against its schema; *out: what is meant, in the form of the record
 * (without times). NULL for an operation without body. TSR_EINVAL, TSR_EFORBIDDEN (read-only
 * attribute), TSR_ENOMEM. */
int metadef_check(enum metadef_op op, const json_t *body, json_t **out, struct err *err);
/* 1 .. METADEF_NAME_MAX characters of UTF-8. */
bool metadef_name_ok(const char *name);
/* The first name in @array (of texts, or of objects with `name`) that was there before, or NULL.
 * @fold: letter case of ASCII does not count. 0 or TSR_ENOMEM. */
int metadef_double(const json_t *array, bool fold, const char **name_out);

/* --- metadef_edit.c
 * ------------------------------------------------------------------------------ */

struct metadef_edit {
    enum metadef_op op;
    const char *item;
    const json_t *value; /* checked; NULL for an operation without body */
    const char *project; /* of the caller: owner where none is given; "" = none */
    const char *id;      /* METADEF_CREATE: of the new record */
    int64_t now;
};
/* @record (NULL for METADEF_CREATE) after the edit. *next_out NULL: it is to be deleted.
 * *shown_out: what is answered, or NULL. TSR_EFORBIDDEN protected, TSR_ENOENT, TSR_EEXIST,
 * TSR_ETOOBIG. */
int metadef_edit(const json_t *record, const struct metadef_edit *edit, json_t **next_out,
                 json_t **shown_out, struct err *err);
/* Entry of that name in an array of them, or NULL. */
json_t *metadef_find(const json_t *array, const char *name);

/* --- metadef_render.c
 * ---------------------------------------------------------------------------- */

/* The namespace without what is in it but associations. All return NULL when out of memory. */
json_t *metadef_render_brief(const json_t *record);
json_t *metadef_render(const json_t *record, const char *resource_type);
json_t *metadef_render_property(const json_t *property, const char *name);
/* @prefix NULL: names as they are. */
json_t *metadef_render_object(const char *ns, const json_t *object, const char *prefix);
json_t *metadef_render_objects(const json_t *record, const char *prefix);
json_t *metadef_render_tag(const json_t *tag);
/* Names alone. */
json_t *metadef_render_tag_names(const json_t *tags);
json_t *metadef_render_association(const json_t *association);
json_t *metadef_render_associations(const json_t *record);
/* {name, created_at, updated_at} */
json_t *metadef_render_type(const char *name, int64_t created_at);
/* "/v2/metadefs/namespaces/<ns>/<kind>/<name>", percent-encoded; @kind NULL: the namespace; @name
 * NULL: the collection. malloc'ed. */
char *metadef_path(const char *ns, const char *kind, const char *name);

/* --- metadef_page.c
 * ------------------------------------------------------------------------------ */

struct metadef_page {
    const char *marker; /* name, or NULL */
    size_t limit;       /* SIZE_MAX: none */
    const char *field;  /* sorted by; of the record */
    bool descending;
    /* which are listed; NULL: all. A marker need not be one of them. */
    bool (*keep)(const json_t *item, const void *arg);
    const void *arg;
};
/* Paging parameters of @query. @tags: sort keys of tags, and no limit without one. TSR_EINVAL. */
int metadef_page_parse(const struct metadef_query *query, bool tags, struct metadef_page *out,
                       struct err *err);
/* Those of @items that are on the page, in order (not copied); equal ones by name. *more_out:
 * something follows. TSR_ENOENT: unknown marker. */
int metadef_page_cut(const json_t *items, const struct metadef_page *page, json_t **out,
                     bool *more_out, struct err *err);
/* @path with all parameters of the query but `marker`, then @marker unless NULL. malloc'ed. */
char *metadef_page_link(const char *path, const struct metadef_query *query, const char *marker);
/* First value of @name, or NULL where it is absent or empty. */
const char *metadef_param(const struct metadef_query *query, const char *name);
/* Is @word one of the comma-separated @list? */
bool metadef_listed(const char *list, const char *word);

/* --- metadef_read.c
 * ------------------------------------------------------------------------------ */

/* Record of the namespace if the caller sees it: administrators all, others those that are public
 * or their project's. TSR_ENOENT. */
int metadef_record(struct meta_view *view, const struct caller *caller, const char *ns,
                   json_t **out, struct err *err);
/* Does @record exist of the resource type: one that every cluster has, or made before? Negative: an
 * error of the store. */
int metadef_type_exists(struct meta_view *view, const char *name, bool *out);

#endif
