/* Bodies of POST /v2/images: accepted, defaulted, refused (image-api sections 3.1 to 3.3). */
#include "test.h"

#include <stdlib.h>

#include "image/create.h"
#include "image/render.h"

static const struct image_limits limits = {.property_quota = 3, .tag_quota = 2};
static const char fresh[] = "11111111-2222-4333-8444-555555555555";

static struct caller caller_of(unsigned roles)
{
    struct caller c = {.scope = SCOPE_PROJECT, .roles = roles};
    (void)snprintf(c.project_id, sizeof(c.project_id), "p1");
    return c;
}

enum { MEMBER = ROLE_MEMBER | ROLE_READER, ADMIN = ROLE_ADMIN | ROLE_MEMBER | ROLE_READER };

static char *create(const char *text, unsigned roles, int want)
{
    struct err err = {0};
    struct caller caller = caller_of(roles);
    json_t *body = json_parse(text, strlen(text)), *image = NULL;
    check(body != NULL);
    int rv = create_evaluate(body, &caller, &limits, fresh, &image, &err);
    if (rv != want) {
        print_error("%s: %s (%s)\n", text, err_name(rv), err.msg);
    }
    check_code(rv, want);
    check(rv == 0 || err.msg[0] != '\0');
    char *out = image != NULL ? json_text(image, NULL) : NULL;
    json_decref(image);
    json_decref(body);
    return out;
}

static void gives(const char *text, unsigned roles, const char *want)
{
    char *got = create(text, roles, 0);
    check_str(got, want);
    free(got);
}

static void refused(const char *text, unsigned roles, int code)
{
    check(create(text, roles, code) == NULL);
}

#define ID "\"id\":\"11111111-2222-4333-8444-555555555555\""

static void an_empty_body_makes_an_image_of_the_callers_project(void **state)
{
    (void)state;
    gives("{}", MEMBER, "{" ID ",\"owner\":\"p1\",\"props\":{}}");
}

static void fields_and_custom_properties_are_told_apart(void **state)
{
    (void)state;
    gives("{\"name\":\"\",\"min_disk\":1.0,\"tags\":[\"b\",\"b\"],\"os_hash_algo\":\"sha512\","
          "\"properties\":\"text\",\"owner_specified.openstack.md5\":\"\",\"kernel_id\":null,"
          "\"disk_format\":\"ami\",\"container_format\":\"bare\"}",
          MEMBER,
          "{\"container_format\":\"bare\",\"disk_format\":\"ami\"," ID ",\"min_disk\":1,"
          "\"name\":\"\",\"owner\":\"p1\",\"props\":{\"kernel_id\":null,"
          "\"owner_specified.openstack.md5\":\"\",\"properties\":\"text\"},\"tags\":[\"b\"]}");
    gives("{\"id\":\"AAAAAAAA-2222-4333-8444-555555555555\",\"owner\":null}", ADMIN,
          "{\"id\":\"AAAAAAAA-2222-4333-8444-555555555555\",\"owner\":null,\"props\":{}}");
}

static void wrong_shapes_come_before_forbidden_names(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "[]",
        "\"x\"",
        "3",
        "{\"deleted\":true}",
        "{\"status\":\"nonsense\"}",
        "{\"size\":\"1\"}",
        "{\"id\":\"x\"}",
        "{\"name\":1}",
        "{\"visibility\":\"Public\"}",
        "{\"visibility\":null}",
        "{\"protected\":\"true\"}",
        "{\"os_hidden\":1}",
        "{\"disk_format\":\"QCOW2\"}",
        "{\"min_disk\":null}",
        "{\"min_disk\":\"1\"}",
        "{\"min_disk\":1.5}",
        "{\"min_disk\":true}",
        "{\"min_disk\":-1}",
        "{\"min_ram\":2147483648}",
        "{\"min_ram\":1e300}",
        "{\"tags\":null}",
        "{\"tags\":\"a\"}",
        "{\"tags\":[1]}",
        "{\"x\":1}",
        "{\"x\":null}",
        "{\"x\":[]}",
        "{\"\":\"1\"}",
        "{\"kernel_id\":\"abc\"}",
        "{\"cinder_encryption_key_deletion_policy\":\"x\"}",
        "{\"os_glance_x\":1}",
        "{\"locations\":\"x\"}",
        "{\"os_hash_algo\":1}",
        "{\"status\":\"active\",\"x\":1}",
    };
    for (size_t i = 0; i < array_len(bad); i++) {
        refused(bad[i], ADMIN, TSR_EINVAL);
    }
}

