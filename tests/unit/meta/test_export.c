#include "fixture.h"

#include "meta/internal.h"
#include "tessera/base/buf.h"
#include "tessera/base/log.h"
#include "tessera/sys/fs.h"

static void quiet(void *arg, enum log_level level, const char *line)
{
    (void)arg;
    (void)level;
    (void)line;
}

static void fill(struct store *s, unsigned images)
{
    check_ok(run(s, "{'op':'cluster.init','cluster_id':'c','name':'n','chunk_bytes':4194304}"));
    add_hosts(s, 3);
    check_ok(run(s, "{'op':'endpoint.grant','host':2,'epoch':1,'address':'x','reason':'y'}"));
    check_ok(run(s, "{'op':'setting.put','name':'a','value':'1'}"));
    check_ok(run(s, "{'op':'dir.put','kind':'user','id':'u','value':{'name':'ann',"
                    "'domain_id':'d'}}"));
    for (unsigned i = 0; i < images; i++) {
        create(s, uuid(i));
        check_ok(run(s, "{'op':'image.tag','id':'%s','tag':'t%u'}", uuid(i), i % 3));
        check_ok(run(s, "{'op':'member.add','id':'%s','member':'m%u'}", uuid(i), i % 2));
        if (i % 2) {
            check_ok(run(s, "{'op':'member.status','id':'%s','member':'m1','status':'accepted'}",
                         uuid(i)));
            check_ok(run(s, "{'op':'image.saving','id':'%s','session':'s','host':1}", uuid(i)));
            check_ok(run(s,
                         "{'op':'image.activate','id':'%s','session':'s','manifest':'%s',"
                         "'size':%u,'replicas':[1,2],'placement':[1,2,3],'write_replicas':2}",
                         uuid(i), i % 4 == 1 ? MANIFEST_A : MANIFEST_B, i * 10));
        }
        if (i % 7 == 0) {
            check_ok(run(s, "{'op':'image.delete','id':'%s'}", uuid(i)));
        }
    }
}

/* The stream, read in pieces of @piece bytes. */
static struct buf stream_of(struct store *s, size_t piece)
{
    struct fsm *fsm = meta_fsm(s->m);
    struct fsm_export *e;
    struct fsm_point at, now = point(s);
    struct buf out = {0};
    char *data = malloc(piece);
    check_ok(fsm->ops->export_open(fsm, &e, &at));
    check_mem(&at, &now, sizeof(at));
    for (;;) {
        long n = fsm->ops->export_read(e, data, piece);
        check(n >= 0);
        if (n == 0) {
            break;
        }
        check_ok(buf_append(&out, data, (size_t)n));
    }
    fsm->ops->export_close(e);
    free(data);
    return out;
}

static const char *save(const struct buf *b)
{
    static const char *dir;
    dir = dir == NULL ? test_dir() : dir;
    const char *path = test_path(dir, "snapshot");
    struct fs_file *f; /* not fs_write_file: nothing here needs a sync */
    check_ok(fs_open(fs_real(), path, FS_WRITE | FS_CREATE | FS_TRUNC, &f));
    check_ok(fs_pwrite(fs_real(), f, b->data, b->size, 0));
    fs_close(fs_real(), f);
    return path;
}

static void check_same(struct kv *a, struct kv *b)
{
    struct kv_txn *ta, *tb;
    check_ok(kv_begin(a, false, &ta));
    check_ok(kv_begin(b, false, &tb));
    for (unsigned db = 0; db < meta_database_count; db++) {
        struct kv_cursor *ca, *cb;
        struct kv_val ka, va, kb, vb;
        if (strcmp(meta_databases[db], "ring") == 0) {
            continue; /* this host's own memory */
        }
        check_ok(kv_cursor_open(a, ta, db, &ca));
        check_ok(kv_cursor_open(b, tb, db, &cb));
        int ra, rb;
        do {
            ra = kv_cursor_move(a, ca, KV_NEXT, &ka, &va);
            rb = kv_cursor_move(b, cb, KV_NEXT, &kb, &vb);
            check_code(ra, rb);
            if (ra == 0) {
                check_int(ka.size, kb.size);
                check_mem(ka.data, kb.data, ka.size);
                check_int(va.size, vb.size);
                check_mem(va.data, vb.data, va.size);
            }
        } while (ra == 0);
        kv_cursor_close(a, ca);
        kv_cursor_close(b, cb);
    }
    kv_abort(a, ta);
    kv_abort(b, tb);
}

