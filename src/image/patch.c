/* Evaluation: operations run in order on a copy; what differs at the end becomes the command. */
#include "image/patch.h"

#include <stdlib.h>
#include <string.h>

#include "image/create.h"
#include "image/fields.h"
#include "tessera/base/str.h"
#include "tessera/identity/rules.h"

struct patch {
    const json_t *record;
    const struct caller *caller;
    const struct image_limits *limits;
    bool v2_0;
    json_t *fields;   /* shallow copy of the record */
    json_t *props;    /* copy of its custom properties */
    size_t tags_most; /* longest list of tags given, before doubles were dropped */
    bool tags_loose;  /* single ones were changed: not sorted, maybe twice */
    struct err *err;
};

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static int put(json_t *object, const char *name, json_t *value)
{
    return value != NULL && json_object_set_new(object, name, value) == 0 ? 0 : TSR_ENOMEM;
}

static int set_field(struct patch *p, const char *name, const json_t *value)
{
    if (is(name, "tags")) {
        p->tags_loose = false; /* a list from field_value is sorted, and whole */
        p->tags_most =
            json_array_size(value) > p->tags_most ? json_array_size(value) : p->tags_most;
    }
    if (is(name, "visibility")) {
        int rv = visibility_allowed(p->caller, json_string_value(value), p->record, p->err);
        if (rv != 0) {
            return rv;
        }
    }
    return put(p->fields, name, field_value(name, value));
}

/* A list of its own, to be changed in place. */
static json_t *tags_loosen(struct patch *p)
{
    if (!p->tags_loose) {
        p->tags_loose = put(p->fields, "tags", json_copy(json_object_get(p->fields, "tags"))) == 0;
    }
    return p->tags_loose ? json_object_get(p->fields, "tags") : NULL;
}

static int tag_check(const json_t *tag, struct err *err)
{
    json_t *alone = json_pack("[O]", tag);
    int rv = alone != NULL ? field_check("tags", alone, err) : TSR_ENOMEM;
    json_decref(alone);
    return rv;
}

static size_t place_of(const char *text, size_t count)
{
    return is(text, "-") ? count : (size_t)strtoul(text, NULL, 10);
}

static int no_tag(struct patch *p, const char *place)
{
    return err_set(p->err, TSR_ECONFLICT, "There is no tag at position %s.", place);
}

static int tag_add(struct patch *p, json_t *tags, const char *place, json_t *tag)
{
    size_t count = json_array_size(tags), at = place_of(place, count);
    int quota = p->limits->tag_quota;
    if (at > count) {
        return no_tag(p, place);
    }
    if (quota >= 0 && count > 2 * (size_t)quota) {
        return err_set(p->err, TSR_ETOOBIG, "The limit of %d tags on an image is exceeded.", quota);
    }
    return json_array_insert(tags, at, tag) == 0 ? 0 : TSR_ENOMEM;
}

static int tag_remove(struct patch *p, json_t *tags, const char *place)
{
    size_t count = json_array_size(tags), at = place_of(place, count);
    return at < count ? json_array_remove(tags, at) : no_tag(p, place);
}

static int tag_move(struct patch *p, json_t *tags, const char *from, const char *place)
{
    size_t count = json_array_size(tags);
    json_t *tag = json_incref(json_array_get(tags, place_of(from, count)));
    int rv = tag_remove(p, tags, from);
    rv = rv != 0 ? rv : tag_add(p, tags, place, tag);
    json_decref(tag);
    return rv;
}

/* One tag, by its place in the list that the client has read, as openstacksdk writes the difference
 * between two lists. So the list keeps its order until the patch is over. In between it may be
 * longer than it may be in the end, but not endless: each change moves what is behind it. */
static int change_tag(struct patch *p, const json_t *op)
{
    const char *verb = json_str_or(op, "op", ""), *place = json_str_or(op, "rest", "");
    json_t *tags = tags_loosen(p), *tag = json_object_get(op, "value");
    int rv = tags == NULL ? TSR_ENOMEM : tag != NULL ? tag_check(tag, p->err) : 0;
    if (rv != 0) {
        return rv;
    }
    if (is(verb, "move")) {
        return tag_move(p, tags, json_str_or(op, "from", ""), place);
    }
    if (is(verb, "add")) {
        return tag_add(p, tags, place, tag);
    }
    if (is(verb, "remove")) {
        return tag_remove(p, tags, place);
    }
    size_t count = json_array_size(tags), at = place_of(place, count);
    return at < count ? json_array_set(tags, at, tag) : no_tag(p, place);
}

