/* Patches: the envelopes, what may change, what is refused (image-api section 5). */
#include "test.h"

#include <stdlib.h>

#include "image/patch.h"

static const struct image_limits limits = {
    .property_quota = 3, .tag_quota = 3, .image_size_cap = 1000};

static struct caller caller_of(const char *project, unsigned roles)
{
    struct caller c = {.scope = SCOPE_PROJECT, .roles = roles};
    (void)snprintf(c.project_id, sizeof(c.project_id), "%s", project);
    return c;
}

static json_t *parse(const char *text)
{
    json_t *value = json_parse(text, strlen(text));
    check(value != NULL);
    return value;
}

static json_t *record_of(const char *status)
{
    json_t *r = parse("{\"id\":\"8c2e4bd9-2a4b-4b1c-9d1a-5a5f3f0a9c11\",\"name\":\"n\","
                      "\"visibility\":\"shared\",\"protected\":false,\"os_hidden\":false,"
                      "\"owner\":\"p1\",\"disk_format\":\"raw\",\"container_format\":\"bare\","
                      "\"min_disk\":0,\"min_ram\":0,\"tags\":[\"a\",\"b\"],"
                      "\"props\":{\"x\":\"1\"},\"version\":7}");
    json_object_set_new(r, "status", json_string(status));
    return r;
}

/* Parse and evaluate; checks the code; returns "set props_set props_unset" or "". */
static char *evaluate(const char *patch, bool v2_0, const char *status, struct caller caller,
                      int want)
{
    struct err err = {0};
    json_t *body = parse(patch), *ops = NULL, *command = NULL, *record = record_of(status);
    int rv = image_patch_parse(body, v2_0, &ops, &err);
    if (rv == 0) {
        rv = patch_evaluate(record, &caller, ops, v2_0, &limits, &command, &err);
    }
    if (rv != want) {
        print_error("%s: %s (%s)\n", patch, err_name(rv), err.msg);
    }
    check_code(rv, want);
    check(rv == 0 || err.msg[0] != '\0');
    char *text = NULL;
    if (command != NULL) {
        check_str(json_str(command, "op"), "image.update");
        check_int(json_int(command, "version", -1), 7);
        json_t *parts = json_pack("[O, O, O]", json_object_get(command, "set"),
                                  json_object_get(command, "props_set"),
                                  json_object_get(command, "props_unset"));
        text = json_text(parts, NULL);
        json_decref(parts);
    }
    json_decref(command);
    json_decref(record);
    json_decref(ops);
    json_decref(body);
    return text;
}

static void expect(const char *patch, const char *status, unsigned roles, int code,
                   const char *command)
{
    char *got = evaluate(patch, false, status, caller_of("p1", roles), code);
    check_str(got, command);
    free(got);
}

static void expect_v20(const char *patch, int code, const char *command)
{
    char *got = evaluate(patch, true, "queued", caller_of("p1", ROLE_MEMBER | ROLE_READER), code);
    check_str(got, command);
    free(got);
}

enum { MEMBER = ROLE_MEMBER | ROLE_READER, ADMIN = ROLE_ADMIN | ROLE_MEMBER | ROLE_READER };

#define OP(op, path) "[{\"op\":\"" op "\",\"path\":\"" path "\"}]"
#define OPV(op, path, value) "[{\"op\":\"" op "\",\"path\":\"" path "\",\"value\":" value "}]"