static void check_import(size_t run_bytes)
{
    struct store a, b;
    store_open(&a);
    store_open_lmdb(&b, test_dir());
    b.m->run_bytes = run_bytes;
    fill(&a, 60);
    create(&b, uuid(5000)); /* to be replaced */
    struct buf stream = stream_of(&a, 1000);
    struct fsm_point at, pa = point(&a), pb;
    struct fsm *fsm = meta_fsm(b.m);
    check_ok(fsm->ops->import_file(fsm, fs_real(), save(&stream), &at));
    pb = point(&b);
    check_mem(&at, &pa, sizeof(at));
    check_mem(&pb, &pa, sizeof(at));
    check_same(a.kv, b.kv);
    /* And both go on alike. */
    b.index = a.index;
    b.next_id = a.next_id;
    b.now = a.now;
    create(&a, uuid(777));
    create(&b, uuid(777));
    pa = point(&a);
    pb = point(&b);
    check_mem(&pb, &pa, sizeof(at));
    buf_free(&stream);
    store_close(&a);
    store_close(&b);
}

static void an_imported_store_is_equal_in_every_record_and_index(void **state)
{
    (void)state;
    check_import(META_RUN_BYTES);
    check_import(1000); /* a few keys at a time */
}

static void the_stream_does_not_depend_on_the_size_of_its_pieces(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    fill(&s, 20);
    struct buf a = stream_of(&s, 7), b = stream_of(&s, 1 << 20);
    check_int(a.size, b.size);
    check_mem(a.data, b.data, a.size);
    buf_free(&a);
    buf_free(&b);
    store_close(&s);
}

static void an_export_shows_the_moment_at_which_it_was_opened(void **state)
{
    (void)state;
    struct store s, t;
    store_open(&s);
    store_open(&t);
    fill(&s, 10);
    struct fsm *fsm = meta_fsm(s.m);
    struct fsm_export *e;
    struct fsm_point at, got;
    check_ok(fsm->ops->export_open(fsm, &e, &at));
    create(&s, uuid(900));
    struct buf stream = {0};
    char data[512];
    long n;
    while ((n = fsm->ops->export_read(e, data, sizeof(data))) > 0) {
        check_ok(buf_append(&stream, data, (size_t)n));
    }
    check_int(n, 0);
    fsm->ops->export_close(e);
    check_ok(meta_fsm(t.m)->ops->import_file(meta_fsm(t.m), fs_real(), save(&stream), &got));
    check_mem(&at, &got, sizeof(at));
    check(image(&t, uuid(900)) == NULL);
    buf_free(&stream);
    store_close(&s);
    store_close(&t);
}

static void a_damaged_or_cut_stream_changes_nothing(void **state)
{
    (void)state;
    struct store a, b;
    store_open(&a);
    store_open(&b);
    fill(&a, 6);
    create(&b, uuid(1));
    struct buf stream = stream_of(&a, 4096);
    struct fsm *fsm = meta_fsm(b.m);
    struct fsm_point before = point(&b), after, at;
    log_set_sink(quiet, NULL);
    for (size_t i = 0; i < stream.size; i += 97) {
        stream.data[i] = (char)(stream.data[i] ^ 0x10);
        check_code(fsm->ops->import_file(fsm, fs_real(), save(&stream), &at), TSR_ECORRUPT);
        stream.data[i] = (char)(stream.data[i] ^ 0x10);
    }
    size_t whole = stream.size;
    for (stream.size = 0; stream.size < whole; stream.size += 311) {
        check_code(fsm->ops->import_file(fsm, fs_real(), save(&stream), &at), TSR_ECORRUPT);
    }
    stream.size = whole;
    check_ok(buf_append(&stream, "x", 1));
    check_code(fsm->ops->import_file(fsm, fs_real(), save(&stream), &at), TSR_ECORRUPT);
    check_code(fsm->ops->import_file(fsm, fs_real(), "/nowhere/at/all", &at), TSR_ENOENT);
    stream.size = whole;
    check_int(stream.data[8], 1);
    stream.data[8] = 2; /* not damaged, of a newer version */
    check_code(fsm->ops->import_file(fsm, fs_real(), save(&stream), &at), TSR_ENOTSUP);
    log_set_sink(NULL, NULL);
    after = point(&b);
    check_mem(&before, &after, sizeof(after));
    buf_free(&stream);
    store_close(&a);
    store_close(&b);
}

