/* One change of a namespace's record: (record, what is asked) -> (record afterwards, answer) or the
 * refusal. Pure, so that it can be done again when somebody else was first. */
#include <stdlib.h>
#include <string.h>

#include "image/fields.h"
#include "image/metadef.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"

/* The lists of a namespace, and what one thing in them is called. */
enum entries { LIST_OBJECTS, LIST_TAGS, LIST_TYPES };
static const struct {
    const char *key, *what;
} lists[] = {
    [LIST_OBJECTS] = {"objects", "object"},
    [LIST_TAGS] = {"tags", "tag"},
    [LIST_TYPES] = {"resource_types", "resource type association"},
};

struct editing {
    const struct metadef_edit *e;
    json_t *next; /* a copy of the record, to be changed */
    json_t *shown;
    struct err *err;
};

static bool same(enum entries list, const char *a, const char *b)
{
    return list == LIST_TAGS ? str_ieq(a, b)
                             : strcmp(a, b) == 0; /* tags differ by more than case */
}

/* Position of the entry, or -1. @exact: in the letter case given. */
static long position(const json_t *array, enum entries list, const char *name, bool exact)
{
    size_t i;
    json_t *entry;
    json_array_foreach(array, i, entry)
    {
        const char *have = json_str_or(entry, "name", "");
        if (exact ? strcmp(have, name) == 0 : same(list, have, name)) {
            return (long)i;
        }
    }
    return -1;
}

json_t *metadef_find(const json_t *array, const char *name)
{
    long at = position(array, LIST_OBJECTS, name, true);
    return at >= 0 ? json_array_get(array, (size_t)at) : NULL;
}

/* --- refusals
 * ------------------------------------------------------------------------------------- */

static int missing(struct editing *w, const char *what)
{
    char shown[IMAGE_SHORT];
    return err_set(w->err, TSR_ENOENT, "The %s '%s' was not found.", what,
                   field_short(w->e->item, shown));
}

static int taken(struct editing *w, const char *what, const char *name)
{
    char shown[IMAGE_SHORT];
    return err_set(w->err, TSR_EEXIST, "There is already a %s '%s'.", what,
                   field_short(name, shown));
}

static int protected_check(struct editing *w)
{
    return json_bool(w->next, "protected", false)
               ? err_set(w->err, TSR_EFORBIDDEN,
                         "The namespace is protected: nothing of it can be "
                         "deleted.")
               : 0;
}

static int set_new(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) == 0 ? 0 : TSR_ENOMEM;
}

/* Times of an entry; @old: what it replaces, or NULL. */
static int stamp(struct editing *w, json_t *entry, const json_t *old)
{
    int64_t created = json_int(old, "created_at", w->e->now);
    int64_t before = json_int(old, "updated_at", w->e->now);
    int rv = json_set_int(entry, "created_at", created);
    return rv != 0 ? rv
                   : json_set_int(entry, "updated_at", w->e->now > before ? w->e->now : before);
}

/* --- the namespace itself
 * ------------------------------------------------------------------------- */

static int owner_set(struct editing *w)
{
    if (json_object_get(w->next, "owner") != NULL || w->e->project[0] == '\0') {
        return 0;
    }
    return json_set_str(w->next, "owner", w->e->project);
}

/* Entries that came with a new namespace: each name once, all stamped. */
static int entries_check(struct editing *w, enum entries list)
{
    json_t *array = json_arr(w->next, lists[list].key), *entry;
    const char *twice;
    size_t i;
    int rv = metadef_double(array, list == LIST_TAGS, &twice);
    if (rv == 0 && twice != NULL) {
        rv = taken(w, lists[list].what, twice);
    }
    json_array_foreach(array, i, entry)
    {
        rv = rv == 0 ? stamp(w, entry, NULL) : rv;
    }
    return rv;
}

static int create(struct editing *w)
{
    int rv = json_set_str(w->next, "id", w->e->id);
    if (rv == 0) {
        rv = owner_set(w);
    }
    if (rv == 0) {
        rv = stamp(w, w->next, NULL);
    }
    for (enum entries list = LIST_OBJECTS; rv == 0 && list <= LIST_TYPES; list++) {
        rv = entries_check(w, list);
    }
    if (rv == 0) {
        w->shown = metadef_render(w->next, NULL);
        rv = w->shown != NULL ? 0 : TSR_ENOMEM;
    }
    return rv;
}

