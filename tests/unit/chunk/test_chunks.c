/* The chunk service: sharing, sealing, dropping, collecting, bad copies, restarts. */
#include "fixture.h"

static struct virtual v;
static struct host_env e;

static int setup(void **state)
{
    (void)state;
    virtual_init(&v, 7);
    env_init(&e, &v, 1);
    env_open(&e);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    env_end(&e);
    timer_heap_free(&v.timers);
    return 0;
}

static struct chunks_stats stats(void)
{
    struct chunks_stats s;
    chunks_stats(e.chunks, &s);
    return s;
}

static void a_chunk_comes_back_as_it_was_put(void **state)
{
    (void)state;
    check_ok(env_put(&e, 1, 5));
    check_ok(env_get(&e, 5));
    check_code(env_get(&e, 6), TSR_ENOENT);
}

static void a_second_put_of_the_same_chunk_writes_nothing(void **state)
{
    (void)state;
    uint8_t data[TEST_CHUNK];
    check_ok(env_put(&e, 1, 5));
    uint64_t writes = sim_fs_calls(e.fs, SIM_FS_WRITE);
    struct waiting w = waiting_for(&e, 2);
    content(5, data, sizeof data, &w.req.id);
    w.req.data = data;
    w.req.size = sizeof data;
    check_ok(wait_call(&e, chunk_put, &w));
    check(w.req.existed);
    check_int(sim_fs_calls(e.fs, SIM_FS_WRITE), writes);
}

static void chunks_of_a_given_up_session_are_collected(void **state)
{
    (void)state;
    check_ok(env_put(&e, 1, 5));
    check_ok(env_put(&e, 2, 5));
    check_ok(env_put(&e, 1, 6));
    check_int(env_collect(&e), 0);
    check_ok(env_session_end(&e, 1));
    check_int(env_collect(&e), 1); /* 5 is still reserved by session 2 */
    check_ok(env_get(&e, 5));
    check(!env_has_file(&e, 6));
    check_ok(env_session_end(&e, 2));
    check_int(env_collect(&e), 1);
    check_int(stats().chunk_count, 0);
}

/* A message that was overtaken by the end of its session: nobody would end it again. */
static void what_comes_after_the_end_of_its_session_is_refused(void **state)
{
    (void)state;
    check_ok(env_put(&e, 1, 5));
    check_ok(env_session_end(&e, 1));
    check_code(env_put(&e, 1, 6), TSR_ECANCELED);
    check_code(env_put(&e, 1, 5), TSR_ECANCELED);
    check_int(env_collect(&e), 1);
    check_int(stats().chunk_count, 0);
    check_ok(env_put(&e, 2, 6)); /* others go on */
    check_ok(env_session_end(&e, 2));
    check_int(env_collect(&e), 1);
}

/* At whatever step of the seal the end comes, of a manifest that is new or known. */
static void a_session_that_ends_while_it_seals_keeps_nothing(void **state)
{
    (void)state;
    unsigned session = 0, refused = 0;
    for (unsigned n = 0; n < 40; n++) {
        bool known = n % 2 == 1;
        char *data;
        size_t size;
        struct chunk_id id;
        if (known) {
            check_ok(env_put(&e, ++session, 1));
            check_ok(env_seal(&e, session, (unsigned[]){1}, 1, NULL));
            check_ok(env_session_end(&e, session));
        }
        check_ok(env_put(&e, ++session, 1));
        struct waiting seal = waiting_for(&e, session);
        seal.req.arg = &seal;
        manifest_of((unsigned[]){1}, 1, &data, &size, &seal.req.id);
        id = seal.req.id;
        seal.req.data = data;
        seal.req.size = size;
        chunk_seal(e.chunks, &seal.req);
        for (unsigned step = 0; step < n / 2; step++) {
            virtual_ready_step(&v);
        }
        check_ok(env_session_end(&e, session));
        virtual_until(&v, &seal.done);
        refused += seal.status == TSR_ECANCELED;
        int rv = env_manifest(&e, chunk_manifest_drop, &id);
        check_code(rv, rv == 0 ? 0 : TSR_ENOENT); /* and not TSR_EBUSY */
        free(data);
        free(seal.req.missing);
        env_collect(&e);
        check_int(stats().chunk_count, 0);
        check_int(stats().reserved_count, 0);
    }
    check(refused > 4);
}

