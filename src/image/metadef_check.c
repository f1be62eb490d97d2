/* Bodies of requests against the schemas of metadata definitions (api/schemas_metadef.c says the
 * same to clients). A body is checked whole before anything of it is used; what is returned is in
 * the form of the record. */
#include <stdlib.h>
#include <string.h>

#include "image/fields.h"
#include "image/metadef.h"
#include "tessera/base/assert.h"
#include "tessera/base/map.h"
#include "tessera/base/str.h"

enum rule_kind {
    RULE_ANY,
    RULE_TEXT, /* up to `max` characters; 0: any length */
    RULE_NAME, /* 1 .. `max` characters */
    RULE_BOOL,
    RULE_NUMBER,
    RULE_COUNT, /* whole, not negative */
    RULE_ARRAY,
    RULE_TEXTS,
    RULE_TEXTS_ONCE, /* without doubles */
    RULE_TYPE,       /* of a property */
    RULE_VISIBILITY,
    RULE_ITEMS,
    RULE_PROPERTIES, /* {name: property} */
    RULE_OBJECTS,    /* arrays */
    RULE_TAGS,
    RULE_ASSOCIATIONS,
    RULE_OWN, /* the service's own attribute, in what a client read before: passed over */
};

struct rule {
    const char *name;
    enum rule_kind kind;
    unsigned max;
    bool required;
};

/* What a body may hold. `own`: attributes that a request itself may not set at all. */
struct form {
    const char *what;
    const struct rule *rules;
    size_t count;
    const char *const *own;
};

static const char *const own_linked[] = {"self", "schema", "created_at", "updated_at", NULL};
static const char *const own_times[] = {"created_at", "updated_at", NULL};

static const struct rule namespace_rules[] = {
    {"namespace", RULE_NAME, METADEF_NAME_MAX, true},
    {"display_name", RULE_TEXT, 80, false},
    {"description", RULE_TEXT, 500, false},
    {"visibility", RULE_VISIBILITY, 0, false},
    {"protected", RULE_BOOL, 0, false},
    {"owner", RULE_TEXT, 255, false},
    {"properties", RULE_PROPERTIES, 0, false},
    {"objects", RULE_OBJECTS, 0, false},
    {"tags", RULE_TAGS, 0, false},
    {"resource_type_associations", RULE_ASSOCIATIONS, 0, false},
};
static const struct form namespace_form = {"namespace", namespace_rules, array_len(namespace_rules),
                                           own_linked};

static const struct rule property_rules[] = {
    {"name", RULE_NAME, METADEF_NAME_MAX, false},
    {"title", RULE_TEXT, 0, true},
    {"type", RULE_TYPE, 0, true},
    {"description", RULE_TEXT, 0, false},
    {"operators", RULE_TEXTS, 0, false},
    {"required", RULE_TEXTS_ONCE, 0, false},
    {"minimum", RULE_NUMBER, 0, false},
    {"maximum", RULE_NUMBER, 0, false},
    {"maxLength", RULE_COUNT, 0, false},
    {"minLength", RULE_COUNT, 0, false},
    {"pattern", RULE_TEXT, 0, false},
    {"enum", RULE_ARRAY, 0, false},
    {"readonly", RULE_BOOL, 0, false},
    {"default", RULE_ANY, 0, false},
    {"items", RULE_ITEMS, 0, false},
    {"maxItems", RULE_COUNT, 0, false},
    {"minItems", RULE_COUNT, 0, false},
    {"uniqueItems", RULE_BOOL, 0, false},
    {"additionalItems", RULE_BOOL, 0, false},
};
static const struct form property_form = {"property", property_rules, array_len(property_rules),
                                          own_times};

static const struct rule item_rules[] = {
    {"type", RULE_TYPE, 0, false},
    {"enum", RULE_ARRAY, 0, false},
};
static const struct form item_form = {"items", item_rules, array_len(item_rules), NULL};