static void a_failing_store_leaves_the_old_content_or_nothing(void **state)
{
    (void)state;
    struct store a;
    store_open(&a);
    fill(&a, 4);
    struct buf stream = stream_of(&a, 4096);
    const char *path = save(&stream);
    bool done = false;
    log_set_sink(quiet, NULL);
    for (unsigned n = 1; !done; n += 13) {
        struct store b;
        struct fsm_point at, now;
        store_open(&b);
        create(&b, uuid(1));
        struct fsm *fsm = meta_fsm(b.m);
        kv_mem_fail_after(b.kv, n);
        int rc = fsm->ops->import_file(fsm, fs_real(), path, &at);
        done = !kv_mem_failed(b.kv);
        kv_mem_fail_after(b.kv, 0);
        check_code(rc, done ? 0 : TSR_EIO);
        now = point(&b);
        check(now.index == (done ? at.index : 1) || now.index == at.index);
        store_close(&b);
    }
    log_set_sink(NULL, NULL);
    buf_free(&stream);
    store_close(&a);
}

static void stay_open(struct kv *kv)
{
    (void)kv;
}

/* As a process that ended and started again. */
static void reopen(struct kv *kv, struct meta **m)
{
    const struct kv_ops *ops = kv->ops;
    struct kv_ops kept = *ops;
    struct err err;
    kept.close = stay_open;
    kv->ops = &kept;
    meta_close(*m);
    kv->ops = ops;
    check_ok(meta_open(kv, m, &err));
}

/* Large enough for several transactions: a crash between them is found at the next open. */
static void an_import_that_did_not_end_gives_an_empty_store(void **state)
{
    (void)state;
    struct store a;
    struct kv *kv;
    struct meta *m;
    struct err err;
    struct fsm_point at, now;
    bool seen = false;
    char *text = malloc(900000);
    store_open(&a);
    for (unsigned i = 0; i < 24; i++) {
        int code,
            n = snprintf(text, 900000,
                         "{\"op\":\"image.create\",\"image\":{\"id\":\"%s\",\"props\":{", uuid(i));
        for (int p = 0; p < 13; p++) {
            n += snprintf(text + n, 900000 - (size_t)n, "%s\"p%d\":\"%060000d\"", p ? "," : "", p,
                          p);
        }
        snprintf(text + n, 900000 - (size_t)n, "}}}");
        check_ok(store_apply(&a, i + 1, text, &code));
        check_ok(code);
    }
    free(text);
    struct buf stream = stream_of(&a, 1 << 20);
    const char *path = save(&stream);
    check_ok(kv_mem_open(meta_database_count, &kv));
    check_ok(meta_open(kv, &m, &err));
    check_ok(kv_sync(kv));
    struct fsm *fsm = meta_fsm(m);
    log_set_sink(quiet, NULL);
    for (unsigned n = 40;; n += seen ? 301 : 11) {
        struct meta_view *v;
        kv_mem_fail_after(kv, n);
        int rc = fsm->ops->import_file(fsm, fs_real(), path, &at);
        bool failed = kv_mem_failed(kv);
        kv_mem_fail_after(kv, 0);
        if (!failed) {
            check_ok(rc);
            break;
        }
        check_ok(meta_point(m, &now));
        rc = meta_view_open(m, &v);
        check(rc == 0 || rc == TSR_EUNAVAILABLE);
        if (rc == 0) {
            meta_view_close(v);
        } else if (!seen) {
            seen = true;
            check_int(now.index, 0);
            struct fsm_entry e = {.index = 1, .term = 1};
            check_code(fsm->ops->apply(fsm, &e, 1), TSR_ECORRUPT);
            reopen(kv, &m);
            fsm = meta_fsm(m);
            check_ok(meta_point(m, &now));
            check_int(now.index, 0);
            check_ok(meta_view_open(m, &v));
            check(!meta_image_deleted(v, uuid(0)));
            meta_view_close(v);
            check_ok(fsm->ops->apply(fsm, &e, 1));
        }
    }
    log_set_sink(NULL, NULL);
    check(seen);
    check_int(at.index, 24);
    meta_close(m);
    buf_free(&stream);
    store_close(&a);
}

TEST_MAIN(cmocka_unit_test(an_imported_store_is_equal_in_every_record_and_index),
          cmocka_unit_test(the_stream_does_not_depend_on_the_size_of_its_pieces),
          cmocka_unit_test(an_export_shows_the_moment_at_which_it_was_opened),
          cmocka_unit_test(a_damaged_or_cut_stream_changes_nothing),
          cmocka_unit_test(a_failing_store_leaves_the_old_content_or_nothing),
          cmocka_unit_test(an_import_that_did_not_end_gives_an_empty_store))
