#include "fixture.h"

#include "tessera/base/digest.h"
#include "tessera/base/log.h"

static void a_new_store_is_at_index_zero(void **state)
{
    (void)state;
    struct store s;
    struct fsm_point zero = {0};
    store_open(&s);
    struct fsm_point p = point(&s);
    check_mem(&p, &zero, sizeof(p));
    struct meta_view *v = view(&s);
    check_int(meta_view_index(v), 0);
    meta_view_close(v);
    store_close(&s);
}

static void an_entry_without_commands_moves_the_point(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    struct fsm *fsm = meta_fsm(s.m);
    struct fsm_entry e[2] = {{.index = 1, .term = 3}, {.index = 2, .term = 4}};
    check_ok(fsm->ops->apply(fsm, e, 2));
    struct fsm_point p = point(&s), ring;
    check_int(p.index, 2);
    check_int(p.term, 4);
    check_ok(meta_digest_at(s.m, 2, ring.digest));
    check_mem(ring.digest, p.digest, FSM_DIGEST_SIZE);
    check_ok(meta_digest_at(s.m, 1, ring.digest));
    check(memcmp(ring.digest, p.digest, FSM_DIGEST_SIZE) != 0);
    check_code(meta_digest_at(s.m, 3, ring.digest), TSR_ENOENT);
    check_code(fsm->ops->apply(fsm, e, 1), TSR_EINVAL); /* below what is applied */
    store_close(&s);
}

static void a_command_is_applied_once_and_answered_alike(void **state)
{
    (void)state;
    struct store s;
    int code;
    store_open(&s);
    static const char put[] = "{\"op\":\"dir.put\",\"kind\":\"user\",\"id\":\"u\",\"value\":{},"
                              "\"if\":\"absent\"}";
    check_ok(store_apply(&s, 7, put, &code));
    check_ok(code);
    check(!s.duplicate);
    check_ok(store_apply(&s, 7, put, &code));
    check_ok(code);
    check(s.duplicate);
    check_ok(store_apply(&s, 8, put, &code));
    check_code(code, TSR_EEXIST);
    check_ok(run(&s, "{'op':'dir.delete','kind':'user','id':'u'}"));
    check_ok(store_apply(&s, 8, put, &code)); /* the refusal is the recorded outcome */
    check_code(code, TSR_EEXIST);
    check_str(message(&s), "The id is in use.");
    check(s.duplicate);
    store_close(&s);
}

static void a_duplicate_inside_one_entry_is_found(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    static const char text[] = "{\"op\":\"dir.put\",\"kind\":\"user\",\"id\":\"u\",\"value\":{},"
                               "\"if\":\"absent\"}";
    struct fsm_command c[2] = {{.data = text, .size = sizeof(text) - 1},
                               {.data = text, .size = sizeof(text) - 1}};
    struct fsm_entry e = {.index = 1, .term = 1, .wall_us = 5, .commands = c, .count = 2};
    struct fsm *fsm = meta_fsm(s.m);
    check_ok(fsm->ops->apply(fsm, &e, 1));
    check_ok(c[1].code);
    check(!c[0].duplicate && c[1].duplicate);
    free(c[0].result);
    free(c[1].result);
    store_close(&s);
}

static void the_same_id_with_another_fingerprint_is_refused(void **state)
{
    (void)state;
    struct store s;
    int code;
    store_open(&s);
    check_ok(store_apply(&s, 1, "{\"op\":\"batch\",\"commands\":[],\"fp\":\"x\"}", &code));
    check_ok(code);
    check_ok(store_apply(&s, 1, "{\"op\":\"batch\",\"commands\":[],\"fp\":\"y\"}", &code));
    check_code(code, TSR_EUNPROCESSABLE);
    check_ok(store_apply(&s, 1, "{\"op\":\"batch\",\"commands\":[]}", &code));
    check_code(code, TSR_EUNPROCESSABLE);
    check_ok(store_apply(&s, 1, "{\"op\":\"batch\",\"commands\":[],\"fp\":\"x\"}", &code));
    check_ok(code);
    check(s.duplicate);
    store_close(&s);
}