/* The list as it is stored. One that only shrinks is no new list for the limit. */
static int tags_settle(struct patch *p)
{
    const json_t *tags = json_object_get(p->fields, "tags");
    size_t before = json_array_size(json_object_get(p->record, "tags"));
    size_t after = json_array_size(tags);
    if (!p->tags_loose) {
        return 0;
    }
    if (after > before && after > p->tags_most) {
        p->tags_most = after;
    }
    return put(p->fields, "tags", field_value("tags", tags));
}

static int set_format(struct patch *p, const char *name, const json_t *value)
{
    const char *status = json_str_or(p->record, "status", "");
    if (!is(status, "queued") && !is(status, "importing")) {
        return err_set(p->err, TSR_EFORBIDDEN,
                       "Attribute %s can be only replaced for a queued image.", name);
    }
    const char *format = json_string_value(value);
    if (format != NULL && is(format, "gpt") && !p->limits->gpt_allowed) {
        return err_set(p->err, TSR_EINVAL, "The disk_format gpt is not enabled here.");
    }
    return put(p->fields, name, field_value(name, value));
}

static int set_owner(struct patch *p, const json_t *value)
{
    int rv = policy_image(p->caller, ACT_CHANGE_OWNER, p->record, false, p->err);
    return rv != 0 ? rv : put(p->fields, "owner", field_value("owner", value));
}

static int change_custom(struct patch *p, const char *verb, const char *name, const json_t *value)
{
    char shown[IMAGE_SHORT];
    bool exists = json_object_get(p->props, name) != NULL;
    enum property_act act = is(verb, "remove") ? PROPERTY_DELETE
                            : exists           ? PROPERTY_UPDATE
                                               : PROPERTY_CREATE;
    if (exists && !is(verb, "add")) { /* what the caller may not see is not there */
        exists = property_allowed(p->caller->properties, PROPERTY_READ, name, p->caller, p->record);
    }
    if (is(verb, "add") && exists && p->v2_0) {
        return err_set(p->err, TSR_ECONFLICT, "Property %s already present.",
                       field_short(name, shown));
    }
    if (!is(verb, "add") && !exists) {
        return err_set(p->err, TSR_ECONFLICT, "Property %s does not exist.",
                       field_short(name, shown));
    }
    if (!property_allowed(p->caller->properties, act, name, p->caller, p->record)) {
        return err_set(p->err, TSR_EFORBIDDEN, "Property '%s' is protected.",
                       field_short(name, shown));
    }
    if (is(verb, "remove")) {
        json_object_del(p->props, name);
        return 0;
    }
    return put(p->props, name, field_value(name, value));
}

static int change_locations(struct patch *p, const char *verb)
{
    return err_set(p->err, TSR_EFORBIDDEN,
                   "It's not allowed to %s locations if locations are invisible.", verb);
}

static int run(struct patch *p, const json_t *op)
{
    const char *verb = json_str_or(op, "op", ""), *name = json_str_or(op, "path", "");
    const json_t *value = json_object_get(op, "value");
    enum field_class class = field_class(name);
    bool remove = is(verb, "remove");
    char shown[IMAGE_SHORT];
    switch (class) {
    case FIELD_ID:
    case FIELD_HASH:
    case FIELD_READ_ONLY:
        return err_set(p->err, TSR_EFORBIDDEN, "Attribute '%s' is read-only.", name);
    case FIELD_RESERVED:
        return err_set(p->err, TSR_EFORBIDDEN, "Attribute '%s' is reserved.",
                       field_short(name, shown));
    case FIELD_LOCATIONS:
        return change_locations(p, is(verb, "replace") ? "replace" : remove ? "remove" : "add");
    default:
        break;
    }
    if (json_str(op, "rest") != NULL) {
        return change_tag(p, op);
    }
    int rv = remove ? 0 : field_check(name, value, p->err);
    if (rv != 0) {
        return rv;
    }
    if (class == FIELD_CUSTOM) {
        return change_custom(p, verb, name, value);
    }
    if (remove) {
        return err_set(p->err, TSR_EFORBIDDEN, "Property %s may not be removed.", name);
    }
    if (class == FIELD_FORMAT) {
        return set_format(p, name, value);
    }
    return class == FIELD_OWNER ? set_owner(p, value) : set_field(p, name, value);
}