/* The namespace's own fields; what is in it stays. */
static int update(struct editing *w)
{
    static const char *const fields[] = {"name",       "display_name", "description",
                                         "visibility", "protected",    "owner"};
    int rv = 0;
    for (size_t i = 0; rv == 0 && i < array_len(fields); i++) {
        json_t *value = json_object_get(w->e->value, fields[i]);
        if (value != NULL) {
            rv = set_new(w->next, fields[i], json_incref(value));
        } else {
            (void)json_object_del(w->next, fields[i]);
        }
    }
    if (rv == 0) {
        rv = owner_set(w);
    }
    if (rv == 0) {
        rv = stamp(w, w->next, w->next);
    }
    if (rv == 0) {
        w->shown = metadef_render_brief(w->next);
        rv = w->shown != NULL ? 0 : TSR_ENOMEM;
    }
    return rv;
}

static int clear(struct editing *w, const char *key, json_t *empty)
{
    int rv = protected_check(w);
    if (rv != 0) {
        json_decref(empty);
        return rv;
    }
    return set_new(w->next, key, empty);
}

/* --- properties
 * ----------------------------------------------------------------------------------- */

static int property_put(struct editing *w, bool exists)
{
    json_t *properties = json_obj(w->next, "properties"), *value = NULL;
    const char *name = json_str_or(w->e->value, "name", "");
    if (exists && json_object_get(properties, w->e->item) == NULL) {
        return missing(w, "property");
    }
    if ((!exists || strcmp(name, w->e->item) != 0) && json_object_get(properties, name) != NULL) {
        return taken(w, "property", name);
    }
    if (exists) {
        (void)json_object_del(properties, w->e->item);
    }
    value = json_copy((json_t *)(uintptr_t)w->e->value);
    int rv = value != NULL ? 0 : TSR_ENOMEM;
    if (rv == 0) {
        (void)json_object_del(value, "name");
        rv = set_new(properties, name, value);
    }
    if (rv == 0) {
        w->shown = metadef_render_property(w->e->value, name);
        rv = w->shown != NULL ? 0 : TSR_ENOMEM;
    }
    return rv;
}

static int property_delete(struct editing *w)
{
    json_t *properties = json_obj(w->next, "properties");
    if (json_object_get(properties, w->e->item) == NULL) {
        return missing(w, "property");
    }
    int rv = protected_check(w);
    return rv != 0 ? rv : json_object_del(properties, w->e->item) == 0 ? 0 : TSR_ENOMEM;
}

/* --- objects, tags, associations
 * ------------------------------------------------------------------------ */

static json_t *render_entry(struct editing *w, enum entries list, const json_t *entry)
{
    switch (list) {
    case LIST_OBJECTS:
        return metadef_render_object(json_str_or(w->next, "name", ""), entry, NULL);
    case LIST_TAGS:
        return metadef_render_tag(entry);
    default:
        return metadef_render_association(entry);
    }
}

/* Add @entry (taken; NULL: out of memory), or put it in the place of the one called item. */
static int entry_put(struct editing *w, enum entries list, json_t *entry, bool exists)
{
    json_t *array = json_arr(w->next, lists[list].key);
    const char *name = json_str_or(entry, "name", "");
    long at = exists ? position(array, list, w->e->item, true) : -1;
    long other = position(array, list, name, false);
    int rv = entry != NULL ? 0 : TSR_ENOMEM;
    if (rv == 0 && exists && at < 0) {
        rv = missing(w, lists[list].what);
    }
    if (rv == 0 && other >= 0 && other != at) {
        rv = taken(w, lists[list].what, name);
    }
    if (rv == 0) {
        rv = stamp(w, entry, exists ? json_array_get(array, (size_t)at) : NULL);
    }
    if (rv == 0) {
        int failed =
            exists ? json_array_set(array, (size_t)at, entry) : json_array_append(array, entry);
        w->shown = failed == 0 ? render_entry(w, list, entry) : NULL;
        rv = w->shown != NULL ? 0 : TSR_ENOMEM;
    }
    json_decref(entry);
    return rv;
}

static int entry_delete(struct editing *w, enum entries list)
{
    json_t *array = json_arr(w->next, lists[list].key);
    long at = position(array, list, w->e->item, true);
    if (at < 0) {
        return missing(w, lists[list].what);
    }
    int rv = protected_check(w);
    return rv != 0 ? rv : json_array_remove(array, (size_t)at) == 0 ? 0 : TSR_ENOMEM;
}

static int tag_create(struct editing *w)
{
    if (!metadef_name_ok(w->e->item)) {
        return err_set(w->err, TSR_EINVAL, "A tag has 1 to %d characters.", METADEF_NAME_MAX);
    }
    return entry_put(w, LIST_TAGS, json_pack("{s:s}", "name", w->e->item), false);
}