static void envelopes_of_wrong_form_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{}",
        "[1]",
        "[{\"path\":\"/x\",\"value\":\"1\"}]",
        OPV("test", "/x", "\"1\""),
        OPV("move", "/x", "\"1\""),
        "[{\"op\":\"add\",\"value\":\"1\"}]",
        OPV("add", "x", "\"1\""),
        OPV("add", "", "\"1\""),
        OPV("add", "//", "\"1\""),
        OPV("add", "//x", "\"1\""),
        OPV("add", "/x/", "\"1\""),
        OPV("add", "/x~2", "\"1\""),
        OPV("add", "/x~", "\"1\""),
        OPV("add", "/x/y", "\"1\""),
        OP("add", "/x"),
        OP("replace", "/name"),
        OPV("add", "/locations", "[]"),
        OP("remove", "/locations"),
        OPV("replace", "/locations/0", "[]"),
        OPV("add", "/locations/-", "{\"url\":\"u\"}"),
        OPV("add", "/locations/0/1", "{\"url\":\"u\",\"metadata\":{}}"),
    };
    for (size_t i = 0; i < array_len(bad); i++) {
        expect(bad[i], "queued", MEMBER, TSR_EINVAL, NULL);
    }
}

static void an_empty_patch_changes_nothing(void **state)
{
    (void)state;
    expect("[]", "active", MEMBER, 0, NULL);
    expect(OPV("replace", "/name", "\"n\""), "active", MEMBER, 0, NULL);
    expect(OPV("replace", "/tags", "[\"b\",\"a\",\"b\"]"), "active", MEMBER, 0, NULL);
}

static void base_fields_are_set_by_add_and_replace_and_never_removed(void **state)
{
    (void)state;
    expect(OPV("add", "/name", "\"m\""), "active", MEMBER, 0, "[{\"name\":\"m\"},{},[]]");
    expect(OPV("replace", "/name", "null"), "active", MEMBER, 0, "[{\"name\":null},{},[]]");
    expect(OPV("replace", "/min_disk", "5.0"), "active", MEMBER, 0, "[{\"min_disk\":5},{},[]]");
    expect(OPV("replace", "/tags", "[\"c\",\"a\",\"c\"]"), "active", MEMBER, 0,
           "[{\"tags\":[\"a\",\"c\"]},{},[]]");
    expect(OPV("replace", "/os_hidden", "true"), "active", MEMBER, 0,
           "[{\"os_hidden\":true},{},[]]");
    static const char *const kept[] = {"/name",       "/min_disk",    "/min_ram",
                                       "/visibility", "/protected",   "/os_hidden",
                                       "/tags",       "/disk_format", "/owner"};
    for (size_t i = 0; i < array_len(kept); i++) {
        char patch[128];
        (void)snprintf(patch, sizeof(patch), OP("remove", "%s"), kept[i]);
        expect(patch, "queued", ADMIN, TSR_EFORBIDDEN, NULL);
    }
}

static void values_of_wrong_type_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        OPV("replace", "/min_disk", "null"),
        OPV("replace", "/min_disk", "\"1\""),
        OPV("replace", "/min_disk", "1.5"),
        OPV("replace", "/min_disk", "true"),
        OPV("replace", "/min_ram", "-1"),
        OPV("replace", "/min_ram", "2147483648"),
        OPV("replace", "/protected", "\"true\""),
        OPV("replace", "/visibility", "null"),
        OPV("replace", "/visibility", "\"x\""),
        OPV("replace", "/tags", "null"),
        OPV("replace", "/tags", "[1]"),
        OPV("replace", "/disk_format", "\"RAW\""),
        OPV("add", "/y", "1"),
        OPV("add", "/y", "null"),
        OPV("add", "/y", "{}"),
        OPV("add", "/kernel_id", "\"x\""),
        OPV("replace", "/name", "1"),
    };
    for (size_t i = 0; i < array_len(bad); i++) {
        expect(bad[i], "queued", ADMIN, TSR_EINVAL, NULL);
    }
}

