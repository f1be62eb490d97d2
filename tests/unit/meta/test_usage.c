#include "fixture.h"

#include "meta/schema.h"
#include "tessera/meta/usage.h"

/* --- counters equal a count of the images ------------------------------------------------------
 */

static const char *const projects[] = {"p", "q", "r"};

static struct meta_usage usage(struct store *s, const char *project)
{
    struct meta_view *v = view(s);
    struct meta_usage u;
    check_ok(meta_usage_get(v, project, &u));
    meta_view_close(v);
    return u;
}

static void check_recount(struct store *s)
{
    struct meta_view *v = view(s);
    struct meta_usage counted[3] = {{0}}, kept;
    char after[64] = "";
    json_t *images, *i;
    size_t at;
    check_ok(meta_image_walk(v, after, 10000, &images));
    json_array_foreach(images, at, i)
    {
        for (int p = 0; p < 3; p++) {
            struct meta_usage u;
            if (strcmp(json_str_or(i, "owner", ""), projects[p]) != 0) {
                continue;
            }
            meta_usage_of(i, &u);
            counted[p].size += u.size;
            counted[p].stage += u.stage;
            counted[p].count += u.count;
            counted[p].uploading += u.uploading;
        }
    }
    for (int p = 0; p < 3; p++) {
        check_ok(meta_usage_get(v, projects[p], &kept));
        check_int(kept.size, counted[p].size);
        check_int(kept.stage, counted[p].stage);
        check_int(kept.count, counted[p].count);
        check_int(kept.uploading, counted[p].uploading);
    }
    json_decref(images);
    meta_view_close(v);
}

/* --- short forms of commands -------------------------------------------------------------------
 */

static int make(struct store *s, unsigned n, const char *owner)
{
    return run(s,
               "{'op':'image.create','image':{'id':'%s','owner':'%s','disk_format':'raw',"
               "'container_format':'bare'}}",
               uuid(n), owner);
}

static int begin(struct store *s, unsigned n, const char *kind, long long size)
{
    return run(s,
               "{'op':'image.saving','id':'%s','session':'s%u','host':1,'kind':'%s','size':%lld}",
               uuid(n), n, kind, size);
}

static int reserve(struct store *s, unsigned n, long long bytes, long long want)
{
    return run(s, "{'op':'image.reserve','id':'%s','session':'s%u','bytes':%lld,'want':%lld}",
               uuid(n), n, bytes, want);
}

static int seal(struct store *s, const char *op, unsigned n, long long size)
{
    return run(s,
               "{'op':'%s','id':'%s','session':'s%u','manifest':'%s','size':%lld,"
               "'virtual_size':null,'checksum':'0123456789abcdef0123456789abcdef',"
               "'os_hash_algo':'sha512','os_hash_value':'ab','replicas':[1],'placement':[1],"
               "'write_replicas':1}",
               op, uuid(n), n, MANIFEST_A, size);
}

static int end(struct store *s, unsigned n)
{
    return run(s, "{'op':'image.abort','id':'%s','session':'s%u'}", uuid(n), n);
}

static void unstage(struct store *s, unsigned n)
{
    json_t *record = image(s, uuid(n));
    long long at = json_int(json_obj(record, "staged"), "at", 0);
    run(s, "{'op':'image.unstage','id':'%s','at':%lld}", uuid(n), at);
    json_decref(record);
}

static int drop(struct store *s, unsigned n)
{
    return run(s, "{'op':'image.delete','id':'%s'}", uuid(n));
}

static void quota(struct store *s, const char *id, const char *limits)
{
    check_ok(run(s, "{'op':'dir.put','kind':'quota','id':'%s','value':{%s}}", id, limits));
}

static void open_with_host(struct store *s)
{
    store_open(s);
    add_hosts(s, 1);
}

#define MIB (1LL << 20)

/* --- tests --------------------------------------------------------------------------------------
 */

static void an_upload_counts_what_it_reserved_and_then_what_it_brought(void **state)
{
    (void)state;
    struct store s;
    open_with_host(&s);
    check_ok(make(&s, 1, "p"));
    check_int(usage(&s, "p").count, 1);
    check_ok(begin(&s, 1, "upload", 100));
    check_int(usage(&s, "p").size, 100);
    check_int(usage(&s, "p").uploading, 1);
    check_ok(reserve(&s, 1, 150, 200));
    check_int(json_int(s.result, "reserved", 0), 200);
    check_int(usage(&s, "p").size, 200);
    check_ok(seal(&s, "image.activate", 1, 7));
    check_int(usage(&s, "p").size, 7);
    check_int(usage(&s, "p").uploading, 0);
    check_ok(drop(&s, 1));
    check_int(usage(&s, "p").size, 0);
    check_int(usage(&s, "p").count, 0);
    store_close(&s);
}