/* Properties that are the client's: those that tell how an import goes do not count. */
static size_t own_properties(json_t *props)
{
    size_t count = 0;
    const char *name;
    json_t *value;
    json_object_foreach(props, name, value)
    {
        count += !str_starts(name, "os_glance");
    }
    return count;
}

static int check_limits(const struct patch *p)
{
    size_t before = own_properties(json_object_get(p->record, "props"));
    size_t after = own_properties(p->props);
    int quota = p->limits->property_quota;
    if (quota >= 0 && after > (size_t)quota && after > before) {
        return err_set(p->err, TSR_ETOOBIG, "The limit of %d properties of an image is exceeded.",
                       quota);
    }
    quota = p->limits->tag_quota;
    if (quota >= 0 && p->tags_most > (size_t)quota) {
        return err_set(p->err, TSR_ETOOBIG, "The limit of %d tags on an image is exceeded.", quota);
    }
    return 0;
}

/* --- the difference
 * ------------------------------------------------------------------------------------ */

static int diff_fields(const json_t *before, json_t *after, json_t *set)
{
    const char *name;
    json_t *value;
    json_object_foreach(after, name, value)
    {
        json_t *old = json_object_get(before, name);
        if (old != value && !json_equal(old, value) && json_object_set(set, name, value) != 0) {
            return TSR_ENOMEM;
        }
    }
    return 0;
}

static int diff_gone(json_t *before, const json_t *after, json_t *unset)
{
    const char *name;
    json_t *value;
    json_object_foreach(before, name, value)
    {
        if (json_object_get(after, name) == NULL &&
            json_array_append_new(unset, json_string(name)) != 0) {
            return TSR_ENOMEM;
        }
    }
    return 0;
}

static int command_of(const struct patch *p, json_t **command_out)
{
    json_t *old_props = json_object_get(p->record, "props");
    json_t *set = json_object(), *props_set = json_object(), *props_unset = json_array();
    int rv = set == NULL || props_set == NULL || props_unset == NULL ? TSR_ENOMEM : 0;
    rv = rv != 0 ? rv : diff_fields(p->record, p->fields, set);
    rv = rv != 0 ? rv : diff_fields(old_props, p->props, props_set);
    rv = rv != 0 ? rv : diff_gone(old_props, p->props, props_unset);
    *command_out = NULL;
    if (rv == 0 &&
        json_object_size(set) + json_object_size(props_set) + json_array_size(props_unset) > 0) {
        *command_out = json_pack("{s:s, s:O, s:O, s:O, s:O, s:O}", "op", "image.update", "id",
                                 json_object_get(p->record, "id"), "version",
                                 json_object_get(p->record, "version"), "set", set, "props_set",
                                 props_set, "props_unset", props_unset);
        rv = *command_out != NULL ? 0 : TSR_ENOMEM;
    }
    json_decref(set);
    json_decref(props_set);
    json_decref(props_unset);
    return rv;
}

int patch_evaluate(const json_t *record, const struct caller *caller, const json_t *operations,
                   bool v2_0, const struct image_limits *limits, json_t **command_out,
                   struct err *err)
{
    struct patch p = {
        .record = record, .caller = caller, .limits = limits, .v2_0 = v2_0, .err = err};
    json_t *props = json_object_get(record, "props"), *op;
    size_t i;
    p.fields = json_copy((json_t *)(uintptr_t)record);
    p.props = props != NULL ? json_copy(props) : json_object();
    int rv = p.fields != NULL && p.props != NULL ? 0 : TSR_ENOMEM;
    json_array_foreach((json_t *)(uintptr_t)operations, i, op)
    {
        if (rv != 0) {
            break;
        }
        rv = run(&p, op);
    }
    rv = rv != 0 ? rv : tags_settle(&p);
    rv = rv != 0 ? rv : check_limits(&p);
    rv = rv != 0 ? rv : command_of(&p, command_out);
    json_decref(p.fields);
    json_decref(p.props);
    return rv;
}