/* Inside a namespace's body these come as they were read: with links and times. */
static const struct rule object_rules[] = {
    {"name", RULE_NAME, METADEF_NAME_MAX, true},
    {"description", RULE_TEXT, 0, false},
    {"required", RULE_TEXTS_ONCE, 0, false},
    {"properties", RULE_PROPERTIES, 0, false},
    {"self", RULE_OWN, 0, false},
    {"schema", RULE_OWN, 0, false},
    {"created_at", RULE_OWN, 0, false},
    {"updated_at", RULE_OWN, 0, false},
};
static const struct form object_form = {"object", object_rules, array_len(object_rules),
                                        own_linked};

static const struct rule tag_rules[] = {
    {"name", RULE_NAME, METADEF_NAME_MAX, true},
    {"created_at", RULE_OWN, 0, false},
    {"updated_at", RULE_OWN, 0, false},
};
static const struct form tag_form = {"tag", tag_rules, array_len(tag_rules), own_times};

static const struct rule tags_rules[] = {{"tags", RULE_TAGS, 0, true}};
static const struct form tags_form = {"set of tags", tags_rules, array_len(tags_rules), NULL};

static const struct rule association_rules[] = {
    {"name", RULE_NAME, METADEF_NAME_MAX, true}, {"prefix", RULE_TEXT, 80, false},
    {"properties_target", RULE_TEXT, 80, false}, {"created_at", RULE_OWN, 0, false},
    {"updated_at", RULE_OWN, 0, false},
};
static const struct form association_form = {"resource type association", association_rules,
                                             array_len(association_rules), own_times};

/* --- values
 * --------------------------------------------------------------------------------------- */

bool metadef_name_ok(const char *name)
{
    size_t size = name == NULL ? 0 : strlen(name);
    return size > 0 && size <= METADEF_NAME_BYTES && utf8_valid(name, size) &&
           utf8_length(name) <= METADEF_NAME_MAX;
}

static bool is_text(const json_t *value, size_t max)
{
    return json_is_string(value) && (max == 0 || utf8_length(json_string_value(value)) <= max);
}

static bool is_count(const json_t *value)
{
    if (json_is_integer(value)) {
        return json_integer_value(value) >= 0;
    }
    double real = json_is_real(value) ? json_real_value(value) : -1;
    return real >= 0 && real <= 9e15 && real == (double)(int64_t)real;
}

static void lower(const char *text, size_t size, char *out)
{
    for (size_t i = 0; i < size; i++) {
        out[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] - 'A' + 'a') : text[i];
    }
}

int metadef_double(const json_t *array, bool fold, const char **name_out)
{
    struct map seen;
    size_t i;
    json_t *item;
    int rv = 0;
    *name_out = NULL;
    map_init(&seen);
    json_array_foreach(array, i, item)
    {
        const char *name =
            json_is_string(item) ? json_string_value(item) : json_str_or(item, "name", "");
        size_t size = strlen(name);
        char *key = malloc(size + 1);
        if (key == NULL) {
            rv = TSR_ENOMEM;
            break;
        }
        memcpy(key, name, size + 1);
        if (fold) {
            lower(name, size, key);
        }
        bool again = map_get(&seen, key, size) != NULL;
        rv = again ? 0 : map_put(&seen, key, size, item);
        free(key);
        if (again || rv != 0) {
            *name_out = again ? name : NULL;
            break;
        }
    }
    map_free(&seen);
    return rv;
}

static bool are_texts(const json_t *value, bool once)
{
    size_t i;
    json_t *text;
    const char *twice = NULL;
    json_array_foreach(value, i, text)
    {
        if (!json_is_string(text)) {
            return false;
        }
    }
    return json_is_array(value) &&
           (!once || (metadef_double(value, false, &twice) == 0 && twice == NULL));
}

static bool is_word(const json_t *value, const char *const *words)
{
    const char *text = json_string_value(value);
    for (; text != NULL && *words != NULL; words++) {
        if (strcmp(*words, text) == 0) {
            return true;
        }
    }
    return false;
}

static const char *const types[] = {"array",  "boolean", "integer", "number",
                                    "object", "string",  NULL};
static const char *const visibilities[] = {"public", "private", NULL};

static int form_check(const struct form *form, const json_t *body, bool nested, struct err *err);

