#include "fixture.h"

static void a_new_image_has_every_field(void **state)
{
    (void)state;
    static const char *const keys[] = {"id",
                                       "name",
                                       "status",
                                       "visibility",
                                       "protected",
                                       "os_hidden",
                                       "owner",
                                       "disk_format",
                                       "min_disk",
                                       "min_ram",
                                       "tags",
                                       "props",
                                       "size",
                                       "virtual_size",
                                       "checksum",
                                       "os_hash_algo",
                                       "os_hash_value",
                                       "created_at",
                                       "updated_at",
                                       "version",
                                       "manifest",
                                       "placement",
                                       "container_format",
                                       "replicas",
                                       "session"};
    struct store s;
    store_open(&s);
    check_ok(run(&s, "{'op':'image.create','image':{'id':'%s'}}", uuid(1)));
    json_t *i = image(&s, uuid(1));
    for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
        check(json_object_get(i, keys[k]) != NULL);
    }
    check_int(json_object_size(i), sizeof(keys) / sizeof(keys[0]));
    check(json_equal(i, json_obj(s.result, "image")));
    check_str(json_str(i, "status"), "queued");
    check_str(json_str(i, "visibility"), "shared");
    check_int(json_int(i, "version", 0), 1);
    check_int(json_int(i, "created_at", 0), s.now);
    json_decref(i);
    store_close(&s);
}

static void create_takes_fields_and_sorts_tags(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    check_ok(run(&s,
                 "{'op':'image.create','image':{'id':'%s','name':'n','owner':'o','min_ram':5,"
                 "'tags':['b','a','b'],'props':{'x':'','kernel_id':null},'visibility':'public'}}",
                 uuid(1)));
    check_field(&s, uuid(1), "tags", "[\"a\",\"b\"]");
    check_field(&s, uuid(1), "props", "{\"kernel_id\":null,\"x\":\"\"}");
    check_field(&s, uuid(1), "min_ram", "5");
    store_close(&s);
}

static void create_refuses_what_is_not_valid(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "'name':5",          "'status':'active'", "'visibility':null", "'visibility':'Public'",
        "'protected':'yes'", "'min_disk':-1",     "'min_disk':1.5",    "'min_ram':2147483648",
        "'tags':'x'",        "'tags':[1]",        "'props':[]",        "'props':{'x':1}",
        "'owner':7",         "'created_at':1",    "'unheard_of':'x'",  "'props':null"};
    struct store s;
    store_open(&s);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        check_code(run(&s, "{'op':'image.create','image':{'id':'%s',%s}}", uuid(1), bad[i]),
                   TSR_EINVAL);
    }
    check_code(run(&s, "{'op':'image.create','image':{'id':'x'}}"), TSR_EINVAL);
    check_code(run(&s, "{'op':'image.create'}"), TSR_EINVAL);
    check(image(&s, uuid(1)) == NULL);
    store_close(&s);
}

static void an_id_is_never_used_twice(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    create(&s, uuid(1));
    check_code(run(&s, "{'op':'image.create','image':{'id':'%s'}}", uuid(1)), TSR_EEXIST);
    check_ok(run(&s, "{'op':'image.delete','id':'%s'}", uuid(1)));
    check(json_obj(s.result, "image") ==
          NULL); /* its outcome would outlive the image that it says */
    check_code(run(&s, "{'op':'image.create','image':{'id':'%s'}}", uuid(1)), TSR_EEXIST);
    struct meta_view *v = view(&s);
    check(meta_image_deleted(v, uuid(1)));
    check(!meta_image_deleted(v, uuid(2)));
    meta_view_close(v);
    store_close(&s);
}

static void metadata_over_the_limit_is_refused(void **state)
{
    (void)state;
    struct store s;
    int code;
    size_t room = 1300 * 1024;
    char *text = malloc(room);
    store_open(&s);
    size_t n = (size_t)snprintf(
        text, room, "{\"op\":\"image.create\",\"image\":{\"id\":\"%s\",\"props\":{", uuid(1));
    for (int i = 0; i < 20; i++) {
        n += (size_t)snprintf(text + n, room - n, "%s\"p%d\":\"%060000d\"", i ? "," : "", i, i);
    }
    snprintf(text + n, room - n, "}}}");
    check_ok(store_apply(&s, 1, text, &code));
    check_code(code, TSR_ETOOBIG);
    check(image(&s, uuid(1)) == NULL);
    free(text);
    store_close(&s);
}

static void an_update_sets_fields_and_properties(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    check_ok(
        run(&s, "{'op':'image.create','image':{'id':'%s','props':{'a':'1','b':'2'}}}", uuid(1)));
    int64_t created = s.now;
    check_ok(run(&s,
                 "{'op':'image.update','id':'%s','version':1,'set':{'name':'x','tags':['z','y']},"
                 "'props_set':{'c':'3'},'props_unset':['a','never']}",
                 uuid(1)));
    json_t *i = json_obj(s.result, "image");
    check_int(json_int(i, "version", 0), 2);
    check_int(json_int(i, "updated_at", 0), s.now);
    check_int(json_int(i, "created_at", 0), created);
    check_field(&s, uuid(1), "props", "{\"b\":\"2\",\"c\":\"3\"}");
    check_field(&s, uuid(1), "tags", "[\"y\",\"z\"]");
    check_field(&s, uuid(1), "name", "\"x\"");
    store_close(&s);
}