static void names_that_are_not_the_clients_are_forbidden(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{\"status\":\"queued\"}",   "{\"size\":1}",           "{\"size\":null}",
        "{\"virtual_size\":1}",      "{\"checksum\":null}",    "{\"created_at\":\"x\"}",
        "{\"updated_at\":\"x\"}",    "{\"self\":\"x\"}",       "{\"file\":\"x\"}",
        "{\"schema\":\"x\"}",        "{\"direct_url\":\"x\"}", "{\"stores\":\"x\"}",
        "{\"location\":\"x\"}",      "{\"deleted\":\"x\"}",    "{\"deleted_at\":\"x\"}",
        "{\"os_glance_foo\":\"x\"}", "{\"locations\":[]}",
    };
    for (size_t i = 0; i < array_len(bad); i++) {
        refused(bad[i], ADMIN, TSR_EFORBIDDEN);
    }
}

static void rights_decide_about_publishing_and_owners(void **state)
{
    (void)state;
    refused("{}", ROLE_READER, TSR_EFORBIDDEN);
    refused("{\"visibility\":\"public\"}", MEMBER, TSR_EFORBIDDEN);
    refused("{\"owner\":\"p2\"}", MEMBER, TSR_EFORBIDDEN);
    refused("{\"owner\":null}", MEMBER, TSR_EFORBIDDEN);
    gives("{\"owner\":\"p1\",\"visibility\":\"community\"}", MEMBER,
          "{" ID ",\"owner\":\"p1\",\"props\":{},\"visibility\":\"community\"}");
    gives("{\"owner\":\"p2\",\"visibility\":\"public\"}", ADMIN,
          "{" ID ",\"owner\":\"p2\",\"props\":{},\"visibility\":\"public\"}");
}

static void limits_are_counted_before_doubles_are_dropped(void **state)
{
    (void)state;
    refused("{\"tags\":[\"a\",\"a\",\"a\"]}", MEMBER, TSR_ETOOBIG);
    refused("{\"a\":\"\",\"b\":\"\",\"c\":\"\",\"d\":\"\"}", MEMBER, TSR_ETOOBIG);
}

static void lengths_are_counted_in_characters(void **state)
{
    (void)state;
    char body[1400], name[600];
    size_t n = 0;
    for (size_t i = 0; i < 255; i++) {
        n += (size_t)snprintf(name + n, sizeof(name) - n, "\xc3\xa9");
    }
    (void)snprintf(body, sizeof(body), "{\"name\":\"%s\",\"%s\":\"v\"}", name, name);
    free(create(body, MEMBER, 0));
    (void)snprintf(body, sizeof(body), "{\"name\":\"%sx\"}", name);
    refused(body, MEMBER, TSR_EINVAL);
    (void)snprintf(body, sizeof(body), "{\"%sx\":\"v\"}", name);
    refused(body, MEMBER, TSR_EINVAL);
}

static void a_record_is_shown_flat_with_times_and_links(void **state)
{
    (void)state;
    static const char text[] =
        "{\"id\":\"i\",\"name\":null,\"status\":\"queued\",\"visibility\":\"shared\","
        "\"protected\":false,\"os_hidden\":false,\"owner\":\"p\",\"disk_format\":null,"
        "\"container_format\":null,\"min_disk\":0,\"min_ram\":0,\"tags\":[],"
        "\"props\":{\"a\":\"b\"},\"size\":null,\"virtual_size\":null,\"checksum\":null,"
        "\"os_hash_algo\":null,\"os_hash_value\":null,\"created_at\":1704164645000001,"
        "\"updated_at\":1704164646999999,\"version\":1,\"manifest\":null,\"placement\":[],"
        "\"replicas\":{},\"session\":null}";
    json_t *record = json_parse(text, strlen(text));
    json_t *image = image_render(record);
    char *shown = json_text(image, NULL);
    check_str(shown,
              "{\"a\":\"b\",\"checksum\":null,\"container_format\":null,"
              "\"created_at\":\"2024-01-02T03:04:05Z\",\"disk_format\":null,"
              "\"file\":\"/v2/images/i/file\",\"id\":\"i\",\"min_disk\":0,\"min_ram\":0,"
              "\"name\":null,\"os_hash_algo\":null,\"os_hash_value\":null,\"os_hidden\":false,"
              "\"owner\":\"p\",\"protected\":false,\"schema\":\"/v2/schemas/image\","
              "\"self\":\"/v2/images/i\",\"size\":null,\"status\":\"queued\",\"tags\":[],"
              "\"updated_at\":\"2024-01-02T03:04:06Z\",\"virtual_size\":null,"
              "\"visibility\":\"shared\"}");
    free(shown);
    json_decref(image);
    json_decref(record);
}

