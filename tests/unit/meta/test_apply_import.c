/* Staged data, imports and their tasks in the store. */
#include "fixture.h"

#define HASHES \
    "'checksum':'0123456789abcdef0123456789abcdef','os_hash_algo':'sha512','os_hash_value':'ab'"
#define SEALED                                                         \
    "'manifest':'" MANIFEST_A "','size':7,'virtual_size':null," HASHES \
    ",'replicas':[1,2],'placement':[1,2,3],'write_replicas':2"
#define FORMATS "'disk_format':'raw','container_format':'bare'"

static void stage(struct store *s, const char *id)
{
    check_ok(run(s, "{'op':'image.saving','id':'%s','session':'st','host':1,'kind':'stage'}", id));
    check_ok(run(s, "{'op':'image.stage','id':'%s','session':'st'," SEALED "}", id));
}

static int start(struct store *s, const char *id, const char *method, const char *task)
{
    return run(s,
               "{'op':'import.start','id':'%s','session':'im','host':1,'method':'%s','store':'t',"
               "'task':{'id':'%s','type':'api_image_import','owner':'p1','user_id':'u',"
               "'request_id':'req-1','input':{'image_id':'%s'}}}",
               id, method, task, id);
}

static json_t *task(struct store *s, const char *id)
{
    struct meta_view *v = view(s);
    json_t *out = NULL;
    int rc = meta_dir_get(v, "task", id, &out);
    meta_view_close(v);
    check(rc == 0 || rc == TSR_ENOENT);
    return out;
}

static void check_task(struct store *s, const char *id, const char *status,
                       const char *message_text)
{
    json_t *t = task(s, id);
    assert_non_null(t);
    check_str(json_str(t, "status"), status);
    check_str(json_str(t, "message"), message_text);
    check(json_is_integer(json_object_get(t, "expires_at")) == (strcmp(status, "processing") != 0));
    json_decref(t);
}

static void open_store(struct store *s)
{
    store_open(s);
    add_hosts(s, 3);
    create(s, uuid(1));
}

static void staged_data_waits_without_hashes(void **state)
{
    (void)state;
    struct store s;
    open_store(&s);
    stage(&s, uuid(1));
    check_field(&s, uuid(1), "status", "\"uploading\"");
    check_field(&s, uuid(1), "size", "7");
    check_field(&s, uuid(1), "checksum", "null");
    check_field(&s, uuid(1), "os_hash_value", "null");
    check_field(&s, uuid(1), "manifest", "\"" MANIFEST_A "\"");
    check_field(&s, uuid(1), "session", "null");
    check_field(&s, uuid(1), "replicas", "{\"1\":\"present\",\"2\":\"present\",\"3\":\"missing\"}");
    check_ok(run(&s, "{'op':'image.abort','id':'%s','session':'st'}", uuid(1))); /* too late */
    check_field(&s, uuid(1), "status", "\"uploading\"");
    check_code(start(&s, uuid(1), "web-download", uuid(50)), TSR_ECONFLICT);
    json_t *record = image(&s, uuid(1));
    long long at = json_int(json_obj(record, "staged"), "at", -1);
    json_decref(record);
    check(at > 0);
    s.now += 90000000; /* no clock decides, but what was staged when */
    check_code(run(&s, "{'op':'image.unstage','id':'%s'}", uuid(1)), TSR_ECONFLICT);
    check_code(run(&s, "{'op':'image.unstage','id':'%s','at':%lld}", uuid(1), at - 1),
               TSR_ECONFLICT);
    check_ok(run(&s, "{'op':'image.unstage','id':'%s','at':%lld}", uuid(1), at));
    check_field(&s, uuid(1), "status", "\"queued\"");
    check_field(&s, uuid(1), "manifest", "null");
    check_field(&s, uuid(1), "placement", "[]");
    check_field(&s, uuid(1), "replicas", "{}");
    check_field(&s, uuid(1), "size", "null");
    store_close(&s);
}

