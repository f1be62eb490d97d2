/* GET /v2/schemas/{name}: JSON schemas that clients build their models from. glanceclient drops
 * what is readOnly from what it sends; Nova reads the enum of disk_format; Cinder takes properties
 * with "is_base": false for custom ones. Kept as text in pieces and joined per request. */
#include <stdlib.h>
#include <string.h>

#include "api/image_face.h"
#include "tessera/base/assert.h"
#include "tessera/base/buf.h"

struct property {
    const char *name, *schema;
};

#define UUID_PATTERN \
    "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"
#define DISK_FORMATS                                                                             \
    "[null,\"ami\",\"ari\",\"aki\",\"vhd\",\"vhdx\",\"vmdk\",\"raw\",\"qcow2\",\"vdi\",\"iso\"," \
    "\"ploop\"]"
#define CONTAINER_FORMATS \
    "[null,\"ami\",\"ari\",\"aki\",\"bare\",\"ovf\",\"ova\",\"docker\",\"compressed\"]"
#define TEXT(description) "{\"type\":\"string\",\"description\":\"" description "\"}"
#define READ_ONLY(description) \
    "{\"type\":\"string\",\"readOnly\":true,\"description\":\"" description "\"}"
#define EXTRA(description) \
    "{\"type\":\"string\",\"is_base\":false,\"description\":\"" description "\"}"

static const struct property image_properties[] = {
    {"id", "{\"type\":\"string\",\"pattern\":\"" UUID_PATTERN "\","
           "\"description\":\"An identifier for the image\"}"},
    {"name", "{\"type\":[\"null\",\"string\"],\"maxLength\":255,"
             "\"description\":\"Descriptive name for the image\"}"},
    {"status",
     "{\"type\":\"string\",\"readOnly\":true,\"enum\":[\"queued\",\"saving\",\"active\",\"killed\","
     "\"deleted\",\"uploading\",\"importing\",\"pending_delete\",\"deactivated\"],"
     "\"description\":\"Status of the image\"}"},
    {"visibility",
     "{\"type\":\"string\",\"enum\":[\"community\",\"public\",\"private\",\"shared\"],"
     "\"description\":\"Scope of image accessibility\"}"},
    {"protected",
     "{\"type\":\"boolean\",\"description\":\"If true, image will not be deletable.\"}"},
    {"os_hidden", "{\"type\":\"boolean\",\"description\":"
                  "\"If true, image will not appear in default image list response.\"}"},
    {"checksum", "{\"type\":[\"null\",\"string\"],\"readOnly\":true,\"maxLength\":32,"
                 "\"description\":\"md5 hash of image contents.\"}"},
    {"os_hash_algo", "{\"type\":[\"null\",\"string\"],\"readOnly\":true,\"maxLength\":64,"
                     "\"description\":\"Algorithm to calculate os_hash_value\"}"},
    {"os_hash_value", "{\"type\":[\"null\",\"string\"],\"readOnly\":true,\"maxLength\":128,"
                      "\"description\":\"Hexdigest of the image contents\"}"},
    {"owner", "{\"type\":[\"null\",\"string\"],\"maxLength\":255,"
              "\"description\":\"Owner of the image\"}"},
    {"size", "{\"type\":[\"null\",\"integer\"],\"readOnly\":true,"
             "\"description\":\"Size of image file in bytes\"}"},
    {"virtual_size", "{\"type\":[\"null\",\"integer\"],\"readOnly\":true,"
                     "\"description\":\"Virtual size of image in bytes\"}"},
    {"container_format", "{\"type\":[\"null\",\"string\"],\"enum\":" CONTAINER_FORMATS ","
                         "\"description\":\"Format of the container\"}"},
    {"disk_format", "{\"type\":[\"null\",\"string\"],\"enum\":" DISK_FORMATS ","
                    "\"description\":\"Format of the disk\"}"},
    {"created_at", READ_ONLY("Date and time of image registration")},
    {"updated_at", READ_ONLY("Date and time of the last image modification")},
    {"tags", "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":255},"
             "\"description\":\"List of strings related to the image\"}"},
    {"direct_url", READ_ONLY("URL to access the image file kept in external store")},
    {"min_ram", "{\"type\":\"integer\",\"minimum\":0,\"maximum\":2147483647,"
                "\"description\":\"Amount of ram (in MB) required to boot image.\"}"},
    {"min_disk", "{\"type\":\"integer\",\"minimum\":0,\"maximum\":2147483647,"
                 "\"description\":\"Amount of disk space (in GB) required to boot image.\"}"},
    {"self", READ_ONLY("An image self url")},
    {"file", READ_ONLY("An image file url")},
    {"schema", READ_ONLY("An image schema url")},
    {"stores", READ_ONLY("Store in which image data resides. Only present when the operator has "
                         "enabled multiple stores. May be a comma-separated list of store "
                         "identifiers.")},
    {"locations",
     "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"url\",\"metadata\"],"
     "\"properties\":{\"url\":{\"type\":\"string\",\"maxLength\":255},\"metadata\":{\"type\":"
     "\"object\"},\"validation_data\":{\"type\":\"object\",\"additionalProperties\":false,"
     "\"required\":[\"os_hash_algo\",\"os_hash_value\"],\"properties\":{\"checksum\":{\"type\":"
     "\"string\",\"minLength\":32,\"maxLength\":32},\"os_hash_algo\":{\"type\":\"string\","
     "\"maxLength\":64},\"os_hash_value\":{\"type\":\"string\",\"maxLength\":128}}}}},"
     "\"description\":\"A set of URLs to access the image file kept in external store\"}"},
    {"kernel_id", "{\"type\":[\"null\",\"string\"],\"pattern\":\"" UUID_PATTERN "\","
                  "\"is_base\":false,\"description\":\"ID of image stored in Glance that should be "
                  "used as the kernel when booting an AMI-style image.\"}"},
    {"ramdisk_id", "{\"type\":[\"null\",\"string\"],\"pattern\":\"" UUID_PATTERN "\","
                   "\"is_base\":false,\"description\":\"ID of image stored in Glance that should "
                   "be used as the ramdisk when booting an AMI-style image.\"}"},
    {"instance_uuid", EXTRA("Metadata which can be used to record which instance this image is "
                            "associated with. (Informational only, does not create an instance "
                            "snapshot.)")},
    {"architecture", EXTRA("Operating system architecture as specified in "
                           "https://docs.openstack.org/python-glanceclient/latest/cli/"
                           "property-keys.html")},
    {"os_distro", EXTRA("Common name of operating system distribution")},
    {"os_version", EXTRA("Operating system version as specified by the distributor.")},
    {"description", EXTRA("A human-readable string describing this image.")},
    {"cinder_encryption_key_id",
     EXTRA("Identifier in the OpenStack Key Management Service for the encryption key for the "
           "Block Storage Service to use when mounting a volume created from this image")},
    {"cinder_encryption_key_deletion_policy",
     "{\"type\":\"string\",\"enum\":[\"on_image_deletion\",\"do_not_delete\"],\"is_base\":false,"
     "\"description\":\"States the condition under which the Image Service will delete the object "
     "associated with the 'cinder_encryption_key_id' image property.\"}"},
};