static void a_sealed_manifest_keeps_its_chunks_and_a_drop_lets_them_go(void **state)
{
    (void)state;
    struct chunk_id a, b;
    for (unsigned n = 1; n <= 4; n++) {
        check_ok(env_put(&e, 1, n));
    }
    check_ok(env_seal(&e, 1, (unsigned[]){1, 2, 2, 3}, 4, &a));
    check_ok(env_seal(&e, 1, (unsigned[]){3, 4}, 2, &b));
    check_ok(env_seal(&e, 1, (unsigned[]){3, 4}, 2, &b)); /* again: no second reference */
    check_code(env_manifest(&e, chunk_manifest_drop, &a), TSR_EBUSY);
    check_ok(env_session_end(&e, 1));
    check_int(env_collect(&e), 0);
    check_ok(env_manifest(&e, chunk_manifest_has, &a));
    check_ok(env_manifest(&e, chunk_manifest_drop, &a));
    check_code(env_manifest(&e, chunk_manifest_has, &a), TSR_ENOENT);
    check_code(env_manifest(&e, chunk_manifest_drop, &a), TSR_ENOENT);
    check_int(env_collect(&e), 2); /* 1 and 2; 3 is b's too */
    check_ok(env_get(&e, 3));
    check_ok(env_manifest(&e, chunk_manifest_drop, &b));
    check_int(env_collect(&e), 2);
}

static void sealing_lists_what_is_missing(void **state)
{
    (void)state;
    char *data;
    size_t size;
    check_ok(env_put(&e, 1, 1));
    struct waiting w = waiting_for(&e, 1);
    manifest_of((unsigned[]){1, 2, 3}, 3, &data, &size, &w.req.id);
    w.req.data = data;
    w.req.size = size;
    check_code(wait_call(&e, chunk_seal, &w), TSR_ENOENT);
    check_int(w.req.missing_count, 2);
    struct chunk_id two = content_id(2);
    check_mem(&w.req.missing[0], &two, sizeof two);
    free(w.req.missing);
    free(data);
    check_code(env_manifest(&e, chunk_manifest_has, &w.req.id), TSR_ENOENT);
    check_ok(env_put(&e, 1, 2));
    check_ok(env_put(&e, 1, 3));
    check_ok(env_seal(&e, 1, (unsigned[]){1, 2, 3}, 3, NULL));
}

static void a_manifest_under_a_wrong_name_or_of_bad_form_is_not_sealed(void **state)
{
    (void)state;
    char *data;
    size_t size;
    struct waiting w = waiting_for(&e, 1);
    manifest_of((unsigned[]){1}, 1, &data, &size, &w.req.id);
    w.req.id.bytes[3] ^= 1;
    w.req.data = data;
    w.req.size = size;
    check_code(wait_call(&e, chunk_seal, &w), TSR_ECORRUPT);
    free(data);
}

static void an_empty_image_is_a_replica_too(void **state)
{
    (void)state;
    struct chunk_id id;
    check_ok(env_seal(&e, 1, NULL, 0, &id));
    check_ok(env_manifest(&e, chunk_manifest_has, &id));
}

static void have_reserves_what_it_finds(void **state)
{
    (void)state;
    uint8_t present[3];
    struct chunk_id ids[3] = {content_id(1), content_id(2), content_id(3)};
    check_ok(env_put(&e, 1, 1));
    check_ok(env_put(&e, 1, 3));
    struct waiting w = waiting_for(&e, 2);
    w.req.ids = ids;
    w.req.id_count = 3;
    w.req.present = present;
    check_ok(wait_call(&e, chunk_have, &w));
    check_int(present[0], 1);
    check_int(present[1], 0);
    check_int(present[2], 1);
    check_ok(env_session_end(&e, 1));
    check_int(env_collect(&e), 0);
    check_ok(env_session_end(&e, 2));
    check_int(env_collect(&e), 2);
}

static void a_put_during_a_collection_never_loses_its_chunk(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        uint8_t data[TEST_CHUNK];
        const unsigned first = 2 * round + 1, second = first + 1;
        check_ok(env_put(&e, first, 1));
        check_ok(env_session_end(&e, first));
        struct waiting gc = waiting_for(&e, 0), put = waiting_for(&e, second);
        gc.req.arg = &gc;
        put.req.arg = &put;
        content(1, data, sizeof data, &put.req.id);
        put.req.data = data;
        put.req.size = sizeof data;
        chunk_collect(e.chunks, &gc.req);
        for (unsigned i = 0; i < round % 7; i++) {
            virtual_ready_step(&v);
        }
        chunk_put(e.chunks, &put.req);
        virtual_until(&v, &put.done);
        check_ok(put.status);
        check_ok(env_seal(&e, second, (unsigned[]){1}, 1, NULL));
        virtual_until(&v, &gc.done);
        check_ok(env_get(&e, 1));
        struct chunk_id id;
        check_ok(env_seal(&e, second, (unsigned[]){1}, 1, &id));
        check_ok(env_session_end(&e, second));
        check_ok(env_manifest(&e, chunk_manifest_drop, &id));
    }
}