static void outcomes_older_than_the_window_are_forgotten_and_old_commands_refused(void **state)
{
    (void)state;
    struct store s;
    int code;
    static const char text[] = "{\"op\":\"batch\",\"commands\":[],\"born\":1}";
    store_open(&s);
    check_ok(store_apply(&s, 1, text, &code)); /* at 1 */
    s.index = RESULT_WINDOW - 1;
    check_ok(store_apply(&s, 1, text, &code)); /* at RESULT_WINDOW: still known */
    check(s.duplicate);
    check_ok(store_apply(&s, 1, text, &code)); /* at RESULT_WINDOW + 1: 1 is inside */
    check(s.duplicate);
    check_ok(
        store_apply(&s, 2, text, &code)); /* RESULT_WINDOW + 2: born at 1 is out; 1 is evicted */
    check_code(code, TSR_EUNKNOWN);
    check_ok(store_apply(&s, 1, text, &code));
    check_code(code, TSR_EUNKNOWN);
    check(!s.duplicate);
    check_ok(store_apply(&s, 3, "{\"op\":\"batch\",\"commands\":[],\"born\":1000000}", &code));
    check_ok(code);
    store_close(&s);
}

static void what_this_version_does_not_know_stops_the_host_with_nothing_changed(void **state)
{
    (void)state;
    struct store s;
    int code;
    store_open(&s);
    check_ok(run(&s, "{'op':'setting.put','name':'a','value':'1'}"));
    struct fsm_point before = point(&s), after;
    check_code(store_apply(&s, 50, "{\"op\":\"image.fly\"}", &code), TSR_ENOTSUP);
    check_code(store_apply(&s, 50, "{\"op\":\"batch\",\"commands\":[],\"v\":2}", &code),
               TSR_ENOTSUP);
    check_code(store_apply(&s, 50, "{\"op\":\"batch\",\"commands\":[{\"op\":\"x\"}]}", &code),
               TSR_ENOTSUP);
    check_code(store_apply(&s, 50, "{\"op\":", &code), TSR_ECORRUPT);
    check_code(store_apply(&s, 50, "[]", &code), TSR_ECORRUPT);
    after = point(&s);
    check_mem(&before, &after, sizeof(after));
    check_ok(run(&s, "{'op':'setting.put','name':'a','value':'2'}"));
    store_close(&s);
}

static void a_batch_is_all_or_nothing(void **state)
{
    (void)state;
    struct store s;
    json_t *out;
    store_open(&s);
    check_ok(run(&s, "{'op':'batch','commands':["
                     "{'op':'dir.put','kind':'user','id':'u','value':{'name':'n'}},"
                     "{'op':'dir.put','kind':'assignment','id':'u:p','value':{'user_id':'u'}},"
                     "{'op':'setting.put','name':'x','value':'1'}]}"));
    check_int(json_array_size(json_arr(s.result, "results")), 3);
    check_code(run(&s, "{'op':'batch','commands':["
                       "{'op':'setting.put','name':'x','value':'2'},"
                       "{'op':'dir.delete','kind':'user','id':'u'},"
                       "{'op':'dir.put','kind':'user','id':'v','value':{},'if':'present'},"
                       "{'op':'setting.put','name':'y','value':'3'}]}"),
               TSR_ENOENT);
    check_int(json_int(s.result, "failed", -1), 2);
    struct meta_view *v = view(&s);
    check_ok(meta_setting_get(v, "x", &out));
    check_str(json_string_value(out), "1");
    json_decref(out);
    check_code(meta_setting_get(v, "y", &out), TSR_ENOENT);
    check_ok(meta_dir_get(v, "assignment", "u:p", &out));
    json_decref(out);
    meta_view_close(v);
    check_code(run(&s, "{'op':'batch','commands':[{'op':'batch','commands':[]}]}"), TSR_EINVAL);
    check_code(run(&s, "{'op':'batch'}"), TSR_EINVAL);
    store_close(&s);
}