static const struct property member_properties[] = {
    {"member_id", TEXT("An identifier for the image member (tenantId)")},
    {"image_id", "{\"type\":\"string\",\"pattern\":\"" UUID_PATTERN "\","
                 "\"description\":\"An identifier for the image\"}"},
    {"created_at", TEXT("Date and time of image member creation")},
    {"updated_at", TEXT("Date and time of last modification of image member")},
    {"status", "{\"type\":\"string\",\"enum\":[\"pending\",\"accepted\",\"rejected\"],"
               "\"description\":\"The status of this image member\"}"},
    {"schema", "{\"type\":\"string\",\"readOnly\":true}"},
};

static const struct property task_properties[] = {
    {"id", "{\"type\":\"string\",\"pattern\":\"" UUID_PATTERN "\","
           "\"description\":\"An identifier for the task\"}"},
    {"type", "{\"type\":\"string\",\"enum\":[\"import\",\"api_image_import\",\"location_import\"],"
             "\"description\":\"The type of task represented by this content\"}"},
    {"status", "{\"type\":\"string\",\"enum\":[\"pending\",\"processing\",\"success\",\"failure\"],"
               "\"description\":\"The current status of this task\"}"},
    {"input", "{\"type\":[\"null\",\"object\"],"
              "\"description\":\"The parameters required by task, JSON blob\"}"},
    {"result", "{\"type\":[\"null\",\"object\"],"
               "\"description\":\"The result of current task, JSON blob\"}"},
    {"owner", TEXT("An identifier for the owner of this task")},
    {"message", TEXT("Human-readable informative message only included when appropriate (usually "
                     "on failure)")},
    {"image_id", TEXT("Image associated with the task")},
    {"request_id", TEXT("Human-readable informative request-id")},
    {"user_id", TEXT("User associated with the task")},
    {"bytes_done", "{\"type\":\"integer\",\"description\":"
                   "\"Bytes that have been copied, while the task runs\"}"},
    {"bytes_total", "{\"type\":[\"null\",\"integer\"],\"description\":"
                    "\"Bytes that are to be copied, if that is known\"}"},
    {"expires_at", "{\"type\":[\"null\",\"string\"],\"description\":"
                   "\"Datetime when this resource would be subject to removal\"}"},
    {"created_at", TEXT("Datetime when this resource was created")},
    {"updated_at", TEXT("Datetime when this resource was updated")},
    {"self", "{\"type\":\"string\",\"readOnly\":true}"},
    {"schema", "{\"type\":\"string\",\"readOnly\":true}"},
};