static void read_only_and_reserved_names_are_forbidden(void **state)
{
    (void)state;
    static const char *const names[] = {
        "id",         "status",     "size",     "virtual_size", "checksum",   "os_hash_algo",
        "created_at", "updated_at", "self",     "file",         "schema",     "os_hash_value",
        "direct_url", "stores",     "location", "deleted",      "deleted_at", "os_glance_import",
    };
    for (size_t i = 0; i < array_len(names); i++) {
        char patch[160];
        (void)snprintf(patch, sizeof(patch), OPV("add", "/%s", "\"v\""), names[i]);
        expect(patch, "queued", ADMIN, TSR_EFORBIDDEN, NULL);
        (void)snprintf(patch, sizeof(patch), OP("remove", "/%s"), names[i]);
        expect(patch, "queued", ADMIN, TSR_EFORBIDDEN, NULL);
    }
    expect(OPV("add", "/locations/-", "{\"url\":\"u\",\"metadata\":{}}"), "queued", ADMIN,
           TSR_EFORBIDDEN, NULL);
    expect(OPV("replace", "/locations", "[]"), "queued", ADMIN, TSR_EFORBIDDEN, NULL);
    expect(OP("remove", "/locations/0"), "queued", MEMBER, TSR_EFORBIDDEN, NULL);
}

static void formats_change_only_before_there_is_data(void **state)
{
    (void)state;
    expect(OPV("replace", "/disk_format", "\"qcow2\""), "queued", MEMBER, 0,
           "[{\"disk_format\":\"qcow2\"},{},[]]");
    expect(OPV("replace", "/disk_format", "null"), "queued", MEMBER, 0,
           "[{\"disk_format\":null},{},[]]");
    expect(OPV("replace", "/disk_format", "\"raw\""), "active", ADMIN, TSR_EFORBIDDEN, NULL);
    expect(OPV("add", "/container_format", "\"ovf\""), "saving", MEMBER, TSR_EFORBIDDEN, NULL);
}

static void only_administrators_change_owner_and_publish(void **state)
{
    (void)state;
    expect(OPV("replace", "/owner", "\"p1\""), "active", MEMBER, TSR_EFORBIDDEN, NULL);
    expect(OPV("replace", "/owner", "null"), "active", ADMIN, 0, "[{\"owner\":null},{},[]]");
    expect(OPV("replace", "/visibility", "\"public\""), "active", MEMBER, TSR_EFORBIDDEN, NULL);
    expect(OPV("replace", "/visibility", "\"public\""), "active", ADMIN, 0,
           "[{\"visibility\":\"public\"},{},[]]");
    expect(OPV("replace", "/visibility", "\"community\""), "active", MEMBER, 0,
           "[{\"visibility\":\"community\"},{},[]]");
}

static void custom_properties_are_added_replaced_and_removed(void **state)
{
    (void)state;
    expect(OPV("add", "/y", "\"2\""), "active", MEMBER, 0, "[{},{\"y\":\"2\"},[]]");
    expect(OPV("add", "/x", "\"2\""), "active", MEMBER, 0, "[{},{\"x\":\"2\"},[]]");
    expect(OPV("replace", "/x", "\"\""), "active", MEMBER, 0, "[{},{\"x\":\"\"},[]]");
    expect(OP("remove", "/x"), "active", MEMBER, 0, "[{},{},[\"x\"]]");
    expect(OPV("replace", "/y", "\"2\""), "active", MEMBER, TSR_ECONFLICT, NULL);
    expect(OP("remove", "/y"), "active", MEMBER, TSR_ECONFLICT, NULL);
    expect(OPV("add", "/a~1b~0c", "\"2\""), "active", MEMBER, 0, "[{},{\"a/b~c\":\"2\"},[]]");
    expect(OPV("add", "/ y ", "\"2\""), "active", MEMBER, 0, "[{},{\"y\":\"2\"},[]]");
    expect(OPV("add", "/", "\"2\""), "active", MEMBER, 0, "[{},{\"\":\"2\"},[]]");
    expect(OPV("add", "/member", "\"2\""), "active", MEMBER, 0, "[{},{\"member\":\"2\"},[]]");
    expect(OPV("add", "/ramdisk_id", "null"), "active", MEMBER, 0, "[{},{\"ramdisk_id\":null},[]]");
}