static int each_check(const struct form *form, const json_t *array, struct err *err)
{
    size_t i;
    json_t *item;
    json_array_foreach(array, i, item)
    {
        int rv = form_check(form, item, true, err);
        if (rv != 0) {
            return rv;
        }
    }
    return json_is_array(array)
               ? 0
               : err_set(err, TSR_EINVAL, "A list of %ss is expected.", form->what);
}

static int properties_check(const json_t *properties, struct err *err)
{
    const char *name;
    json_t *property;
    if (!json_is_object(properties)) {
        return err_set(err, TSR_EINVAL, "Properties are an object by name.");
    }
    json_object_foreach((json_t *)(uintptr_t)properties, name, property)
    {
        if (!metadef_name_ok(name)) {
            return err_set(err, TSR_EINVAL, "A property's name has 1 to %d characters.",
                           METADEF_NAME_MAX);
        }
        int rv = form_check(&property_form, property, true, err);
        if (rv != 0) {
            return rv;
        }
    }
    return 0;
}

static bool value_ok(const struct rule *rule, const json_t *value)
{
    switch (rule->kind) {
    case RULE_TEXT:
        return is_text(value, rule->max);
    case RULE_NAME:
        return metadef_name_ok(json_string_value(value));
    case RULE_BOOL:
        return json_is_boolean(value);
    case RULE_NUMBER:
        return json_is_number(value);
    case RULE_COUNT:
        return is_count(value);
    case RULE_ARRAY:
        return json_is_array(value);
    case RULE_TEXTS:
        return are_texts(value, false);
    case RULE_TEXTS_ONCE:
        return are_texts(value, true);
    case RULE_TYPE:
        return json_is_null(value) || is_word(value, types);
    case RULE_VISIBILITY:
        return is_word(value, visibilities);
    default:
        return true;
    }
}

static int value_check(const struct form *form, const struct rule *rule, const json_t *value,
                       struct err *err)
{
    switch (rule->kind) {
    case RULE_ITEMS:
        return form_check(&item_form, value, true, err);
    case RULE_PROPERTIES:
        return properties_check(value, err);
    case RULE_OBJECTS:
        return each_check(&object_form, value, err);
    case RULE_TAGS:
        return each_check(&tag_form, value, err);
    case RULE_ASSOCIATIONS:
        return each_check(&association_form, value, err);
    default:
        return value_ok(rule, value) ? 0
                                     : err_set(err, TSR_EINVAL, "Invalid value of '%s' of the %s.",
                                               rule->name, form->what);
    }
}

static const struct rule *rule_of(const struct form *form, const char *name)
{
    for (size_t i = 0; i < form->count; i++) {
        if (strcmp(form->rules[i].name, name) == 0) {
            return &form->rules[i];
        }
    }
    return NULL;
}

static int own_check(const struct form *form, const json_t *body, struct err *err)
{
    for (const char *const *own = form->own; own != NULL && *own != NULL; own++) {
        if (json_object_get(body, *own) != NULL) {
            return err_set(err, TSR_EFORBIDDEN, "Attribute '%s' is read-only.", *own);
        }
    }
    return 0;
}

static int form_check(const struct form *form, const json_t *body, bool nested, struct err *err)
{
    const char *name;
    json_t *value;
    char shown[IMAGE_SHORT];
    int rv = nested ? 0 : own_check(form, body, err);
    if (rv == 0 && !json_is_object(body)) {
        rv = err_set(err, TSR_EINVAL, "The %s must be a JSON object.", form->what);
    }
    for (size_t i = 0; rv == 0 && i < form->count; i++) {
        if (form->rules[i].required && json_object_get(body, form->rules[i].name) == NULL) {
            rv = err_set(err, TSR_EINVAL, "'%s' of the %s is required.", form->rules[i].name,
                         form->what);
        }
    }
    if (rv != 0) {
        return rv;
    }
    json_object_foreach((json_t *)(uintptr_t)body, name, value)
    {
        const struct rule *rule = rule_of(form, name);
        if (rule == NULL) {
            return err_set(err, TSR_EINVAL, "The %s has no attribute '%s'.", form->what,
                           field_short(name, shown));
        }
        rv = value_check(form, rule, value, err);
        if (rv != 0) {
            return rv;
        }
    }
    return 0;
}