static void staged_data_is_imported_without_copying(void **state)
{
    (void)state;
    struct store s;
    open_store(&s);
    check_code(start(&s, uuid(1), "glance-direct", uuid(50)), TSR_ECONFLICT);
    check_ok(
        run(&s, "{'op':'image.saving','id':'%s','session':'st','host':1,'kind':'stage'}", uuid(1)));
    check_code(start(&s, uuid(1), "glance-direct", uuid(50)), TSR_ECONFLICT);
    check_ok(run(&s, "{'op':'image.stage','id':'%s','session':'st'," SEALED "}", uuid(1)));
    check_ok(start(&s, uuid(1), "glance-direct", uuid(50)));
    check_field(&s, uuid(1), "status", "\"importing\"");
    char props[256];
    snprintf(props, sizeof(props),
             "{\"os_glance_failed_import\":\"\",\"os_glance_import_task\":\"%s\","
             "\"os_glance_importing_to_stores\":\"t\"}",
             uuid(50));
    check_field(&s, uuid(1), "props", props);
    check_task(&s, uuid(50), "processing", "");
    check_code(start(&s, uuid(1), "glance-direct", uuid(51)), TSR_ECONFLICT);
    check_code(run(&s,
                   "{'op':'import.finish','id':'%s','session':'im','staged':true,"
                   "'virtual_size':9,'write_replicas':2,'disk_format':'qcow2',"
                   "'container_format':'bare'}",
                   uuid(1)),
               TSR_EMEDIA);
    check_code(run(&s,
                   "{'op':'import.finish','id':'%s','session':'other','staged':true,"
                   "'virtual_size':9,'write_replicas':2," FORMATS "}",
                   uuid(1)),
               TSR_ECONFLICT);
    check_code(run(&s,
                   "{'op':'import.finish','id':'%s','session':'im','staged':true,"
                   "'virtual_size':9,'write_replicas':3," FORMATS "}",
                   uuid(1)),
               TSR_EUNAVAILABLE);
    check_ok(run(&s,
                 "{'op':'import.finish','id':'%s','session':'im','staged':true,"
                 "'virtual_size':9,'write_replicas':2," FORMATS "}",
                 uuid(1)));
    check_field(&s, uuid(1), "status", "\"active\"");
    check_field(&s, uuid(1), "virtual_size", "9");
    check_field(&s, uuid(1), "checksum", "\"0123456789abcdef0123456789abcdef\"");
    check_field(&s, uuid(1), "props",
                "{\"os_glance_failed_import\":\"\",\"os_glance_importing_to_stores\":\"\"}");
    check_field(&s, uuid(1), "session", "null");
    check_task(&s, uuid(50), "success", "");
    json_t *i = image(&s, uuid(1));
    assert_null(json_object_get(i, "staged"));
    json_decref(i);
    store_close(&s);
}

static void a_download_brings_its_own_data(void **state)
{
    (void)state;
    struct store s;
    open_store(&s);
    check_ok(start(&s, uuid(1), "web-download", uuid(50)));
    check_code(run(&s,
                   "{'op':'import.finish','id':'%s','session':'im','staged':true,"
                   "'virtual_size':9,'write_replicas':2," FORMATS "}",
                   uuid(1)),
               TSR_EINVAL);
    check_ok(
        run(&s, "{'op':'import.finish','id':'%s','session':'im'," FORMATS "," SEALED "}", uuid(1)));
    check_field(&s, uuid(1), "status", "\"active\"");
    check_field(&s, uuid(1), "size", "7");
    check_task(&s, uuid(50), "success", "");
    store_close(&s);
}

static void a_failed_import_is_queued_again_and_says_why(void **state)
{
    (void)state;
    struct store s;
    open_store(&s);
    stage(&s, uuid(1));
    check_ok(start(&s, uuid(1), "glance-direct", uuid(50)));
    check_ok(run(&s, "{'op':'import.fail','id':'%s','session':'x','message':'no'}", uuid(1)));
    check_field(&s, uuid(1), "status", "\"importing\""); /* not of this session */
    check_ok(run(&s, "{'op':'import.fail','id':'%s','session':'im','message':'no'}", uuid(1)));
    check_field(&s, uuid(1), "status", "\"queued\"");
    check_field(&s, uuid(1), "manifest", "null");
    check_field(&s, uuid(1), "props",
                "{\"os_glance_failed_import\":\"t\",\"os_glance_importing_to_stores\":\"\"}");
    check_task(&s, uuid(50), "failure", "no");
    check_ok(run(&s, "{'op':'import.fail','id':'%s','session':'im','message':'again'}", uuid(1)));
    check_task(&s, uuid(50), "failure", "no");
    check_ok(run(&s, "{'op':'import.fail','id':'%s','session':'im','message':'x'}", uuid(9)));
    check_code(run(&s, "{'op':'import.fail','id':'%s','session':'im','message':''}", uuid(1)),
               TSR_EINVAL);
    store_close(&s);
}