static void sessions_that_nobody_uses_expire(void **state)
{
    (void)state;
    check_ok(env_put(&e, 1, 1));
    virtual_sleep(&v, 23ull * 3600 * 1000);
    check_ok(env_put(&e, 2, 2));
    virtual_sleep(&v, 2ull * 3600 * 1000);
    check_int(stats().chunk_count, 1);
    check(!env_has_file(&e, 1));
    check(env_has_file(&e, 2));
}

static void a_bad_copy_is_put_aside_and_a_put_heals_it(void **state)
{
    (void)state;
    char path[128];
    check_ok(env_put(&e, 1, 1));
    check_ok(env_seal(&e, 1, (unsigned[]){1}, 1, NULL));
    env_close(&e);
    chunk_path(1, path);
    check(sim_fs_flip(e.fs, path, 77, 4));
    env_open(&e); /* what was verified is forgotten */
    check_code(env_get(&e, 1), TSR_ECORRUPT);
    check(!env_has_file(&e, 1));
    check_code(env_get(&e, 1), TSR_ENOENT);
    check_int(stats().bad_count, 1);
    check_int(stats().lost_count, 1);
    struct waiting w = waiting_for(&e, 0);
    check_ok(wait_call(&e, chunk_lost_list, &w));
    check_int(w.req.missing_count, 1);
    free(w.req.missing);
    check_ok(env_put(&e, 9, 1));
    check_ok(env_session_end(&e, 9));
    check_int(stats().lost_count, 0);
    check_ok(env_get(&e, 1));
    check_int(env_collect(&e), 0);
}

static void a_full_disk_refuses_chunks_and_keeps_its_reserve(void **state)
{
    (void)state;
    env_close(&e);
    e.reserve_bytes = INT64_MAX / 2;
    env_open(&e);
    check_code(env_put(&e, 1, 1), TSR_ENOSPC);
    env_close(&e);
    e.reserve_bytes = 0;
    env_open(&e);
    check_ok(env_put(&e, 1, 1));
}

static void a_failed_sync_of_a_chunk_fails_its_put(void **state)
{
    (void)state;
    sim_fs_fail(e.fs, SIM_FS_SYNC, 0, TSR_EIO, 1);
    check_code(env_put(&e, 1, 1), TSR_EIO);
    check(!env_has_file(&e, 1));
    check_ok(env_put(&e, 1, 1));
}

static void after_a_failed_directory_sync_names_are_made_durable_anew(void **state)
{
    (void)state;
    struct chunk_id id;
    check_ok(env_put(&e, 1, 1));
    sim_fs_fail(e.fs, SIM_FS_SYNC_DIR, 0, TSR_EIO, 1);
    check_code(env_seal(&e, 1, (unsigned[]){1}, 1, &id), TSR_EIO);
    check_ok(env_seal(&e, 1, (unsigned[]){1}, 1, &id));
    sim_fs_crash(e.fs, 1, SIM_FS_DROP);
    env_close(&e); /* the disk answers again; the process is a new one below */
    env_open(&e);
    check_ok(env_get(&e, 1));
}

static void a_restart_in_order_reads_no_chunk_names(void **state)
{
    (void)state;
    check_ok(env_put(&e, 1, 1));
    check_ok(env_seal(&e, 1, (unsigned[]){1}, 1, NULL));
    check_ok(env_session_end(&e, 1));
    env_close(&e);
    env_open(&e);
    check_int(stats().chunk_count, 1);
    check_int(stats().manifest_count, 1);
    check_ok(env_get(&e, 1));
}

static void a_lost_index_is_rebuilt_from_the_files(void **state)
{
    (void)state;
    struct chunk_id a, b;
    for (unsigned n = 1; n <= 4; n++) {
        check_ok(env_put(&e, 1, n));
    }
    check_ok(env_seal(&e, 1, (unsigned[]){1, 2, 2}, 3, &a));
    check_ok(env_seal(&e, 1, (unsigned[]){2, 3}, 2, &b));
    env_close(&e);
    e.kv->ops = e.kv_real;
    kv_close(e.kv);
    check_ok(kv_mem_open(chunk_index_database_count, &e.kv));
    e.kv->ops = &e.kv_ops;
    env_open(&e);
    check_int(env_collect(&e), 1); /* 4 */
    check_ok(env_manifest(&e, chunk_manifest_drop, &a));
    check_int(env_collect(&e), 1); /* 1 */
    check_ok(env_get(&e, 2));
    check_ok(env_manifest(&e, chunk_manifest_drop, &b));
    check_int(env_collect(&e), 2);
}

