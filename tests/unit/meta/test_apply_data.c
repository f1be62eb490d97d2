#include "fixture.h"

static int saving(struct store *s, const char *id, const char *session)
{
    return run(s, "{'op':'image.saving','id':'%s','session':'%s','host':1,'kind':'upload'}", id,
               session);
}

static int activate(struct store *s, const char *id, const char *session, const char *replicas,
                    int write_replicas)
{
    return run(s,
               "{'op':'image.activate','id':'%s','session':'%s','manifest':'%s','size':7,"
               "'virtual_size':null,'checksum':'0123456789abcdef0123456789abcdef',"
               "'os_hash_algo':'sha512','os_hash_value':'ab','replicas':%s,'placement':[1,2,3],"
               "'write_replicas':%d}",
               id, session, MANIFEST_A, replicas, write_replicas);
}

static void an_upload_goes_from_queued_over_saving_to_active(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    add_hosts(&s, 3);
    create(&s, uuid(1));
    check_ok(saving(&s, uuid(1), "s"));
    json_t *i = image(&s, uuid(1));
    check_str(json_str(i, "status"), "saving");
    check_str(json_str(json_obj(i, "session"), "id"), "s");
    check_int(json_int(json_obj(i, "session"), "host", 0), 1);
    check_int(json_int(json_obj(i, "session"), "started_index", 0), s.index);
    check_str(json_str(json_obj(i, "session"), "kind"), "upload");
    json_decref(i);
    check_ok(saving(&s, uuid(1), "s")); /* said twice */
    check_field(&s, uuid(1), "version", "2");
    check_ok(activate(&s, uuid(1), "s", "[1,2]", 2));
    check_field(&s, uuid(1), "status", "\"active\"");
    check_field(&s, uuid(1), "session", "null");
    check_field(&s, uuid(1), "replicas", "{\"1\":\"present\",\"2\":\"present\",\"3\":\"missing\"}");
    check_field(&s, uuid(1), "placement", "[1,2,3]");
    check_field(&s, uuid(1), "size", "7");
    store_close(&s);
}

static void only_a_queued_image_with_formats_takes_an_upload(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    add_hosts(&s, 1);
    create(&s, uuid(1));
    check_ok(saving(&s, uuid(1), "a"));
    check_code(saving(&s, uuid(1), "b"), TSR_ECONFLICT);
    check_str(message(&s), "Image status transition from saving to saving is not allowed");
    check_code(saving(&s, uuid(9), "b"), TSR_ENOENT);
    check_code(saving(&s, uuid(1), ""), TSR_EINVAL);
    check_ok(run(&s, "{'op':'image.create','image':{'id':'%s'}}", uuid(2)));
    check_code(saving(&s, uuid(2), "b"), TSR_EINVAL);
    check_code(
        run(&s, "{'op':'image.saving','id':'%s','session':'b','host':1,'kind':'x'}", uuid(2)),
        TSR_EINVAL);
    create(&s, uuid(3));
    check_code(run(&s, "{'op':'image.saving','id':'%s','session':'b','host':5}", uuid(3)),
               TSR_EINVAL);
    check_ok(
        run(&s, "{'op':'image.saving','id':'%s','session':'b','host':1,'kind':'stage'}", uuid(3)));
    check_field(&s, uuid(3), "status", "\"uploading\"");
    check_ok(
        run(&s, "{'op':'image.saving','id':'%s','session':'c','host':1,'kind':'import'}", uuid(3)));
    check_field(&s, uuid(3), "status", "\"importing\"");
    store_close(&s);
}

