/* Metadata definitions (image-api section 2.14): namespaces of properties, objects, tags and the
 * resource types that they are meant for. Catalogue data for user interfaces; images do not refer
 * to it.
 *
 * One record a namespace in the directory (kind "metadef", docs/metadata.md) holds everything of
 * it, bounded by METADEF_BYTES_MAX. A change is evaluated here on the record as this host knows it,
 * and sent with that record's version; when somebody else was first, apply refuses and it is
 * evaluated again (docs/adr/0002). Thread: as image.h. */
#ifndef TESSERA_IMAGE_METADEF_H
#define TESSERA_IMAGE_METADEF_H

#include "tessera/image.h"

enum {
    METADEF_BYTES_MAX = 1024 * 1024, /* of one namespace with all in it, as stored */
    METADEF_NAME_MAX = 80,           /* characters of any name */
    METADEF_NAME_BYTES = 4 * METADEF_NAME_MAX,
};

/* --- changing
 * ---------------------------------------------------------------------------------------------- */

/* item: the thing's name in the path, where there is one; body: what the request's body must be. */
enum metadef_op {
    METADEF_CREATE,           /* body: namespace, with all that is in it */
    METADEF_UPDATE,           /* body: namespace; what is in it stays as it is */
    METADEF_DELETE,           /* the namespace */
    METADEF_CLEAR_PROPERTIES, /* all of that kind */
    METADEF_CLEAR_OBJECTS,
    METADEF_CLEAR_TAGS,
    METADEF_PROPERTY_CREATE, /* body: property */
    METADEF_PROPERTY_UPDATE, /* item, body: property */
    METADEF_PROPERTY_DELETE, /* item */
    METADEF_OBJECT_CREATE,   /* body: object */
    METADEF_OBJECT_UPDATE,   /* item, body: object */
    METADEF_OBJECT_DELETE,   /* item */
    METADEF_TAG_CREATE,      /* item */
    METADEF_TAG_UPDATE,      /* item, body: tag */
    METADEF_TAG_DELETE,      /* item */
    METADEF_TAGS_REPLACE,    /* body: {"tags": [...]} */
    METADEF_TAGS_APPEND,     /* body: {"tags": [...]} */
    METADEF_TYPE_CREATE,     /* body: association with a resource type */
    METADEF_TYPE_DELETE,     /* item: the resource type's name */
};

struct metadef_change {
    enum metadef_op op;
    const char *ns;     /* the namespace's name; not used by METADEF_CREATE */
    const char *item;   /* or NULL */
    const json_t *body; /* or NULL */
};
/* For administrators. The result is in API form; NULL for what deletes. TSR_EINVAL: not of the
 * schema; TSR_EFORBIDDEN: the caller, a read-only attribute, or protected; TSR_ENOENT; TSR_EEXIST;
 * TSR_ETOOBIG; TSR_EVERSION: others were always first. The texts of @change are needed only during
 * the call. */
void metadef_change(struct image_ctx *ctx, const struct caller *caller,
                    const struct metadef_change *change, image_cb cb, void *arg);

/* --- reading (synchronous, on a view); all results are in API form, new references
 * -------------------------------------------------------------------- */

/* Listings: the request's query, and what goes for `limit` without one and at most. */
struct metadef_query {
    const struct image_param *params;
    size_t count;
    size_t limit_default, limit_max;
};
/* {"namespaces", "first", "next"?, "schema"}. TSR_EINVAL, TSR_EFORBIDDEN, TSR_ENOENT (marker). */
int metadef_namespaces(struct meta_view *view, const struct caller *caller,
                       const struct metadef_query *query, json_t **out, struct err *err);
/* @resource_type (or NULL): names of properties get the prefix of that association. */
int metadef_namespace(struct meta_view *view, const struct caller *caller, const char *ns,
                      const char *resource_type, json_t **out, struct err *err);
int metadef_properties(struct meta_view *view, const struct caller *caller, const char *ns,
                       json_t **out, struct err *err);
/* With @resource_type, @name must begin with the prefix of that association. */
int metadef_property(struct meta_view *view, const struct caller *caller, const char *ns,
                     const char *name, const char *resource_type, json_t **out, struct err *err);
int metadef_objects(struct meta_view *view, const struct caller *caller, const char *ns,
                    const struct metadef_query *query, json_t **out, struct err *err);
int metadef_object(struct meta_view *view, const struct caller *caller, const char *ns,
                   const char *name, json_t **out, struct err *err);
int metadef_tags(struct meta_view *view, const struct caller *caller, const char *ns,
                 const struct metadef_query *query, json_t **out, struct err *err);
int metadef_tag(struct meta_view *view, const struct caller *caller, const char *ns,
                const char *name, json_t **out, struct err *err);
/* The namespace's associations with resource types. */
int metadef_associations(struct meta_view *view, const struct caller *caller, const char *ns,
                         json_t **out, struct err *err);
/* All resource types: those that every cluster has, and those made by associations. */
int metadef_resource_types(struct meta_view *view, const struct caller *caller, json_t **out,
                           struct err *err);

#endif