/* One thing's schema, and that of a list of it. */
static const struct kind {
    const char *one, *many;
    const struct property *properties;
    size_t property_count;
    const char *rest;      /* of the schema of one */
    const char *rest_many; /* of the schema of many, with its properties besides the list */
} kinds[] = {
    {"image", "images", image_properties, array_len(image_properties),
     ",\"additionalProperties\":{\"type\":\"string\"},\"links\":[{\"rel\":\"self\",\"href\":\"{"
     "self}\"},"
     "{\"rel\":\"enclosure\",\"href\":\"{file}\"},{\"rel\":\"describedby\",\"href\":\"{schema}\"}]",
     ",\"first\":{\"type\":\"string\"},\"next\":{\"type\":\"string\"},\"schema\":{\"type\":"
     "\"string\"}},"
     "\"links\":[{\"rel\":\"first\",\"href\":\"{first}\"},{\"rel\":\"next\",\"href\":\"{next}\"},"
     "{\"rel\":\"describedby\",\"href\":\"{schema}\"}]"},
    {"member", "members", member_properties, array_len(member_properties), "",
     ",\"schema\":{\"type\":\"string\"}},\"links\":[{\"rel\":\"describedby\",\"href\":\"{schema}\"}"
     "]"},
    {"task", "tasks", task_properties, array_len(task_properties), "",
     ",\"schema\":{\"type\":\"string\"}},\"links\":[{\"rel\":\"describedby\",\"href\":\"{schema}\"}"
     "]"},
};

static void add_one(struct buf *b, const struct kind *k)
{
    (void)buf_printf(b, "{\"name\":\"%s\",\"properties\":{", k->one);
    for (size_t i = 0; i < k->property_count; i++) {
        (void)buf_printf(b, "%s\"%s\":", i == 0 ? "" : ",", k->properties[i].name);
        (void)buf_append_str(b, k->properties[i].schema);
    }
    (void)buf_append_str(b, "}");
    (void)buf_append_str(b, k->rest);
    (void)buf_append_str(b, "}");
}

static void add_many(struct buf *b, const struct kind *k)
{
    (void)buf_printf(b, "{\"name\":\"%s\",\"properties\":{\"%s\":{\"type\":\"array\",\"items\":",
                     k->many, k->many);
    add_one(b, k);
    (void)buf_append_str(b, "}");
    (void)buf_append_str(b, k->rest_many);
    (void)buf_append_str(b, "}");
}

char *schema_text(const char *name)
{
    struct buf b = {0};
    for (size_t i = 0; i < array_len(kinds); i++) {
        if (strcmp(kinds[i].one, name) == 0) {
            add_one(&b, &kinds[i]);
        } else if (strcmp(kinds[i].many, name) == 0) {
            add_many(&b, &kinds[i]);
        }
    }
    if (b.failed || b.size == 0) {
        buf_free(&b);
        return NULL;
    }
    return buf_detach(&b, NULL);
}

/* The format that an operator may offer besides. Takes @text; NULL: out of memory. */
static char *with_gpt(char *text)
{
    static const char last[] = "\"ploop\"";
    struct buf b = {0};
    const char *at = text, *next;
    while ((next = strstr(at, last)) != NULL) {
        next += sizeof(last) - 1;
        (void)buf_append(&b, at, (size_t)(next - at));
        (void)buf_append_str(&b, ",\"gpt\"");
        at = next;
    }
    (void)buf_append_str(&b, at);
    free(text);
    if (b.failed) {
        buf_free(&b);
        return NULL;
    }
    return buf_detach(&b, NULL);
}

void image_schema(struct api_req *r)
{
    char *text = schema_text(r->args[0]);
    if (text != NULL && r->o->image->limits->gpt_allowed) {
        text = with_gpt(text);
    }
    if (text == NULL) {
        api_errorf(r, TSR_ENOENT, "The resource could not be found.");
        return;
    }
    api_text(r, 200, "application/json", text);
    free(text);
}