/* --- the form of the record
 * ------------------------------------------------------------------------------- */

static int set_new(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) == 0 ? 0 : TSR_ENOMEM;
}

/* Without names inside: a property's name is its key. */
static json_t *properties_of(const json_t *given)
{
    json_t *out = given != NULL ? json_deep_copy(given) : json_object();
    const char *name;
    json_t *property;
    json_object_foreach(out, name, property)
    {
        (void)json_object_del(property, "name");
    }
    return out;
}

/* A copy without the service's own attributes. */
static json_t *entry_of(const json_t *given, bool object)
{
    json_t *out = json_deep_copy(given);
    for (const char *const *own = own_linked; out != NULL && *own != NULL; own++) {
        (void)json_object_del(out, *own);
    }
    int rv = out != NULL ? 0 : TSR_ENOMEM;
    if (rv == 0 && object) {
        rv = set_new(out, "properties", properties_of(json_object_get(given, "properties")));
        if (rv == 0 && json_object_get(out, "required") == NULL) {
            rv = set_new(out, "required", json_array());
        }
    }
    if (rv != 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}

static json_t *entries_of(const json_t *given, bool objects)
{
    json_t *out = json_array(), *item;
    size_t i;
    json_array_foreach(given, i, item)
    {
        if (out != NULL && json_array_append_new(out, entry_of(item, objects)) != 0) {
            json_decref(out);
            out = NULL;
        }
    }
    return out;
}

static json_t *namespace_of(const json_t *body)
{
    static const char *const plain[] = {"display_name", "description", "owner"};
    json_t *out = json_pack("{s:O, s:s, s:b}", "name", json_object_get(body, "namespace"),
                            "visibility", json_str_or(body, "visibility", "private"), "protected",
                            (int)json_bool(body, "protected", false));
    int rv = out != NULL ? 0 : TSR_ENOMEM;
    for (size_t i = 0; rv == 0 && i < array_len(plain); i++) {
        json_t *value = json_object_get(body, plain[i]);
        if (value != NULL) {
            rv = set_new(out, plain[i], json_incref(value));
        }
    }
    if (rv == 0) {
        rv = set_new(out, "properties", properties_of(json_object_get(body, "properties")));
    }
    if (rv == 0) {
        rv = set_new(out, "objects", entries_of(json_object_get(body, "objects"), true));
    }
    if (rv == 0) {
        rv = set_new(out, "tags", entries_of(json_object_get(body, "tags"), false));
    }
    if (rv == 0) {
        rv = set_new(out, "resource_types",
                     entries_of(json_object_get(body, "resource_type_associations"), false));
    }
    if (rv != 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}

static const struct form *form_of(enum metadef_op op)
{
    switch (op) {
    case METADEF_CREATE:
    case METADEF_UPDATE:
        return &namespace_form;
    case METADEF_PROPERTY_CREATE:
    case METADEF_PROPERTY_UPDATE:
        return &property_form;
    case METADEF_OBJECT_CREATE:
    case METADEF_OBJECT_UPDATE:
        return &object_form;
    case METADEF_TAG_UPDATE:
        return &tag_form;
    case METADEF_TAGS_REPLACE:
    case METADEF_TAGS_APPEND:
        return &tags_form;
    case METADEF_TYPE_CREATE:
        return &association_form;
    default:
        return NULL;
    }
}

static json_t *value_of(const struct form *form, const json_t *body)
{
    if (form == &namespace_form) {
        return namespace_of(body);
    }
    if (form == &tags_form) {
        return entries_of(json_object_get(body, "tags"), false);
    }
    return entry_of(body, form == &object_form);
}

int metadef_check(enum metadef_op op, const json_t *body, json_t **out, struct err *err)
{
    const struct form *form = form_of(op);
    *out = NULL;
    if (form == NULL) {
        return 0;
    }
    int rv = form_check(form, body, false, err);
    if (rv == 0 && form == &property_form && json_str(body, "name") == NULL) {
        rv = err_set(err, TSR_EINVAL, "'name' of the property is required.");
    }
    if (rv == 0) {
        *out = value_of(form, body);
        rv = *out != NULL ? 0 : TSR_ENOMEM;
    }
    return rv;
}