static void commands_of_a_batch_see_each_other(void **state)
{
    (void)state;
    struct store s;
    json_t *out;
    store_open(&s);
    check_ok(run(&s,
                 "{'op':'batch','commands':["
                 "{'op':'dir.put','kind':'user','id':'u','value':{}},"
                 "{'op':'dir.put','kind':'assignment','id':'a1','value':{'user_id':'u'}},"
                 "{'op':'dir.put','kind':'assignment','id':'a2','value':{'user_id':'w'}},"
                 "{'op':'dir.delete','kind':'user','id':'u'},"
                 "{'op':'image.create','image':{'id':'%s','tags':['t']}},"
                 "{'op':'member.add','id':'%s','member':'m'},"
                 "{'op':'image.delete','id':'%s'}]}",
                 uuid(1), uuid(1), uuid(1)));
    struct meta_view *v = view(&s);
    check_ok(meta_dir_list(v, "assignment", "", "", 10, &out));
    check_int(json_array_size(out), 1);
    json_decref(out);
    check_ok(meta_member_list(v, uuid(1), &out));
    check_int(json_array_size(out), 0);
    json_decref(out);
    check(meta_image_deleted(v, uuid(1)));
    meta_view_close(v);
    store_close(&s);
}

/* A little of everything, the same on any store. */
static void story(struct store *s)
{
    check_ok(run(s, "{'op':'cluster.init','cluster_id':'c','name':'n','chunk_bytes':4194304}"));
    add_hosts(s, 3);
    for (unsigned i = 0; i < 8; i++) {
        create(s, uuid(i));
        check_ok(run(s, "{'op':'image.tag','id':'%s','tag':'t%u'}", uuid(i), i % 3));
        check_ok(run(s, "{'op':'member.add','id':'%s','member':'m%u'}", uuid(i), i % 2));
        check_ok(run(s, "{'op':'image.saving','id':'%s','session':'s','host':1}", uuid(i)));
        check_ok(run(s,
                     "{'op':'image.activate','id':'%s','session':'s','manifest':'%s','size':%u,"
                     "'replicas':[1,2],'placement':[1,2,3],'write_replicas':2}",
                     uuid(i), i % 2 ? MANIFEST_A : MANIFEST_B, i * 10));
    }
    check_ok(
        run(s, "{'op':'image.replica','manifest':'%s','host':3,'state':'present'}", MANIFEST_A));
    check_ok(run(s, "{'op':'image.delete','id':'%s'}", uuid(3)));
    check_code(run(s, "{'op':'image.delete','id':'%s'}", uuid(3)), TSR_ENOENT);
    check_ok(run(s, "{'op':'endpoint.grant','host':2,'epoch':1,'address':'x','reason':'y'}"));
}

static void equal_commands_give_equal_digests_on_both_kinds_of_store(void **state)
{
    (void)state;
    struct store a, b;
    store_open(&a);
    store_open_lmdb(&b, test_dir());
    story(&a);
    story(&b);
    struct fsm_point pa = point(&a), pb = point(&b);
    check_mem(&pa, &pb, sizeof(pa));
    store_close(&a);
    store_close(&b);
}

static void another_effect_gives_another_digest(void **state)
{
    (void)state;
    struct store a, b;
    store_open(&a);
    store_open(&b);
    check_ok(run(&a, "{'op':'setting.put','name':'a','value':'1'}"));
    check_ok(run(&b, "{'op':'setting.put','name':'a','value':'2'}"));
    struct fsm_point pa = point(&a), pb = point(&b);
    check(memcmp(pa.digest, pb.digest, FSM_DIGEST_SIZE) != 0);
    store_close(&a);
    store_close(&b);
}