static int assign(struct store *s, int epoch, int host)
{
    return run(s, "{'op':'import.assign','id':'%s','task':'%s','epoch':%d,'host':%d}", uuid(1),
               uuid(50), epoch, host);
}

static int claim(struct store *s, int epoch, int host, const char *session)
{
    return run(s, "{'op':'import.claim','id':'%s','task':'%s','epoch':%d,'host':%d,'session':'%s'}",
               uuid(1), uuid(50), epoch, host, session);
}

static void another_host_takes_over_and_the_first_is_fenced(void **state)
{
    (void)state;
    struct store s;
    open_store(&s);
    check_ok(start(&s, uuid(1), "web-download", uuid(50)));
    check_code(claim(&s, 1, 1, "b"), TSR_ECONFLICT); /* it has a runner */
    check_code(assign(&s, 3, 2), TSR_ECONFLICT);
    check_code(assign(&s, 2, 9), TSR_EINVAL);
    check_ok(assign(&s, 2, 2));
    check_code(assign(&s, 2, 3), TSR_ECONFLICT); /* once an epoch */
    check_code(
        run(&s, "{'op':'import.finish','id':'%s','session':'im'," FORMATS "," SEALED "}", uuid(1)),
        TSR_ECONFLICT);
    check_ok(run(&s, "{'op':'import.fail','id':'%s','session':'im','message':'late'}", uuid(1)));
    check_ok(run(&s, "{'op':'image.abort','id':'%s','session':''}", uuid(1)));
    check_field(&s, uuid(1), "status", "\"importing\"");
    check_code(claim(&s, 2, 3, "c"), TSR_ECONFLICT);
    check_code(claim(&s, 1, 2, "c"), TSR_ECONFLICT);
    check_ok(claim(&s, 2, 2, "b"));
    check_code(claim(&s, 2, 2, "c"), TSR_ECONFLICT);
    check_ok(run(&s, "{'op':'import.fail','id':'%s','task':'%s','epoch':1,'message':'old'}",
                 uuid(1), uuid(50)));
    check_field(&s, uuid(1), "status", "\"importing\"");
    check_ok(run(&s, "{'op':'import.fail','id':'%s','task':'%s','epoch':2,'message':'lost'}",
                 uuid(1), uuid(50)));
    check_field(&s, uuid(1), "status", "\"queued\"");
    check_task(&s, uuid(50), "failure", "lost");
    store_close(&s);
}

static int tell(struct store *s, const char *session, int bytes, int total)
{
    return run(s, "{'op':'import.progress','id':'%s','session':'%s','bytes':%d,'total':%d}",
               uuid(1), session, bytes, total);
}

static void check_progress(struct store *s, int64_t done, int64_t total)
{
    json_t *t = task(s, uuid(50));
    check_int(json_int(t, "bytes_done", -1), done);
    check_int(json_int(t, "bytes_total", -1), total);
    json_decref(t);
}

static void a_task_tells_how_far_its_import_is_until_it_ends(void **state)
{
    (void)state;
    struct store s;
    open_store(&s);
    check_code(tell(&s, "im", 5, 9), TSR_ECONFLICT); /* it has not begun */
    check_ok(start(&s, uuid(1), "web-download", uuid(50)));
    check_progress(&s, -1, -1);
    check_ok(tell(&s, "im", 5, -1));
    check_progress(&s, 5, -1);
    check_ok(tell(&s, "im", 7, 9));
    check_progress(&s, 7, 9);
    check_ok(tell(&s, "im", 8, -1)); /* another server after a redirect */
    check_progress(&s, 8, -1);
    check_code(tell(&s, "im", -1, 9), TSR_EINVAL);
    check_code(tell(&s, "im", 1, -2), TSR_EINVAL);
    check_code(tell(&s, "other", 9, 9), TSR_ECONFLICT);
    check_progress(&s, 8, -1);
    check_ok(assign(&s, 2, 2));
    check_code(tell(&s, "im", 9, 9), TSR_ECONFLICT); /* it is another's now */
    check_ok(claim(&s, 2, 2, "b"));
    check_ok(tell(&s, "b", 1, 9));
    check_progress(&s, 1, 9);
    check_ok(run(&s, "{'op':'import.fail','id':'%s','session':'b','message':'no'}", uuid(1)));
    check_progress(&s, -1, -1);
    check_code(tell(&s, "b", 2, 9), TSR_ECONFLICT);
    check_task(&s, uuid(50), "failure", "no");
    check_ok(run(&s, "{'op':'image.delete','id':'%s'}", uuid(1)));
    check_code(tell(&s, "b", 2, 9), TSR_ENOENT);
    store_close(&s);
}