static void nothing_leaks_when_an_upload_ends_early(void **state)
{
    (void)state;
    struct store s;
    open_with_host(&s);
    check_ok(make(&s, 1, "p"));
    check_ok(begin(&s, 1, "upload", 1000));
    check_ok(end(&s, 1));
    check_int(usage(&s, "p").size, 0);
    check_int(usage(&s, "p").uploading, 0);
    check_ok(begin(&s, 1, "upload", 1000));
    check_ok(drop(&s, 1)); /* in the middle */
    check_int(usage(&s, "p").size, 0);
    check_int(usage(&s, "p").count, 0);
    check_ok(end(&s, 1));
    check_recount(&s);
    store_close(&s);
}

static void staged_data_counts_apart_until_its_import_begins(void **state)
{
    (void)state;
    struct store s;
    open_with_host(&s);
    check_ok(make(&s, 1, "p"));
    check_ok(begin(&s, 1, "stage", 50));
    check_int(usage(&s, "p").stage, 50);
    check_ok(seal(&s, "image.stage", 1, 40));
    check_int(usage(&s, "p").stage, 40);
    check_int(usage(&s, "p").uploading, 1);
    check_ok(run(&s,
                 "{'op':'import.start','id':'%s','session':'s1','host':1,'store':'t',"
                 "'method':'glance-direct','task':{'id':'%s','type':'api_image_import',"
                 "'input':{}}}",
                 uuid(1), uuid(70)));
    check_int(usage(&s, "p").stage, 0);
    check_int(usage(&s, "p").size, 40);
    check_ok(run(&s, "{'op':'import.fail','id':'%s','session':'s1','message':'no'}", uuid(1)));
    check_int(usage(&s, "p").size, 0);
    check_int(usage(&s, "p").uploading, 0);
    check_recount(&s);
    store_close(&s);
}

static void what_goes_over_a_limit_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    struct store s;
    open_with_host(&s);
    quota(&s, "*", "'image_count_total':2,'image_size_total':10,'image_count_uploading':1");
    check_ok(make(&s, 1, "p"));
    check_ok(make(&s, 2, "p"));
    check_code(make(&s, 3, "p"), TSR_ETOOBIG);
    check_str(message(&s),
              "The project's quota image_count_total of 2 images is exceeded; 2 are in use.");
    check_ok(make(&s, 4, "q")); /* another project has its own */
    check_code(begin(&s, 1, "upload", 10 * MIB + 1), TSR_ETOOBIG);
    check_field(&s, uuid(1), "status", "\"queued\"");
    check_ok(begin(&s, 1, "upload", 10 * MIB));
    check_code(begin(&s, 2, "upload", 0), TSR_ETOOBIG); /* one upload at a time */
    check_ok(seal(&s, "image.activate", 1, 10 * MIB));
    check_ok(begin(&s, 2, "upload", 0));
    check_code(reserve(&s, 2, 1, 1), TSR_ETOOBIG);
    check_code(seal(&s, "image.activate", 2, 1), TSR_ETOOBIG); /* without asking: too */
    check_ok(end(&s, 2));
    check_ok(drop(&s, 1));
    check_ok(begin(&s, 2, "upload", 5));
    check_ok(seal(&s, "image.activate", 2, 5));
    check_recount(&s);
    store_close(&s);
}

static void a_reservation_gets_what_room_there_is(void **state)
{
    (void)state;
    struct store s;
    open_with_host(&s);
    quota(&s, "p", "'user_storage_quota':1000");
    check_ok(make(&s, 1, "p"));
    check_ok(begin(&s, 1, "upload", 0));
    check_ok(reserve(&s, 1, 10, 5000));
    check_int(json_int(s.result, "reserved", 0), 1000);
    check_ok(reserve(&s, 1, 1000, 5000)); /* never less */
    check_int(json_int(s.result, "reserved", 0), 1000);
    check_code(reserve(&s, 1, 1001, 5000), TSR_ETOOBIG);
    check_code(reserve(&s, 1, 10, 5), TSR_EINVAL);
    check_code(reserve(&s, 2, 10, 15), TSR_ENOENT);
    check_ok(end(&s, 1));
    check_code(reserve(&s, 1, 10, 15), TSR_ECONFLICT);
    store_close(&s);
}

static void a_projects_own_limit_wins_and_goes_with_it(void **state)
{
    (void)state;
    struct store s;
    open_with_host(&s);
    quota(&s, "*", "'image_count_total':0");
    quota(&s, "p", "'image_count_total':-1");
    check_ok(run(&s, "{'op':'dir.put','kind':'project','id':'p','value':{'name':'p'}}"));
    check_ok(make(&s, 1, "p"));
    check_code(make(&s, 2, "q"), TSR_ETOOBIG);
    check_ok(run(&s, "{'op':'dir.delete','kind':'project','id':'p'}"));
    check_code(make(&s, 3, "p"), TSR_ETOOBIG);
    store_close(&s);
}

static void lowering_a_limit_stops_only_what_is_new(void **state)
{
    (void)state;
    struct store s;
    open_with_host(&s);
    check_ok(make(&s, 1, "p"));
    check_ok(begin(&s, 1, "upload", 100));
    quota(&s, "p", "'user_storage_quota':10,'image_count_total':0,'image_count_uploading':0");
    check_ok(seal(&s, "image.activate", 1, 100)); /* it was promised */
    check_ok(run(&s, "{'op':'image.update','id':'%s','set':{'name':'n'}}", uuid(1)));
    check_ok(drop(&s, 1));
    check_recount(&s);
    store_close(&s);
}