static void an_update_that_changes_nothing_is_no_change(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    create(&s, uuid(1));
    int64_t then = s.now;
    check_ok(run(&s, "{'op':'image.update','id':'%s','set':{'owner':'p1'}}", uuid(1)));
    check_int(json_int(json_obj(s.result, "image"), "version", 0), 1);
    check_int(json_int(json_obj(s.result, "image"), "updated_at", 0), then);
    store_close(&s);
}

static void updates_are_refused_by_version_value_and_state(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    add_hosts(&s, 1);
    create(&s, uuid(1));
    check_code(run(&s, "{'op':'image.update','id':'%s','version':7,'set':{}}", uuid(1)),
               TSR_EVERSION);
    check_code(run(&s, "{'op':'image.update','id':'%s','set':{}}", uuid(2)), TSR_ENOENT);
    check_code(run(&s, "{'op':'image.update','id':'zz','set':{}}"), TSR_ENOENT);
    check_code(run(&s, "{'op':'image.update','set':{}}"), TSR_ENOENT);
    check_code(run(&s, "{'op':'image.update','id':'%s','set':{'size':1}}", uuid(1)), TSR_EINVAL);
    check_code(run(&s, "{'op':'image.update','id':'%s','props_set':{'x':true}}", uuid(1)),
               TSR_EINVAL);
    check_ok(run(&s, "{'op':'image.update','id':'%s','set':{'disk_format':'qcow2'}}", uuid(1)));
    check_ok(run(&s, "{'op':'image.saving','id':'%s','session':'s','host':1}", uuid(1)));
    check_code(run(&s, "{'op':'image.update','id':'%s','set':{'disk_format':'raw'}}", uuid(1)),
               TSR_EFORBIDDEN);
    check_str(message(&s), "Attribute disk_format can be only replaced for a queued image.");
    check_ok(run(&s, "{'op':'image.update','id':'%s','set':{'name':'y'}}", uuid(1)));
    store_close(&s);
}

static void times_of_an_image_never_go_back(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    s.now = 5000000;
    create(&s, uuid(1));
    int64_t created = s.now;
    s.now = 100;
    check_ok(run(&s, "{'op':'image.update','id':'%s','set':{'name':'n'}}", uuid(1)));
    check_int(json_int(json_obj(s.result, "image"), "updated_at", 0), created);
    store_close(&s);
}

static void tags_come_and_go_within_the_quota(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    create(&s, uuid(1));
    check_ok(run(&s, "{'op':'image.tag','id':'%s','tag':'b','add':true,'quota':2}", uuid(1)));
    check_ok(run(&s, "{'op':'image.tag','id':'%s','tag':'a','add':true,'quota':2}", uuid(1)));
    check_field(&s, uuid(1), "tags", "[\"a\",\"b\"]");
    check_code(run(&s, "{'op':'image.tag','id':'%s','tag':'c','add':true,'quota':2}", uuid(1)),
               TSR_ETOOBIG);
    check_ok(run(&s, "{'op':'image.tag','id':'%s','tag':'a','add':true,'quota':2}", uuid(1)));
    check_field(&s, uuid(1), "version", "3"); /* again is no change */
    check_ok(run(&s, "{'op':'image.tag','id':'%s','tag':'a','add':false}", uuid(1)));
    check_code(run(&s, "{'op':'image.tag','id':'%s','tag':'a','add':false}", uuid(1)), TSR_ENOENT);
    check_code(run(&s, "{'op':'image.tag','id':'%s','tag':'a'}", uuid(2)), TSR_ENOENT);
    check_code(run(&s, "{'op':'image.tag','id':'%s'}", uuid(1)), TSR_EINVAL);
    check_field(&s, uuid(1), "tags", "[\"b\"]");
    store_close(&s);
}

static void delete_takes_members_along_and_respects_protection(void **state)
{
    (void)state;
    struct store s;
    json_t *out;
    store_open(&s);
    create(&s, uuid(1));
    check_ok(run(&s, "{'op':'member.add','id':'%s','member':'m'}", uuid(1)));
    check_ok(run(&s, "{'op':'image.update','id':'%s','set':{'protected':true}}", uuid(1)));
    check_code(run(&s, "{'op':'image.delete','id':'%s'}", uuid(1)), TSR_EFORBIDDEN);
    check_ok(run(&s, "{'op':'image.update','id':'%s','set':{'protected':false}}", uuid(1)));
    check_ok(run(&s, "{'op':'image.delete','id':'%s'}", uuid(1)));
    check_code(run(&s, "{'op':'image.delete','id':'%s'}", uuid(1)), TSR_ENOENT);
    struct meta_view *v = view(&s);
    check_ok(meta_member_list(v, uuid(1), &out));
    check_int(json_array_size(out), 0);
    json_decref(out);
    meta_view_close(v);
    store_close(&s);
}

TEST_MAIN(cmocka_unit_test(a_new_image_has_every_field),
          cmocka_unit_test(create_takes_fields_and_sorts_tags),
          cmocka_unit_test(create_refuses_what_is_not_valid),
          cmocka_unit_test(an_id_is_never_used_twice),
          cmocka_unit_test(metadata_over_the_limit_is_refused),
          cmocka_unit_test(an_update_sets_fields_and_properties),
          cmocka_unit_test(an_update_that_changes_nothing_is_no_change),
          cmocka_unit_test(updates_are_refused_by_version_value_and_state),
          cmocka_unit_test(times_of_an_image_never_go_back),
          cmocka_unit_test(tags_come_and_go_within_the_quota),
          cmocka_unit_test(delete_takes_members_along_and_respects_protection))