static void deleting_the_image_ends_its_task(void **state)
{
    (void)state;
    struct store s;
    open_store(&s);
    check_ok(start(&s, uuid(1), "web-download", uuid(50)));
    check_ok(run(&s, "{'op':'image.delete','id':'%s'}", uuid(1)));
    check_task(&s, uuid(50), "failure", "The image was deleted during the import.");
    check_code(
        run(&s, "{'op':'import.finish','id':'%s','session':'im'," FORMATS "," SEALED "}", uuid(1)),
        TSR_EGONE);
    store_close(&s);
}

static void tasks_are_forgotten_two_days_after_their_end(void **state)
{
    (void)state;
    struct store s;
    open_store(&s);
    create(&s, uuid(2));
    check_ok(start(&s, uuid(1), "web-download", uuid(50)));
    check_ok(start(&s, uuid(2), "web-download", uuid(51)));
    check_ok(run(&s, "{'op':'import.fail','id':'%s','session':'im','message':'no'}", uuid(1)));
    check_ok(run(&s, "{'op':'task.expire','ids':['%s','%s','%s']}", uuid(50), uuid(51), uuid(52)));
    json_decref(task(&s, uuid(50)));
    s.now += INT64_C(48) * 3600 * 1000000;
    check_ok(run(&s, "{'op':'task.expire','ids':['%s','%s','%s']}", uuid(50), uuid(51), uuid(52)));
    assert_null(task(&s, uuid(50)));
    check_task(&s, uuid(51), "processing", "");
    struct meta_view *v = view(&s);
    json_t *list = NULL;
    check_ok(meta_dir_list(v, "image_task", "", NULL, 10, &list));
    meta_view_close(v);
    check_int(json_array_size(list), 1);
    json_decref(list);
    check_code(run(&s, "{'op':'task.expire','ids':['x']}"), TSR_EINVAL);
    store_close(&s);
}

static void damaged_commands_are_refused(void **state)
{
    (void)state;
    struct store s;
    open_store(&s);
    check_code(run(&s, "{'op':'import.start'}"), TSR_EINVAL);
    check_code(run(&s,
                   "{'op':'import.start','id':'%s','session':'a','host':1,"
                   "'method':'web-download','task':{'id':'x','type':'t','input':{}}}",
                   uuid(1)),
               TSR_EINVAL);
    check_code(run(&s, "{'op':'import.assign'}"), TSR_EINVAL);
    check_code(run(&s, "{'op':'import.claim'}"), TSR_EINVAL);
    check_code(run(&s, "{'op':'import.finish'}"), TSR_ENOENT);
    check_code(run(&s, "{'op':'import.fail'}"), TSR_EINVAL);
    check_code(run(&s, "{'op':'image.stage'}"), TSR_ENOENT);
    check_code(run(&s, "{'op':'image.unstage'}"), TSR_ENOENT);
    check_ok(run(&s, "{'op':'task.expire'}"));
    store_close(&s);
}

TEST_MAIN(cmocka_unit_test(staged_data_waits_without_hashes),
          cmocka_unit_test(staged_data_is_imported_without_copying),
          cmocka_unit_test(a_download_brings_its_own_data),
          cmocka_unit_test(a_failed_import_is_queued_again_and_says_why),
          cmocka_unit_test(another_host_takes_over_and_the_first_is_fenced),
          cmocka_unit_test(a_task_tells_how_far_its_import_is_until_it_ends),
          cmocka_unit_test(deleting_the_image_ends_its_task),
          cmocka_unit_test(tasks_are_forgotten_two_days_after_their_end),
          cmocka_unit_test(damaged_commands_are_refused))