static void activation_belongs_to_the_current_session(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    add_hosts(&s, 3);
    create(&s, uuid(1));
    check_code(activate(&s, uuid(1), "s", "[1,2]", 2), TSR_ECONFLICT);
    check_ok(saving(&s, uuid(1), "s"));
    check_code(activate(&s, uuid(1), "t", "[1,2]", 2), TSR_ECONFLICT);
    check_code(activate(&s, uuid(2), "s", "[1,2]", 2), TSR_ENOENT);
    check_ok(run(&s, "{'op':'image.delete','id':'%s'}", uuid(1)));
    check_code(activate(&s, uuid(1), "s", "[1,2]", 2), TSR_EGONE);
    store_close(&s);
}

static void activation_needs_enough_replicas(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    add_hosts(&s, 3);
    create(&s, uuid(1));
    check_ok(saving(&s, uuid(1), "s"));
    check_code(activate(&s, uuid(1), "s", "[]", 0), TSR_EUNAVAILABLE);
    check_code(activate(&s, uuid(1), "s", "[1]", 2), TSR_EUNAVAILABLE);
    check_code(activate(&s, uuid(1), "s", "[1,1]", 2), TSR_EUNAVAILABLE);
    check_code(activate(&s, uuid(1), "s", "[1,9]", 2), TSR_EINVAL);
    check_code(activate(&s, uuid(1), "s", "['1']", 2), TSR_EINVAL);
    check_code(activate(&s, uuid(1), "s", "1", 2), TSR_EINVAL);
    check_ok(run(&s, "{'op':'host.state','id':2,'state':'down'}"));
    check_code(activate(&s, uuid(1), "s", "[1]", 2), TSR_EUNAVAILABLE);
    check_ok(run(&s, "{'op':'host.state','id':3,'state':'suspect'}"));
    check_ok(activate(&s, uuid(1), "s", "[1]", 2)); /* one image host is up: one is enough */
    store_close(&s);
}

static void a_host_without_the_image_role_is_no_replica(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    add_hosts(&s, 3);
    check_ok(run(&s, "{'op':'host.update','id':2,'set':{'roles':['voter','witness']}}"));
    create(&s, uuid(1));
    check_ok(saving(&s, uuid(1), "s"));
    check_code(activate(&s, uuid(1), "s", "[1,2]", 2), TSR_EUNAVAILABLE);
    check_ok(activate(&s, uuid(1), "s", "[1,3]", 2));
    store_close(&s);
}

static void damaged_claims_about_data_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "'manifest':'xyz','size':1",
        "'manifest':'" MANIFEST_A "','size':-1",
        "'manifest':'" MANIFEST_A "'",
        "'manifest':'" MANIFEST_A "','size':1,'checksum':'zz'",
        "'manifest':'" MANIFEST_A "','size':1,'virtual_size':'1'",
    };
    struct store s;
    store_open(&s);
    add_hosts(&s, 1);
    create(&s, uuid(1));
    check_ok(saving(&s, uuid(1), "s"));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        check_code(run(&s,
                       "{'op':'image.activate','id':'%s','session':'s','replicas':[1],"
                       "'placement':[1],%s}",
                       uuid(1), bad[i]),
                   TSR_EINVAL);
    }
    check_field(&s, uuid(1), "status", "\"saving\"");
    store_close(&s);
}

static void an_aborted_upload_leaves_the_image_queued(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    add_hosts(&s, 1);
    create(&s, uuid(1));
    check_ok(saving(&s, uuid(1), "s"));
    check_ok(run(&s, "{'op':'image.abort','id':'%s','session':'other'}", uuid(1)));
    check_field(&s, uuid(1), "status", "\"saving\"");
    for (int i = 0; i < 2; i++) {
        check_ok(run(&s, "{'op':'image.abort','id':'%s','session':'s'}", uuid(1)));
        check_field(&s, uuid(1), "status", "\"queued\"");
        check_field(&s, uuid(1), "session", "null");
        check_field(&s, uuid(1), "version", "3");
    }
    check_ok(run(&s, "{'op':'image.abort','id':'%s','session':'s'}", uuid(2)));
    check_ok(saving(&s, uuid(1), "again"));
    store_close(&s);
}