/* The whole list, or nothing: doubles in it or with what stays are a conflict. */
static int tags_put(struct editing *w, bool append)
{
    json_t *added = json_deep_copy(w->e->value), *tag;
    json_t *tags = json_array();
    const char *twice = NULL;
    size_t i;
    int rv = added != NULL && tags != NULL ? 0 : TSR_ENOMEM;
    json_array_foreach(added, i, tag)
    {
        rv = rv == 0 ? stamp(w, tag, NULL) : rv;
    }
    if (rv == 0 && append) {
        rv = json_array_extend(tags, json_arr(w->next, "tags")) == 0 ? 0 : TSR_ENOMEM;
    }
    if (rv == 0) {
        rv = json_array_extend(tags, added) == 0 ? 0 : TSR_ENOMEM;
    }
    if (rv == 0) {
        rv = metadef_double(tags, true, &twice);
    }
    if (rv == 0 && twice != NULL) {
        rv = taken(w, "tag", twice);
    }
    if (rv == 0) {
        rv = set_new(w->next, "tags", json_incref(tags));
    }
    if (rv == 0) {
        json_t *names = metadef_render_tag_names(added);
        w->shown = names != NULL ? json_pack("{s:o}", "tags", names) : NULL;
        rv = w->shown != NULL ? 0 : TSR_ENOMEM;
    }
    json_decref(tags);
    json_decref(added);
    return rv;
}

/* --- all of it
 * ----------------------------------------------------------------------------------------- */

static int dispatch(struct editing *w)
{
    switch (w->e->op) {
    case METADEF_CREATE:
        return create(w);
    case METADEF_UPDATE:
        return update(w);
    case METADEF_DELETE:
        return protected_check(w);
    case METADEF_CLEAR_PROPERTIES:
        return clear(w, "properties", json_object());
    case METADEF_CLEAR_OBJECTS:
        return clear(w, "objects", json_array());
    case METADEF_CLEAR_TAGS:
        return clear(w, "tags", json_array());
    case METADEF_PROPERTY_CREATE:
    case METADEF_PROPERTY_UPDATE:
        return property_put(w, w->e->op == METADEF_PROPERTY_UPDATE);
    case METADEF_PROPERTY_DELETE:
        return property_delete(w);
    case METADEF_OBJECT_CREATE:
    case METADEF_OBJECT_UPDATE:
        return entry_put(w, LIST_OBJECTS, json_deep_copy(w->e->value),
                         w->e->op == METADEF_OBJECT_UPDATE);
    case METADEF_OBJECT_DELETE:
        return entry_delete(w, LIST_OBJECTS);
    case METADEF_TAG_CREATE:
        return tag_create(w);
    case METADEF_TAG_UPDATE:
        return entry_put(w, LIST_TAGS, json_deep_copy(w->e->value), true);
    case METADEF_TAG_DELETE:
        return entry_delete(w, LIST_TAGS);
    case METADEF_TAGS_REPLACE:
    case METADEF_TAGS_APPEND:
        return tags_put(w, w->e->op == METADEF_TAGS_APPEND);
    case METADEF_TYPE_CREATE:
        return entry_put(w, LIST_TYPES, json_deep_copy(w->e->value), false);
    case METADEF_TYPE_DELETE:
        return entry_delete(w, LIST_TYPES);
    }
    return err_set(w->err, TSR_EINTERNAL, "unknown operation");
}

static int size_check(const struct editing *w)
{
    size_t size = 0;
    char *text = json_text(w->next, &size);
    free(text);
    if (text == NULL) {
        return TSR_ENOMEM;
    }
    return size <= METADEF_BYTES_MAX
               ? 0
               : err_set(w->err, TSR_ETOOBIG, "A namespace with all in it has at most %d bytes.",
                         METADEF_BYTES_MAX);
}

int metadef_edit(const json_t *record, const struct metadef_edit *edit, json_t **next_out,
                 json_t **shown_out, struct err *err)
{
    struct editing w = {.e = edit, .err = err};
    *next_out = *shown_out = NULL;
    w.next = json_deep_copy(record != NULL ? record : edit->value);
    int rv = w.next != NULL ? dispatch(&w) : TSR_ENOMEM;
    if (rv == 0) {
        rv = json_set_int(w.next, "version", json_int(record, "version", 0) + 1);
    }
    if (rv == 0 && edit->op != METADEF_DELETE) {
        rv = size_check(&w);
    }
    if (rv != 0 || edit->op == METADEF_DELETE) {
        json_decref(w.next);
        w.next = NULL;
    }
    if (rv != 0) {
        json_decref(w.shown);
        w.shown = NULL;
    }
    *next_out = w.next;
    *shown_out = w.shown;
    return rv;
}