static void an_image_given_away_counts_for_its_new_owner(void **state)
{
    (void)state;
    struct store s;
    open_with_host(&s);
    quota(&s, "q", "'image_count_total':1");
    check_ok(make(&s, 1, "p"));
    check_ok(make(&s, 2, "p"));
    check_ok(run(&s, "{'op':'image.update','id':'%s','set':{'owner':'q'}}", uuid(1)));
    check_code(run(&s, "{'op':'image.update','id':'%s','set':{'owner':'q'}}", uuid(2)),
               TSR_ETOOBIG);
    check_ok(run(&s, "{'op':'image.update','id':'%s','set':{'owner':null}}", uuid(1)));
    check_int(usage(&s, "q").count, 0);
    check_int(usage(&s, "p").count, 1);
    check_recount(&s);
    store_close(&s);
}

/* Whatever happens in whatever order, refused or not. */
static void counters_equal_a_recount_after_any_history(void **state)
{
    (void)state;
    enum { STEPS = 3000, IMAGES = 12 };
    struct store s;
    uint32_t seed = 7;
    open_with_host(&s);
    quota(&s, "*", "'image_count_total':5,'user_storage_quota':3000,'image_count_uploading':3");
    for (unsigned step = 0; step < STEPS; step++) {
        seed = seed * 1103515245u + 12345u;
        unsigned n = 1 + (seed >> 8) % IMAGES, what = (seed >> 16) % 9;
        long long size = (seed >> 4) % 900;
        switch (what) {
        case 0:
        case 1: /* ids are never used again */
            make(&s, n + IMAGES * (step / 40), projects[seed % 3]);
            break;
        case 2:
            begin(&s, n + IMAGES * (step / 40), seed & 1 ? "upload" : "stage", size);
            break;
        case 3:
            reserve(&s, n + IMAGES * (step / 40), size, size * 2);
            break;
        case 4:
            seal(&s, seed & 1 ? "image.activate" : "image.stage", n + IMAGES * (step / 40), size);
            break;
        case 5:
            end(&s, n + IMAGES * (step / 40));
            break;
        case 6:
            unstage(&s, n + IMAGES * (step / 40));
            break;
        case 7:
            run(&s, "{'op':'image.update','id':'%s','set':{'owner':'%s'}}",
                uuid(n + IMAGES * (step / 40)), projects[(seed >> 3) % 3]);
            break;
        default:
            drop(&s, n + IMAGES * (step / 40 - (step / 40 > 0 ? 1 : 0)));
            break;
        }
        if (step % 50 == 0) {
            check_recount(&s);
        }
    }
    check_recount(&s);
    store_close(&s);
}

static void a_store_of_format_1_is_counted_when_it_is_opened(void **state)
{
    (void)state;
    struct store s;
    struct err err = {0};
    struct kv_txn *txn;
    const char *dir = test_dir();
    store_open_lmdb(&s, dir);
    add_hosts(&s, 1);
    check_ok(make(&s, 1, "p"));
    check_ok(make(&s, 2, "p"));
    check_ok(begin(&s, 2, "upload", 0));
    check_ok(seal(&s, "image.activate", 2, 9));
    store_close(&s);

    /* What an older program left: no counters, and its version. */
    struct kv *kv;
    check_ok(kv_lmdb_open(dir, 256 << 20, meta_databases, meta_database_count, KV_SYNC_NONE, &kv));
    check_ok(kv_begin(kv, true, &txn));
    check_ok(kv_drop(kv, txn, meta_database_count - 1));
    unsigned db = 0;
    while (strcmp(meta_databases[db], "meta") != 0) {
        db++;
    }
    uint8_t version[12 + 4];
    record_encode(kv_val_of("version", 7), "{\"format\":1}", 12, version);
    check_ok(kv_put(kv, txn, db, kv_val_of("version", 7), kv_val_of(version, sizeof(version))));
    check_ok(kv_commit(kv, txn));

    check_ok(meta_open(kv, &s.m, &err));
    check_int(usage(&s, "p").count, 2);
    check_int(usage(&s, "p").size, 9);
    check_recount(&s);
    meta_close(s.m);
}

TEST_MAIN(cmocka_unit_test(an_upload_counts_what_it_reserved_and_then_what_it_brought),
          cmocka_unit_test(nothing_leaks_when_an_upload_ends_early),
          cmocka_unit_test(staged_data_counts_apart_until_its_import_begins),
          cmocka_unit_test(what_goes_over_a_limit_is_refused_and_changes_nothing),
          cmocka_unit_test(a_reservation_gets_what_room_there_is),
          cmocka_unit_test(a_projects_own_limit_wins_and_goes_with_it),
          cmocka_unit_test(lowering_a_limit_stops_only_what_is_new),
          cmocka_unit_test(an_image_given_away_counts_for_its_new_owner),
          cmocka_unit_test(counters_equal_a_recount_after_any_history),
          cmocka_unit_test(a_store_of_format_1_is_counted_when_it_is_opened))
