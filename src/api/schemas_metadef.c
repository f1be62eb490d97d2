/* GET /v2/schemas/metadefs/{name}: JSON schemas of metadata definitions, from which clients build
 * their models. What is checked is in image/metadef_check.c. */
#include <stdlib.h>
#include <string.h>

#include "api/image_face.h"
#include "tessera/base/assert.h"
#include "tessera/base/buf.h"

#define TIME(description)                                                              \
    "{\"type\":\"string\",\"readOnly\":true,\"format\":\"date-time\",\"description\":" \
    "\"" description "\"}"
#define LINK "{\"type\":\"string\",\"readOnly\":true}"
#define NAME "{\"type\":\"string\",\"maxLength\":80}"
#define TYPE                                                                                  \
    "{\"type\":\"string\",\"enum\":[\"array\",\"boolean\",\"integer\",\"number\",\"object\"," \
    "\"string\",null]}"

/* What a property may hold besides its name. */
#define PROPERTY_FIELDS                                                                        \
    "\"name\":" NAME ",\"title\":{\"type\":\"string\"},\"description\":{\"type\":\"string\"}," \
    "\"operators\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},\"type\":" TYPE ","    \
    "\"required\":{\"$ref\":\"#/definitions/stringArray\"},"                                   \
    "\"minimum\":{\"type\":\"number\"},\"maximum\":{\"type\":\"number\"},"                     \
    "\"maxLength\":{\"$ref\":\"#/definitions/positiveInteger\"},"                              \
    "\"minLength\":{\"$ref\":\"#/definitions/positiveIntegerDefault0\"},"                      \
    "\"pattern\":{\"type\":\"string\",\"format\":\"regex\"},\"enum\":{\"type\":\"array\"},"    \
    "\"readonly\":{\"type\":\"boolean\"},\"default\":{},"                                      \
    "\"items\":{\"type\":\"object\",\"properties\":{\"type\":" TYPE                            \
    ",\"enum\":{\"type\":\"array\"}}},"                                                        \
    "\"maxItems\":{\"$ref\":\"#/definitions/positiveInteger\"},"                               \
    "\"minItems\":{\"$ref\":\"#/definitions/positiveIntegerDefault0\"},"                       \
    "\"uniqueItems\":{\"type\":\"boolean\",\"default\":false},"                                \
    "\"additionalItems\":{\"type\":\"boolean\"}"

#define DEFINITIONS_BASE                                                                    \
    "\"positiveInteger\":{\"type\":\"integer\",\"minimum\":0},"                             \
    "\"positiveIntegerDefault0\":{\"allOf\":[{\"$ref\":\"#/definitions/positiveInteger\"}," \
    "{\"default\":0}]},"                                                                    \
    "\"stringArray\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"uniqueItems\":true}"

static const char definitions_base[] = "{" DEFINITIONS_BASE "}";
static const char definitions[] =
    "{" DEFINITIONS_BASE ",\"property\":{\"type\":\"object\",\"additionalProperties\":{"
    "\"type\":\"object\",\"required\":[\"title\",\"type\"],\"properties\":{" PROPERTY_FIELDS "}}}}";

static const char namespace_fields[] =
    "\"namespace\":{\"type\":\"string\",\"maxLength\":80,"
    "\"description\":\"The unique namespace text.\"},"
    "\"display_name\":{\"type\":\"string\",\"maxLength\":80,\"description\":"
    "\"The user friendly name for the namespace. Used by UI if available.\"},"
    "\"description\":{\"type\":\"string\",\"maxLength\":500,"
    "\"description\":\"Provides a user friendly description of the namespace.\"},"
    "\"visibility\":{\"type\":\"string\",\"enum\":[\"public\",\"private\"],"
    "\"description\":\"Scope of namespace accessibility.\"},"
    "\"protected\":{\"type\":\"boolean\","
    "\"description\":\"If true, namespace will not be deletable.\"},"
    "\"owner\":{\"type\":\"string\",\"maxLength\":255,"
    "\"description\":\"Owner of the namespace.\"},"
    "\"created_at\":" TIME(
        "Date and time of namespace creation") ","
                                               "\"updated_at\":" TIME(
                                                   "Date and time of the last namespace "
                                                   "modification") ","
                                                                   "\"schema\":" LINK
                                                                   ",\"self\":" LINK ","
                                                                   "\"resource_type_associations\":"
                                                                   "{\"type\":\"array\",\"items\":{"
                                                                   "\"type\":\"object\","
                                                                   "\"properties\":{\"name\":{"
                                                                   "\"type\":\"string\"},"
                                                                   "\"prefix\":{\"type\":"
                                                                   "\"string\"},"
                                                                   "\"properties_target\":{"
                                                                   "\"type\":\"string\"}}}},"
                                                                   "\"properties\":{\"$ref\":\"#/"
                                                                   "definitions/property\"},"
                                                                   "\"objects\":{\"type\":"
                                                                   "\"array\",\"items\":{\"type\":"
                                                                   "\"object\",\"properties\":{"
                                                                   "\"name\":{\"type\":\"string\"},"
                                                                   "\"description\":{\"type\":"
                                                                   "\"string\"},"
                                                                   "\"required\":{\"$ref\":\"#/"
                                                                   "definitions/stringArray\"},"
                                                                   "\"properties\":{\"$ref\":\"#/"
                                                                   "definitions/property\"}}}},"
                                                                   "\"tags\":{\"type\":\"array\","
                                                                   "\"items\":{\"type\":\"object\","
                                                                   "\"properties\":{"
                                                                   "\"name\":{\"type\":\"string\"}}"
                                                                   "}}";