static int saving_again(struct store *s, const char *id, int length, bool repeats)
{
    return run(s, "{'op':'image.saving','id':'%s','session':'n','host':1,'length':%d,'repeats':%s}",
               id, length, repeats ? "true" : "false");
}

static void cut_off(struct store *s, unsigned n, int length)
{
    create(s, uuid(n));
    check_ok(run(s, "{'op':'image.saving','id':'%s','session':'s','host':1,'length':%d}", uuid(n),
                 length));
    check_ok(run(s, "{'op':'image.abort','id':'%s','session':'s','cut':true}", uuid(n)));
}

static void what_is_left_of_a_body_is_no_upload(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    add_hosts(&s, 1);
    cut_off(&s, 1, 1000);
    check_code(saving_again(&s, uuid(1), -1, true), TSR_ECONFLICT);
    check_code(saving_again(&s, uuid(1), 400, true), TSR_ECONFLICT);
    check_field(&s, uuid(1), "status", "\"queued\"");
    check_ok(saving_again(&s, uuid(1), 1000, true)); /* all of it */
    cut_off(&s, 2, -1);
    check_code(saving_again(&s, uuid(2), -1, true), TSR_ECONFLICT);
    check_code(saving_again(&s, uuid(2), 1000, true), TSR_ECONFLICT);
    check_ok(saving_again(&s, uuid(2), -1, false)); /* a client that begins anew */
    cut_off(&s, 3, -1);
    s.now += 15 * 60 * INT64_C(1000000);
    check_ok(saving_again(&s, uuid(3), -1, true));
    /* One that was refused, and told so, may be followed by another. */
    create(&s, uuid(4));
    check_ok(saving(&s, uuid(4), "s"));
    check_ok(run(&s, "{'op':'image.abort','id':'%s','session':'s','cut':false}", uuid(4)));
    check_ok(saving_again(&s, uuid(4), -1, true));
    store_close(&s);
}

static void images_are_deactivated_and_back(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    add_hosts(&s, 3);
    create(&s, uuid(1));
    check_code(run(&s, "{'op':'image.status','id':'%s','to':'deactivated'}", uuid(1)),
               TSR_EFORBIDDEN);
    check_str(message(&s), "Not allowed to deactivate image in status 'queued'");
    check_ok(saving(&s, uuid(1), "s"));
    check_ok(activate(&s, uuid(1), "s", "[1,2]", 2));
    for (int i = 0; i < 2; i++) { /* the second time is no change */
        check_ok(run(&s, "{'op':'image.status','id':'%s','to':'deactivated'}", uuid(1)));
        check_field(&s, uuid(1), "status", "\"deactivated\"");
        check_field(&s, uuid(1), "version", "4");
    }
    check_ok(run(&s, "{'op':'image.status','id':'%s','to':'active'}", uuid(1)));
    check_field(&s, uuid(1), "status", "\"active\"");
    check_code(run(&s, "{'op':'image.status','id':'%s','to':'queued'}", uuid(1)), TSR_EINVAL);
    check_code(run(&s, "{'op':'image.status','id':'%s','to':'active'}", uuid(2)), TSR_ENOENT);
    store_close(&s);
}

static void a_new_placement_keeps_what_is_present(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    add_hosts(&s, 4);
    create(&s, uuid(1));
    check_ok(saving(&s, uuid(1), "s"));
    check_ok(activate(&s, uuid(1), "s", "[1,2]", 2));
    int64_t updated = s.now;
    check_code(run(&s, "{'op':'image.place','id':'%s','version':1,'placement':[1]}", uuid(1)),
               TSR_EVERSION);
    check_code(run(&s, "{'op':'image.place','id':'%s','version':3,'placement':[8]}", uuid(1)),
               TSR_EINVAL);
    check_code(run(&s, "{'op':'image.place','id':'%s','placement':[1]}", uuid(2)), TSR_ENOENT);
    check_ok(run(&s, "{'op':'image.place','id':'%s','version':3,'placement':[2,4]}", uuid(1)));
    check_field(&s, uuid(1), "placement", "[2,4]");
    check_field(&s, uuid(1), "replicas", "{\"1\":\"present\",\"2\":\"present\",\"4\":\"missing\"}");
    json_t *i = image(&s, uuid(1));
    check_int(json_int(i, "updated_at", 0), updated); /* nothing that users see */
    check_int(json_int(i, "version", 0), 4);
    json_decref(i);
    store_close(&s);
}