static void operations_run_in_order_and_all_or_nothing(void **state)
{
    (void)state;
    expect(
        "[{\"op\":\"add\",\"path\":\"/y\",\"value\":\"1\"},"
        "{\"op\":\"replace\",\"path\":\"/y\",\"value\":\"2\"},{\"op\":\"remove\",\"path\":\"/x\"}]",
        "active", MEMBER, 0, "[{},{\"y\":\"2\"},[\"x\"]]");
    expect("[{\"op\":\"add\",\"path\":\"/y\",\"value\":\"1\"},{\"op\":\"remove\",\"path\":\"/y\"}]",
           "active", MEMBER, 0, NULL);
    expect("[{\"op\":\"add\",\"path\":\"/y\",\"value\":\"1\"},"
           "{\"op\":\"replace\",\"path\":\"/status\",\"value\":\"active\"}]",
           "active", MEMBER, TSR_EFORBIDDEN, NULL);
}

static void limits_count_what_the_patch_leaves(void **state)
{
    (void)state;
    expect("[{\"op\":\"add\",\"path\":\"/a\",\"value\":\"1\"},"
           "{\"op\":\"add\",\"path\":\"/b\",\"value\":\"1\"},"
           "{\"op\":\"add\",\"path\":\"/c\",\"value\":\"1\"}]",
           "active", MEMBER, TSR_ETOOBIG, NULL);
    expect("[{\"op\":\"add\",\"path\":\"/a\",\"value\":\"1\"},"
           "{\"op\":\"add\",\"path\":\"/b\",\"value\":\"1\"},"
           "{\"op\":\"add\",\"path\":\"/c\",\"value\":\"1\"},{\"op\":\"remove\",\"path\":\"/x\"}]",
           "active", MEMBER, 0, "[{},{\"a\":\"1\",\"b\":\"1\",\"c\":\"1\"},[\"x\"]]");
    expect(OPV("replace", "/tags", "[\"1\",\"2\",\"3\"]"), "active", MEMBER, 0,
           "[{\"tags\":[\"1\",\"2\",\"3\"]},{},[]]");
    expect(OPV("replace", "/tags", "[\"1\",\"2\",\"3\",\"3\"]"), "active", MEMBER, TSR_ETOOBIG,
           NULL);
}