static void quiet(void *arg, enum log_level level, const char *line)
{
    (void)arg;
    (void)level;
    (void)line;
}

static void a_failing_call_of_the_store_fails_apply_and_changes_nothing(void **state)
{
    (void)state;
    log_set_sink(quiet, NULL);
    static const char *const commands[] = {
        "{\"op\":\"image.create\",\"image\":{\"id\":\"00000000-0000-4000-8000-0000000000aa\"}}",
        "{\"op\":\"member.add\",\"id\":\"00000000-0000-4000-8000-000000000000\",\"member\":\"z\"}",
        "{\"op\":\"image.replica\",\"manifest\":\"" MANIFEST_B
        "\",\"host\":3,\"state\":\"present\"}",
        "{\"op\":\"image.delete\",\"id\":\"00000000-0000-4000-8000-000000000002\"}",
        "{\"op\":\"host.state\",\"id\":1,\"state\":\"down\"}",
        "{\"op\":\"dir.delete\",\"kind\":\"user\",\"id\":\"u\"}",
    };
    struct store s;
    store_open(&s);
    story(&s);
    check_ok(run(&s, "{'op':'dir.put','kind':'user','id':'u','value':{}}"));
    check_ok(run(&s, "{'op':'dir.put','kind':'assignment','id':'a','value':{'user_id':'u'}}"));
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        for (unsigned n = 1;; n++) {
            struct fsm_point before = point(&s), after;
            int code;
            kv_mem_fail_after(s.kv, n);
            int rc = store_apply(&s, 900 + i, commands[i], &code);
            bool failed = kv_mem_failed(s.kv);
            kv_mem_fail_after(s.kv, 0);
            if (!failed) {
                check_ok(rc);
                check_ok(code);
                break;
            }
            check_code(rc, TSR_EIO);
            after = point(&s);
            check_mem(&before, &after, sizeof(after));
        }
    }
    store_close(&s);
    log_set_sink(NULL, NULL);
}

static void a_store_that_was_closed_goes_on_where_it_was(void **state)
{
    (void)state;
    struct store s, again;
    const char *dir = test_dir();
    store_open_lmdb(&s, dir);
    story(&s);
    struct fsm_point before = point(&s);
    uint64_t next = s.next_id, index = s.index;
    store_close(&s);
    store_open_lmdb(&again, dir);
    struct fsm_point after = point(&again);
    check_mem(&before, &after, sizeof(after));
    again.next_id = next;
    again.index = index;
    create(&again, uuid(99));
    store_close(&again);
}

static void a_damaged_record_is_reported_not_believed(void **state)
{
    (void)state;
    struct store s;
    struct kv_txn *txn;
    struct kv_val val;
    json_t *out;
    char copy[4096];
    store_open(&s);
    create(&s, uuid(1));
    check_ok(kv_begin(s.kv, true, &txn));
    check_ok(kv_get(s.kv, txn, 0, kv_val_of(uuid(1), 36), &val));
    check(val.size < sizeof(copy));
    size_t size = val.size;
    memcpy(copy, val.data, size);
    copy[size / 2] ^= 1;
    check_ok(kv_put(s.kv, txn, 0, kv_val_of(uuid(1), 36), kv_val_of(copy, size)));
    check_ok(kv_commit(s.kv, txn));
    struct meta_view *v = view(&s);
    check_code(meta_image_get(v, uuid(1), &out), TSR_ECORRUPT);
    struct meta_image_query q = {.admin = true, .limit = 5};
    bool more;
    check_code(meta_image_list(v, &q, &out, &more), TSR_ECORRUPT);
    meta_view_close(v);
    check_int(meta_damaged(s.m), 2);
    int code;
    char text[128];
    snprintf(text, sizeof(text), "{\"op\":\"image.delete\",\"id\":\"%s\"}", uuid(1));
    check_code(store_apply(&s, 77, text, &code), TSR_ECORRUPT);
    store_close(&s);
}