static void replica_reports_reach_all_images_of_the_manifest(void **state)
{
    (void)state;
    struct store s;
    json_t *out;
    store_open(&s);
    add_hosts(&s, 4);
    for (unsigned i = 1; i <= 3; i++) {
        create(&s, uuid(i));
        check_ok(saving(&s, uuid(i), "s"));
        check_ok(activate(&s, uuid(i), "s", "[1,2]", 2));
    }
    check_ok(run(&s, "{'op':'image.delete','id':'%s'}", uuid(3)));
    check_ok(
        run(&s, "{'op':'image.replica','manifest':'%s','host':3,'state':'present'}", MANIFEST_A));
    check_int(json_int(s.result, "images", 0), 2);
    check_ok(
        run(&s, "{'op':'image.replica','manifest':'%s','host':4,'state':'present'}", MANIFEST_A));
    check_field(&s, uuid(1), "replicas",
                "{\"1\":\"present\",\"2\":\"present\",\"3\":\"present\",\"4\":\"present\"}");
    check_ok(run(&s, "{'op':'image.replica','manifest':'%s','host':4,'state':'missing'}",
                 MANIFEST_A)); /* not placed there: forgotten */
    check_ok(
        run(&s, "{'op':'image.replica','manifest':'%s','host':1,'state':'missing'}", MANIFEST_A));
    check_field(&s, uuid(2), "replicas", "{\"1\":\"missing\",\"2\":\"present\",\"3\":\"present\"}");
    check_ok(
        run(&s, "{'op':'image.replica','manifest':'%s','host':1,'state':'present'}", MANIFEST_B));
    check_int(json_int(s.result, "images", -1), 0);
    check_code(
        run(&s, "{'op':'image.replica','manifest':'%s','host':9,'state':'present'}", MANIFEST_A),
        TSR_ENOENT);
    check_code(run(&s, "{'op':'image.replica','manifest':'%s','host':1,'state':'x'}", MANIFEST_A),
               TSR_EINVAL);
    check_code(run(&s, "{'op':'image.replica','manifest':'x','host':1,'state':'present'}"),
               TSR_EINVAL);
    struct meta_view *v = view(&s);
    check_ok(meta_manifest_images(v, MANIFEST_A, &out));
    check_int(json_array_size(out), 2);
    json_decref(out);
    check_ok(meta_manifest_images(v, MANIFEST_B, &out));
    check_int(json_array_size(out), 0);
    json_decref(out);
    meta_view_close(v);
    store_close(&s);
}

TEST_MAIN(cmocka_unit_test(an_upload_goes_from_queued_over_saving_to_active),
          cmocka_unit_test(only_a_queued_image_with_formats_takes_an_upload),
          cmocka_unit_test(what_is_left_of_a_body_is_no_upload),
          cmocka_unit_test(activation_belongs_to_the_current_session),
          cmocka_unit_test(activation_needs_enough_replicas),
          cmocka_unit_test(a_host_without_the_image_role_is_no_replica),
          cmocka_unit_test(damaged_claims_about_data_are_refused),
          cmocka_unit_test(an_aborted_upload_leaves_the_image_queued),
          cmocka_unit_test(images_are_deactivated_and_back),
          cmocka_unit_test(a_new_placement_keeps_what_is_present),
          cmocka_unit_test(replica_reports_reach_all_images_of_the_manifest))