/* The record's tags are a and b; its limit is 3. */
static void single_tags_are_changed_by_their_place_in_the_list(void **state)
{
    (void)state;
    expect(OPV("add", "/tags/-", "\"c\""), "active", MEMBER, 0,
           "[{\"tags\":[\"a\",\"b\",\"c\"]},{},[]]");
    expect(OPV("add", "/tags/0", "\"c\""), "active", MEMBER, 0,
           "[{\"tags\":[\"a\",\"b\",\"c\"]},{},[]]");
    expect(OPV("add", "/tags/2", "\"b\""), "active", MEMBER, 0, NULL); /* it is there already */
    expect(OPV("replace", "/tags/0", "\"z\""), "active", MEMBER, 0,
           "[{\"tags\":[\"b\",\"z\"]},{},[]]");
    expect(OP("remove", "/tags/1"), "active", MEMBER, 0, "[{\"tags\":[\"a\"]},{},[]]");
    /* Places are those of the list as it was read, not as it would be sorted in between. */
    expect("[{\"op\":\"replace\",\"path\":\"/tags/0\",\"value\":\"z\"},"
           "{\"op\":\"remove\",\"path\":\"/tags/1\"}]",
           "active", MEMBER, 0, "[{\"tags\":[\"z\"]},{},[]]");
    expect("[{\"op\":\"replace\",\"path\":\"/tags\",\"value\":[\"y\",\"x\"]},"
           "{\"op\":\"remove\",\"path\":\"/tags/0\"}]",
           "active", MEMBER, 0, "[{\"tags\":[\"y\"]},{},[]]");
    expect("[{\"op\":\"remove\",\"path\":\"/tags/0\"},"
           "{\"op\":\"replace\",\"path\":\"/tags\",\"value\":[\"a\",\"b\"]}]",
           "active", MEMBER, 0, NULL);
#define MOVE(from, path) "[{\"op\":\"move\",\"from\":\"" from "\",\"path\":\"" path "\"}"
    expect(MOVE("/tags/1", "/tags/0") ",{\"op\":\"remove\",\"path\":\"/tags/1\"}]", "active",
           MEMBER, 0, "[{\"tags\":[\"b\"]},{},[]]");
    expect(MOVE("/tags/0", "/tags/-") ",{\"op\":\"remove\",\"path\":\"/tags/1\"}]", "active",
           MEMBER, 0, "[{\"tags\":[\"b\"]},{},[]]");
    expect(MOVE("/tags/0", "/tags/1") "]", "active", MEMBER, 0, NULL);
    expect(MOVE("/tags/0", "/tags/2") "]", "active", MEMBER, TSR_ECONFLICT, NULL);
    expect(MOVE("/tags/2", "/tags/0") "]", "active", MEMBER, TSR_ECONFLICT, NULL);
    expect(MOVE("/tags/-", "/tags/0") "]", "active", MEMBER, TSR_ECONFLICT, NULL);
    expect(MOVE("/tags/0", "/tags") "]", "active", MEMBER, TSR_EINVAL, NULL);
    expect(MOVE("/tags", "/tags/0") "]", "active", MEMBER, TSR_EINVAL, NULL);
    expect(MOVE("/name", "/tags/0") "]", "active", MEMBER, TSR_EINVAL, NULL);
    expect(MOVE("/tags/0", "/name") "]", "active", MEMBER, TSR_EINVAL, NULL);
    expect(MOVE("/x", "/y") "]", "active", MEMBER, TSR_EINVAL, NULL);
    expect(OP("move", "/tags/0"), "active", MEMBER, TSR_EINVAL, NULL);
    expect(OPV("copy", "/tags/0", "\"c\""), "active", MEMBER, TSR_EINVAL, NULL);
    expect_v20("[{\"move\":\"/tags/0\",\"from\":\"/tags/1\"}]", TSR_EINVAL, NULL);
    expect_v20("[{\"remove\":\"/tags/0\"},{\"add\":\"/tags/-\",\"value\":\"c\"}]", 0,
               "[{\"tags\":[\"b\",\"c\"]},{},[]]");
    expect(OP("remove", "/tags/2"), "active", MEMBER, TSR_ECONFLICT, NULL);
    expect(OP("remove", "/tags/-"), "active", MEMBER, TSR_ECONFLICT, NULL);
    expect(OPV("replace", "/tags/2", "\"z\""), "active", MEMBER, TSR_ECONFLICT, NULL);
    expect(OPV("add", "/tags/3", "\"z\""), "active", MEMBER, TSR_ECONFLICT, NULL);
    expect(OPV("add", "/tags/-", "1"), "active", MEMBER, TSR_EINVAL, NULL);
    expect(OPV("replace", "/tags/0", "null"), "active", MEMBER, TSR_EINVAL, NULL);
    expect(OPV("replace", "/tags/0", "[]"), "active", MEMBER, TSR_EINVAL, NULL);
    expect(OP("add", "/tags/0"), "active", MEMBER, TSR_EINVAL, NULL);
    expect(OP("remove", "/tags/x"), "active", MEMBER, TSR_EINVAL, NULL);
    expect(OP("remove", "/tags/00"), "active", MEMBER, TSR_EINVAL, NULL);
    expect(OP("remove", "/tags/-1"), "active", MEMBER, TSR_EINVAL, NULL);
    expect(OP("remove", "/tags/1234567"), "active", MEMBER, TSR_EINVAL, NULL);
    expect(OP("remove", "/tags/0/0"), "active", MEMBER, TSR_EINVAL, NULL);
    expect("[{\"op\":\"add\",\"path\":\"/tags/0\",\"value\":\"x\"},"
           "{\"op\":\"add\",\"path\":\"/tags/0\",\"value\":\"y\"}]",
           "active", MEMBER, TSR_ETOOBIG, NULL);
    expect("[{\"op\":\"add\",\"path\":\"/tags/0\",\"value\":\"x\"},"
           "{\"op\":\"add\",\"path\":\"/tags/0\",\"value\":\"y\"},"
           "{\"op\":\"remove\",\"path\":\"/tags/3\"}]",
           "active", MEMBER, 0, "[{\"tags\":[\"a\",\"x\",\"y\"]},{},[]]");
    expect("[{\"op\":\"remove\",\"path\":\"/tags/0\"},{\"op\":\"test\",\"path\":\"/tags/0\"}]",
           "active", MEMBER, TSR_EINVAL, NULL);
}