static void a_store_that_is_not_ours_or_newer_is_refused(void **state)
{
    (void)state;
    struct kv *kv;
    struct kv_txn *txn;
    struct meta *m;
    struct err err;
    check_ok(kv_mem_open(meta_database_count, &kv));
    check_ok(kv_begin(kv, true, &txn));
    check_ok(kv_put(kv, txn, 0, kv_val_of("x", 1), kv_val_of("y", 1)));
    check_ok(kv_commit(kv, txn));
    check_code(meta_open(kv, &m, &err), TSR_ECORRUPT); /* data without a version */

    static const char text[] = "{\"format\":3}";
    struct kv_val key = kv_val_of("version", 7);
    uint8_t value[sizeof(text) + 3];
    uint32_t crc = crc32c(crc32c(0, key.data, key.size), text, sizeof(text) - 1);
    for (int i = 0; i < 4; i++) {
        value[i] = (uint8_t)(crc >> 8 * i);
    }
    memcpy(value + 4, text, sizeof(text) - 1);
    unsigned db = 0;
    while (strcmp(meta_databases[db], "meta") != 0) {
        db++;
    }
    check_ok(kv_mem_open(meta_database_count, &kv));
    check_ok(kv_begin(kv, true, &txn));
    check_ok(kv_put(kv, txn, db, key, kv_val_of(value, sizeof(value))));
    check_ok(kv_commit(kv, txn));
    check_code(meta_open(kv, &m, &err), TSR_ENOTSUP);
    check_str(err.msg, "the metadata store has format 3, this program knows format 2");
}

static void a_large_outcome_is_recorded_without_its_text(void **state)
{
    (void)state;
    struct store s;
    int code;
    char *text = malloc(200000);
    store_open(&s);
    int n = snprintf(text, 200000, "{\"op\":\"image.create\",\"image\":{\"id\":\"%s\",\"props\":{",
                     uuid(1));
    for (int i = 0; i < 3; i++) {
        n += snprintf(text + n, 200000 - (size_t)n, "%s\"p%d\":\"%060000d\"", i ? "," : "", i, i);
    }
    snprintf(text + n, 200000 - (size_t)n, "}}}");
    check_ok(store_apply(&s, 1, text, &code));
    check_ok(code);
    assert_non_null(json_obj(s.result, "image"));
    check_ok(store_apply(&s, 1, text, &code));
    check_ok(code);
    check(s.duplicate);
    check_int(json_object_size(s.result), 0);
    free(text);
    store_close(&s);
}

TEST_MAIN(cmocka_unit_test(a_new_store_is_at_index_zero),
          cmocka_unit_test(an_entry_without_commands_moves_the_point),
          cmocka_unit_test(a_command_is_applied_once_and_answered_alike),
          cmocka_unit_test(a_duplicate_inside_one_entry_is_found),
          cmocka_unit_test(the_same_id_with_another_fingerprint_is_refused),
          cmocka_unit_test(outcomes_older_than_the_window_are_forgotten_and_old_commands_refused),
          cmocka_unit_test(what_this_version_does_not_know_stops_the_host_with_nothing_changed),
          cmocka_unit_test(a_batch_is_all_or_nothing),
          cmocka_unit_test(commands_of_a_batch_see_each_other),
          cmocka_unit_test(equal_commands_give_equal_digests_on_both_kinds_of_store),
          cmocka_unit_test(another_effect_gives_another_digest),
          cmocka_unit_test(a_failing_call_of_the_store_fails_apply_and_changes_nothing),
          cmocka_unit_test(a_store_that_was_closed_goes_on_where_it_was),
          cmocka_unit_test(a_damaged_record_is_reported_not_believed),
          cmocka_unit_test(a_store_that_is_not_ours_or_newer_is_refused),
          cmocka_unit_test(a_large_outcome_is_recorded_without_its_text))