/* Both renderings of one record. */
static void check_renderings(const json_t *record, const char *store)
{
    struct meta_text text;
    struct buf out = {0};
    json_t *tree = image_render(record);
    const char *status = json_str_or(record, "status", "");
    if (store != NULL && (strcmp(status, "active") == 0 || strcmp(status, "deactivated") == 0)) {
        json_set_str(tree, "stores", "here");
    }
    char *stored = json_text(record, &text.size);
    text.text = stored;
    check_ok(image_render_text(&text, store, &out));
    json_t *shown = json_parse(out.data, out.size); /* refuses doubles */
    check(shown != NULL && json_equal(tree, shown));
    for (size_t cut = 0; cut < text.size; cut++) {
        struct meta_text part = {stored, cut};
        buf_clear(&out);
        check_code(image_render_text(&part, store, &out), TSR_ECORRUPT);
    }
    json_decref(shown);
    json_decref(tree);
    free(stored);
    buf_free(&out);
}

static void a_record_is_shown_alike_from_its_text(void **state)
{
    (void)state;
    static const char *const props[] = {
        "{}",
        "{\"a\":\"b\",\"z\":\"\\\"quoted\\\\\"}",
        "{\"stores\":\"mine\",\"self\":\"x\",\"file\":\"y\",\"schema\":\"z\"}",
        "{\"name\":\"n\",\"created_at\":\"c\",\"props\":\"p\",\"version\":\"v\",\"a\\\"b\":\"\"}",
    };
    static const char *const statuses[] = {"queued", "active", "deactivated"};
    for (size_t i = 0; i < array_len(props); i++) {
        for (size_t k = 0; k < array_len(statuses); k++) {
            json_t *record = json_pack(
                "{s:s,s:s,s:s,s:s,s:b,s:b,s:n,s:n,s:s,s:i,s:i,s:[s,s],s:o,s:I,s:n,s:n,s:n,s:n,s:I,"
                "s:I,s:i,s:n,s:[i],s:{s:s},s:n}",
                "id", "8f2b0f3a-0a5e-4ab4-9a43-000000000001", "name", "\xc3\xa4\"\n", "status",
                statuses[k], "visibility", "shared", "protected", 0, "os_hidden", 1, "owner",
                "disk_format", "container_format", "bare", "min_disk", 0, "min_ram", 7, "tags", "a",
                "\"]", "props", json_parse(props[i], strlen(props[i])), "size", (json_int_t)1 << 40,
                "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "created_at",
                (json_int_t)1704164645000001, "updated_at", (json_int_t)1704164646999999, "version",
                3, "manifest", "placement", 2, "replicas", "2", "present", "session");
            check(record != NULL);
            check_renderings(record, NULL);
            check_renderings(record, "\"here\"");
            json_decref(record);
        }
    }
}

TEST_MAIN(cmocka_unit_test(a_record_is_shown_alike_from_its_text),
          cmocka_unit_test(an_empty_body_makes_an_image_of_the_callers_project),
          cmocka_unit_test(fields_and_custom_properties_are_told_apart),
          cmocka_unit_test(wrong_shapes_come_before_forbidden_names),
          cmocka_unit_test(names_that_are_not_the_clients_are_forbidden),
          cmocka_unit_test(rights_decide_about_publishing_and_owners),
          cmocka_unit_test(limits_are_counted_before_doubles_are_dropped),
          cmocka_unit_test(lengths_are_counted_in_characters),
          cmocka_unit_test(a_record_is_shown_flat_with_times_and_links))
