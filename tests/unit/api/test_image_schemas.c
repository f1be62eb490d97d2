/* The schemas that clients build their models from (image-api section 2.11). */
#include "test.h"

#include <stdlib.h>

#include "api/image_face.h"

static json_t *schema(const char *name)
{
    char *text = schema_text(name);
    check(text != NULL);
    json_t *value = json_parse(text, strlen(text));
    if (value == NULL) {
        print_error("%s\n", text);
    }
    check(value != NULL);
    check_str(json_str(value, "name"), name);
    free(text);
    return value;
}

static void every_schema_is_json_and_others_are_not_there(void **state)
{
    (void)state;
    static const char *const names[] = {"image", "images", "member", "members", "task", "tasks"};
    for (size_t i = 0; i < array_len(names); i++) {
        json_decref(schema(names[i]));
    }
    check(schema_text("nonsense") == NULL);
    check(schema_text("") == NULL);
}

static void the_image_schema_has_every_base_field_and_marks_the_others(void **state)
{
    (void)state;
    static const char *const base[] = {
        "id",         "name",         "status",        "visibility", "protected",
        "os_hidden",  "owner",        "disk_format",   "checksum",   "container_format",
        "min_disk",   "min_ram",      "tags",          "size",       "virtual_size",
        "created_at", "os_hash_algo", "os_hash_value", "updated_at", "self",
        "file",       "schema",       "stores",        "direct_url", "locations"};
    static const char *const extra[] = {"kernel_id",
                                        "ramdisk_id",
                                        "instance_uuid",
                                        "architecture",
                                        "os_distro",
                                        "os_version",
                                        "description",
                                        "cinder_encryption_key_id",
                                        "cinder_encryption_key_deletion_policy"};
    static const char *const read_only[] = {"status", "size", "checksum", "created_at",
                                            "self",   "file", "schema",   "stores"};
    json_t *image = schema("image");
    json_t *properties = json_obj(image, "properties");
    for (size_t i = 0; i < array_len(base); i++) {
        json_t *p = json_obj(properties, base[i]);
        check(p != NULL);
        check(json_object_get(p, "is_base") == NULL);
    }
    for (size_t i = 0; i < array_len(extra); i++) {
        check(json_is_false(json_object_get(json_obj(properties, extra[i]), "is_base")));
    }
    for (size_t i = 0; i < array_len(read_only); i++) {
        check(json_bool(json_obj(properties, read_only[i]), "readOnly", false));
    }
    json_t *formats = json_arr(json_obj(properties, "disk_format"), "enum");
    check(json_is_null(json_array_get(formats, 0)));
    check_int(json_array_size(formats), 12);
    check_int(json_array_size(json_arr(image, "links")), 3);
    check_str(json_str(json_obj(image, "additionalProperties"), "type"), "string");
    json_decref(image);
}

static void list_schemas_hold_the_schema_of_one(void **state)
{
    (void)state;
    json_t *images = schema("images"), *image = schema("image");
    json_t *properties = json_obj(images, "properties");
    check(json_equal(json_obj(json_obj(properties, "images"), "items"), image));
    check(json_obj(properties, "first") != NULL);
    check(json_obj(properties, "next") != NULL);
    check(json_obj(properties, "schema") != NULL);
    check_int(json_array_size(json_arr(images, "links")), 3);
    json_decref(images);
    json_decref(image);
}

static void metadata_definitions_have_schemas_of_one_and_of_many(void **state)
{
    (void)state;
    static const struct {
        const char *path, *name;
        bool definitions;
    } rows[] = {
        {"namespace", "namespace", true},
        {"namespaces", "namespaces", true},
        {"object", "object", true},
        {"objects", "objects", true},
        {"property", "property", true},
        {"properties", "properties", true},
        {"tag", "tag", false},
        {"tags", "tags", false},
        {"resource_type", "resource_type_association", false},
        {"resource_types", "resource_type_associations", false},
    };
    for (size_t i = 0; i < array_len(rows); i++) {
        char *text = metadef_schema_text(rows[i].path);
        check(text != NULL);
        json_t *value = json_parse(text, strlen(text));
        check(value != NULL);
        check_str(json_str(value, "name"), rows[i].name);
        check_int(json_obj(value, "definitions") != NULL, rows[i].definitions);
        bool many = i % 2 == 1;
        check_int(json_arr(value, "links") != NULL, many);
        check(!many || json_obj(json_obj(value, "properties"), rows[i].name) != NULL);
        check_int(json_arr(value, "required") != NULL, !many);
        json_decref(value);
        free(text);
    }
    check(metadef_schema_text("nonsense") == NULL);
    check(metadef_schema_text("") == NULL);
}

TEST_MAIN(cmocka_unit_test(metadata_definitions_have_schemas_of_one_and_of_many),
          cmocka_unit_test(every_schema_is_json_and_others_are_not_there),
          cmocka_unit_test(the_image_schema_has_every_base_field_and_marks_the_others),
          cmocka_unit_test(list_schemas_hold_the_schema_of_one))