static const char object_fields[] =
    "\"name\":" NAME ",\"description\":{\"type\":\"string\"},"
    "\"required\":{\"$ref\":\"#/definitions/stringArray\"},"
    "\"properties\":{\"$ref\":\"#/definitions/property\"},"
    "\"schema\":" LINK ",\"self\":" LINK ","
    "\"created_at\":" TIME(
        "Date and time of object creation") ","
                                            "\"updated_at\":" TIME(
                                                "Date and time of the last object modification");

static const char property_fields[] = PROPERTY_FIELDS;

static const char tag_fields[] = "\"name\":" NAME ",\"created_at\":" TIME(
    "Date and time of tag creation") ","
                                     "\"updated_at\":" TIME(
                                         "Date and time of the last tag modification");

static const char association_fields[] =
    "\"name\":{\"type\":\"string\",\"maxLength\":80,\"description\":"
    "\"Name of the resource type; that of the orchestration service where it has one.\"},"
    "\"prefix\":{\"type\":\"string\",\"maxLength\":80,\"description\":"
    "\"Stands before the names of this namespace's properties when they are used on this resource "
    "type, with its separator (e.g. a colon :).\"},"
    "\"properties_target\":{\"type\":\"string\",\"maxLength\":80,\"description\":"
    "\"Which of several sets of metadata of the resource the properties are meant for, where it "
    "has more than one.\"},"
    "\"created_at\":" TIME(
        "Date and time of resource type association") ","
                                                      "\"updated_at\":" TIME(
                                                          "Date and time of the last resource type "
                                                          "association modification");

static const struct kind {
    const char *one, *many;           /* in the path */
    const char *one_name, *many_name; /* in the schema */
    const char *fields, *required;    /* required: inside of the brackets */
    const char *definitions;          /* or NULL */
    bool by_name;                     /* many: an object by name, not an array */
} kinds[] = {
    {"namespace", "namespaces", "namespace", "namespaces", namespace_fields, "\"namespace\"",
     definitions, false},
    {"object", "objects", "object", "objects", object_fields, "\"name\"", definitions, false},
    {"property", "properties", "property", "properties", property_fields,
     "\"name\",\"title\",\"type\"", definitions_base, true},
    {"tag", "tags", "tag", "tags", tag_fields, "\"name\"", NULL, false},
    {"resource_type", "resource_types", "resource_type_association", "resource_type_associations",
     association_fields, "\"name\"", NULL, false},
};

/* Without the closing brace. @required: inside of the brackets. */
static void add_one(struct buf *b, const struct kind *k, const char *required)
{
    const char *const pieces[] = {"{\"name\":\"",
                                  k->one_name,
                                  "\",\"properties\":{",
                                  k->fields,
                                  "},\"required\":[",
                                  required,
                                  "],\"additionalProperties\":false"};
    for (size_t i = 0; i < array_len(pieces); i++) {
        (void)buf_append_str(b, pieces[i]);
    }
}

static void add_definitions(struct buf *b, const struct kind *k)
{
    if (k->definitions != NULL) {
        (void)buf_append_str(b, ",\"definitions\":");
        (void)buf_append_str(b, k->definitions);
    }
}

static void add_many(struct buf *b, const struct kind *k)
{
    (void)buf_printf(b, "{\"name\":\"%s\",\"properties\":{\"%s\":", k->many_name, k->many_name);
    (void)buf_append_str(b, k->by_name ? "{\"type\":\"object\",\"additionalProperties\":"
                                       : "{\"type\":\"array\",\"items\":");
    add_one(b, k, k->by_name ? "\"title\",\"type\"" : k->required);
    (void)buf_append_str(b, "}},\"first\":{\"type\":\"string\"},\"next\":{\"type\":\"string\"},"
                            "\"schema\":{\"type\":\"string\"}},\"links\":["
                            "{\"rel\":\"first\",\"href\":\"{first}\"},"
                            "{\"rel\":\"next\",\"href\":\"{next}\"},"
                            "{\"rel\":\"describedby\",\"href\":\"{schema}\"}]");
    add_definitions(b, k);
}

char *metadef_schema_text(const char *name)
{
    struct buf b = {0};
    for (size_t i = 0; i < array_len(kinds); i++) {
        if (strcmp(kinds[i].one, name) == 0) {
            add_one(&b, &kinds[i], kinds[i].required);
            add_definitions(&b, &kinds[i]);
            (void)buf_append_str(&b, "}");
        } else if (strcmp(kinds[i].many, name) == 0) {
            add_many(&b, &kinds[i]);
            (void)buf_append_str(&b, "}");
        }
    }
    if (b.failed || b.size == 0) {
        buf_free(&b);
        return NULL;
    }
    return buf_detach(&b, NULL);
}

void metadef_schema(struct api_req *r)
{
    char *text = metadef_schema_text(r->args[0]);
    if (text == NULL) {
        api_errorf(r, TSR_ENOENT, "The resource could not be found.");
        return;
    }
    api_text(r, 200, "application/json", text);
    free(text);
}