static void a_foreign_or_unmounted_disk_is_refused(void **state)
{
    (void)state;
    struct err err = {0};
    check_ok(env_put(&e, 1, 1));
    check_ok(env_seal(&e, 1, (unsigned[]){1}, 1, NULL));
    env_close(&e);
    struct fs *real = e.fs;
    e.fs = sim_fs_new(99); /* an empty mount point */
    check_code(env_try_open(&e, &err), TSR_ECORRUPT);
    sim_fs_free(e.fs);
    e.fs = real;
    e.id = 2; /* somebody else's disk */
    check_code(env_try_open(&e, &err), TSR_ECORRUPT);
    check(strstr(err.msg, "host 1") != NULL);
    e.id = 1;
    env_open(&e);
    check_ok(env_get(&e, 1));
}

static void a_disk_that_goes_away_is_an_error_and_not_empty(void **state)
{
    (void)state;
    check_ok(env_put(&e, 1, 1));
    check_ok(env_seal(&e, 1, (unsigned[]){1}, 1, NULL));
    check_ok(fs_rename(e.fs, "/images", "/elsewhere"));
    check_code(env_get(&e, 1), TSR_EIO);
    check_code(env_put(&e, 1, 2), TSR_EIO);
    check_int(stats().lost_count, 0);
    check_ok(fs_rename(e.fs, "/elsewhere", "/images"));
    check_ok(env_get(&e, 1));
}

static void a_mark_is_void_after_a_new_seal(void **state)
{
    (void)state;
    struct chunk_id id;
    struct waiting w;
    check_ok(env_put(&e, 1, 1));
    check_ok(env_seal(&e, 1, (unsigned[]){1}, 1, &id));
    check_code(env_manifest(&e, chunk_manifest_mark, &id), TSR_EBUSY);
    check_ok(env_session_end(&e, 1));
    check_ok(env_manifest(&e, chunk_manifest_mark, &id));
    check_ok(env_seal(&e, 2, (unsigned[]){1}, 1, &id));
    check_ok(env_session_end(&e, 2));
    w = waiting_for(&e, 0);
    w.req.id = id;
    w.req.verify = true;
    check_code(wait_call(&e, chunk_manifest_drop, &w), TSR_EBUSY);
    check_ok(env_manifest(&e, chunk_manifest_mark, &id));
    w = waiting_for(&e, 0);
    w.req.id = id;
    w.req.verify = true;
    check_ok(wait_call(&e, chunk_manifest_drop, &w));
}

static void requests_after_close_has_begun_are_canceled(void **state)
{
    (void)state;
    struct waiting gc = waiting_for(&e, 0);
    check_ok(env_put(&e, 1, 1));
    check_ok(env_session_end(&e, 1));
    gc.req.arg = &gc;
    chunk_collect(e.chunks, &gc.req); /* a collection half way at close */
    virtual_ready_step(&v);
    env_close(&e);
    check(gc.done);
    env_open(&e);
    env_collect(&e);
    check_int(stats().chunk_count, 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

TEST_MAIN(CASE(a_chunk_comes_back_as_it_was_put),
          CASE(a_second_put_of_the_same_chunk_writes_nothing),
          CASE(what_comes_after_the_end_of_its_session_is_refused),
          CASE(a_session_that_ends_while_it_seals_keeps_nothing),
          CASE(chunks_of_a_given_up_session_are_collected),
          CASE(a_sealed_manifest_keeps_its_chunks_and_a_drop_lets_them_go),
          CASE(sealing_lists_what_is_missing),
          CASE(a_manifest_under_a_wrong_name_or_of_bad_form_is_not_sealed),
          CASE(an_empty_image_is_a_replica_too), CASE(have_reserves_what_it_finds),
          CASE(a_put_during_a_collection_never_loses_its_chunk),
          CASE(sessions_that_nobody_uses_expire), CASE(a_bad_copy_is_put_aside_and_a_put_heals_it),
          CASE(a_full_disk_refuses_chunks_and_keeps_its_reserve),
          CASE(a_failed_sync_of_a_chunk_fails_its_put),
          CASE(after_a_failed_directory_sync_names_are_made_durable_anew),
          CASE(a_restart_in_order_reads_no_chunk_names),
          CASE(a_lost_index_is_rebuilt_from_the_files),
          CASE(a_foreign_or_unmounted_disk_is_refused),
          CASE(a_disk_that_goes_away_is_an_error_and_not_empty),
          CASE(a_mark_is_void_after_a_new_seal), CASE(requests_after_close_has_begun_are_canceled))