/* 2 tags and 5 more are over twice the limit, although what the patch leaves is not. */
static void an_endless_list_of_tags_is_refused_on_the_way(void **state)
{
    (void)state;
    static const char add[] = "{\"op\":\"add\",\"path\":\"/tags/0\",\"value\":\"x\"},";
    static const char removal[] = "{\"op\":\"remove\",\"path\":\"/tags/0\"},";
    for (int count = 5; count <= 6; count++) {
        char patch[12 * sizeof(add)] = "[";
        for (int i = 0; i < 2 * count; i++) {
            strcat(patch, i < count ? add : removal);
        }
        patch[strlen(patch) - 1] = ']';
        expect(patch, "active", MEMBER, count == 5 ? 0 : TSR_ETOOBIG, NULL);
    }
}

static void long_names_are_refused(void **state)
{
    (void)state;
    char patch[400], name[257];
    memset(name, 'k', 256);
    name[256] = '\0';
    (void)snprintf(patch, sizeof(patch), OPV("add", "/%s", "\"1\""), name);
    expect(patch, "active", MEMBER, TSR_EINVAL, NULL);
}

static void the_old_envelope_has_its_own_form_and_conflict(void **state)
{
    (void)state;
    expect_v20("[{\"add\":\"/y\",\"value\":\"1\"}]", 0, "[{},{\"y\":\"1\"},[]]");
    expect_v20("[{\"replace\":\"/name\",\"value\":\"m\"}]", 0, "[{\"name\":\"m\"},{},[]]");
    expect_v20("[{\"remove\":\"/x\"}]", 0, "[{},{},[\"x\"]]");
    expect_v20("[{\"add\":\"/x\",\"value\":\"1\"}]", TSR_ECONFLICT, NULL);
    expect_v20("[{\"op\":\"add\",\"path\":\"/y\",\"value\":\"1\"}]", TSR_EINVAL, NULL);
    expect_v20("[{\"add\":\"/y\",\"remove\":\"/x\",\"value\":\"1\"}]", TSR_EINVAL, NULL);
    expect_v20("[{\"add\":\"/y\"}]", TSR_EINVAL, NULL);
    expect_v20("[{\"add\":1,\"value\":\"1\"}]", TSR_EINVAL, NULL);
}

TEST_MAIN(cmocka_unit_test(envelopes_of_wrong_form_are_refused),
          cmocka_unit_test(an_empty_patch_changes_nothing),
          cmocka_unit_test(base_fields_are_set_by_add_and_replace_and_never_removed),
          cmocka_unit_test(values_of_wrong_type_are_refused),
          cmocka_unit_test(read_only_and_reserved_names_are_forbidden),
          cmocka_unit_test(formats_change_only_before_there_is_data),
          cmocka_unit_test(only_administrators_change_owner_and_publish),
          cmocka_unit_test(custom_properties_are_added_replaced_and_removed),
          cmocka_unit_test(operations_run_in_order_and_all_or_nothing),
          cmocka_unit_test(limits_count_what_the_patch_leaves),
          cmocka_unit_test(single_tags_are_changed_by_their_place_in_the_list),
          cmocka_unit_test(an_endless_list_of_tags_is_refused_on_the_way),
          cmocka_unit_test(long_names_are_refused),
          cmocka_unit_test(the_old_envelope_has_its_own_form_and_conflict))
