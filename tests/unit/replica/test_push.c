/* The writer: one upload to several hosts, with hosts that fail in every way. */
#include "cluster.h"

static struct cluster c;
static const uint64_t three[3] = {1, 2, 3};

static int setup(void **state)
{
    (void)state;
    cluster_init(&c, 11);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster_end(&c);
    return 0;
}

static struct chunks_stats stats(unsigned host)
{
    struct chunks_stats s;
    chunks_stats(c.envs[host].chunks, &s);
    return s;
}

static void check_replica(unsigned host, const struct chunk_id *id, unsigned image, uint64_t size)
{
    uint64_t good;
    check_ok(env_manifest(&c.envs[host], chunk_manifest_has, id));
    check_ok(cluster_read(&c, host, id, image, 0, UINT64_MAX, NULL, 0, false, &good));
    check_int(good, size);
}

static void an_upload_is_sealed_on_all_hosts_with_the_right_digests(void **state)
{
    (void)state;
    uint64_t size = 23 * TEST_CHUNK + 77;
    uint8_t *data = malloc(size), md5[16], sha512[64];
    char hex[129];
    struct upload u;
    upload_open(&u, &c, 1, 5, 1, size, three, 3, 2);
    while (upload_step(&u, 1)) {
    }
    check_ok(upload_finish(&u));
    check_int(u.result.sealed_count, 3);
    check_int(u.result.size, size);
    for (uint64_t i = 0; i < size; i++) {
        data[i] = image_byte(1, i);
    }
    digest_of(DIGEST_MD5, data, size, md5);
    hex_encode(md5, 16, hex);
    check_str(u.result.checksum, hex);
    digest_of(DIGEST_SHA512, data, size, sha512);
    hex_encode(sha512, 64, hex);
    check_str(u.result.sha512, hex);
    free(data);
    for (unsigned host = 1; host <= 3; host++) {
        check_replica(host, &u.result.manifest, 1, size);
        check(stats(host).reserved_count > 0); /* the manifest, until the session ends */
    }
    uint8_t session[SESSION_ID_SIZE];
    memset(session, 5, sizeof session);
    replica_session_end(&c.ctx[1], session, three, 3);
    cluster_settle(&c);
    for (unsigned host = 1; host <= 3; host++) {
        check_int(stats(host).reserved_count, 0);
    }
}

static void an_upload_of_every_odd_size_comes_back(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {
        0, 1, TEST_CHUNK - 1, TEST_CHUNK, TEST_CHUNK + 1, 4 * TEST_CHUNK, 4 * TEST_CHUNK + 1};
    for (unsigned i = 0; i < array_len(sizes); i++) {
        struct chunk_id id = cluster_store(&c, 1, i, sizes[i], three, 2);
        check_replica(1, &id, i, sizes[i]);
        check_replica(2, &id, i, sizes[i]);
    }
}

static void memory_stays_within_eight_buffers(void **state)
{
    (void)state;
    struct upload u;
    sim_peers_delay(c.peers, 5, 50);
    upload_open(&u, &c, 1, 5, 1, 200 * TEST_CHUNK, three, 3, 2);
    while (upload_step(&u, 1)) {
    }
    check_ok(upload_finish(&u));
    check(u.in_use_max <= 8);
    check(u.in_use_max >= 4);
}

static void uploads_that_share_few_buffers_all_end(void **state)
{
    (void)state;
    struct upload u[12];
    bool more = true;
    for (unsigned i = 0; i < 12; i++) {
        upload_open(&u[i], &c, 1, i + 1, i, 40 * TEST_CHUNK + i, three, 3, 2);
    }
    while (more) {
        more = false;
        for (unsigned i = 0; i < 12; i++) {
            if (u[i].at < u[i].size) {
                more = true;
                if (!u[i].paused) {
                    upload_step(&u[i], 1);
                }
            }
        }
        virtual_ready_step(&c.v);
    }
    for (unsigned i = 0; i < 12; i++) {
        replica_writer_finish(u[i].w, upload_done, &u[i]);
    }
    for (unsigned i = 0; i < 12; i++) {
        virtual_until(&c.v, &u[i].done);
        check_ok(u[i].status);
        check_replica(2, &u[i].result.manifest, i, u[i].size);
    }
}

static void zeros_are_neither_stored_nor_sent(void **state)
{
    (void)state;
    static uint8_t zeros[65536];
    struct upload u;
    struct sim_peers_stats before, after;
    upload_open(&u, &c, 1, 5, 1, 0, three, 3, 3);
    sim_peers_stats(c.peers, &before);
    for (uint64_t at = 0; at < 64ull * 1024 * 1024; at += sizeof zeros) {
        while (u.paused) {
            check(virtual_step(&c.v, UINT64_MAX));
        }
        u.paused = !replica_writer_write(u.w, zeros, sizeof zeros);
    }
    check_ok(upload_finish(&u));
    sim_peers_stats(c.peers, &after);
    check_int(after.calls - before.calls, 2); /* the seals */
    check_int(u.result.size, 64ull * 1024 * 1024);
    check_int(stats(1).chunk_count, 0);
    check_int(stats(2).chunk_count, 0);
}

static void a_host_that_dies_half_way_is_left_out(void **state)
{
    (void)state;
    struct upload u;
    uint64_t size = 40 * TEST_CHUNK;
    upload_open(&u, &c, 1, 5, 1, size, three, 3, 2);
    while (upload_step(&u, 1)) {
        if (u.at > size / 2) {
            sim_peers_down(c.peers, 3, true);
        }
    }
    check_ok(upload_finish(&u));
    check_int(u.result.sealed_count, 2);
    check_replica(2, &u.result.manifest, 1, size);
}

static unsigned abort_failed(struct upload *uploads, unsigned count)
{
    unsigned failed = 0;
    for (unsigned i = 0; i < count; i++) {
        if (uploads[i].failed && !uploads[i].done) {
            check_code(uploads[i].fail_status, TSR_EUNAVAILABLE);
            upload_abort(&uploads[i]);
            failed++;
        }
    }
    return failed;
}

static void silent_uploads_keep_their_memory_only_while_nobody_wants_it(void **state)
{
    (void)state;
    struct upload silent[BUFFERS], u;
    unsigned failed = 0;
    for (unsigned i = 0; i < BUFFERS; i++) {
        upload_open(&silent[i], &c, 1, 10 + i, 1, 10, three, 3, 2);
        while (upload_step(&silent[i], 1)) {
        }
    }
    check_int(bufpool_in_use(c.ctx[1].upload_buffers), BUFFERS);
    virtual_sleep(&c.v, 200000);
    check_int(abort_failed(silent, BUFFERS), 0);
    uint64_t start = c.v.now_ns;
    upload_open(&u, &c, 1, 5, 2, 4 * TEST_CHUNK, three, 3, 2);
    while (upload_step(&u, 1) && (c.v.now_ns - start) / 1000000 < 60000) {
        failed += abort_failed(silent, BUFFERS);
    }
    check_ok(upload_finish(&u));
    check((c.v.now_ns - start) / 1000000 < 5000); /* they had been silent for long */
    for (unsigned i = 0; i < BUFFERS; i++) {
        if (!silent[i].done) {
            upload_abort(&silent[i]);
        }
    }
    check(failed > 0);
}

static void a_host_that_stops_answering_is_dropped_after_a_while(void **state)
{
    (void)state;
    struct upload u;
    uint64_t size = 40 * TEST_CHUNK, start = c.v.now_ns;
    upload_open(&u, &c, 1, 5, 1, size, three, 3, 2);
    while (upload_step(&u, 1)) {
        if (u.at > size / 2) {
            sim_peers_cut(c.peers, 3, 1, true);
        }
    }
    check_ok(upload_finish(&u));
    check_int(u.result.sealed_count, 2);
    check((c.v.now_ns - start) / 1000000 < 30000);
}

static void a_host_that_stops_answering_before_the_seal_is_dropped_after_a_while(void **state)
{
    (void)state;
    struct upload u;
    uint64_t size = 10 * TEST_CHUNK;
    upload_open(&u, &c, 1, 5, 1, size, three, 3, 2);
    while (upload_step(&u, 1)) {
    }
    cluster_settle(&c);
    sim_peers_cut(c.peers, 3, 1, true);
    uint64_t start = c.v.now_ns;
    check_ok(upload_finish(&u));
    check_int(u.result.sealed_count, 2);
    check_replica(2, &u.result.manifest, 1, size);
    check((c.v.now_ns - start) / 1000000 < 20000);
}

/* Nobody is dropped before enough have sealed. */
static void a_seal_waits_for_a_host_that_it_needs(void **state)
{
    (void)state;
    struct upload u;
    uint64_t size = 10 * TEST_CHUNK;
    upload_open(&u, &c, 1, 5, 1, size, three, 3, 3);
    while (upload_step(&u, 1)) {
    }
    cluster_settle(&c);
    sim_peers_cut(c.peers, 3, 1, true);
    replica_writer_finish(u.w, upload_done, &u);
    virtual_sleep(&c.v, 60000);
    check(!u.done);
    virtual_until(&c.v, &u.done);
    check_code(u.status, TSR_EUNAVAILABLE);
}

static void too_few_hosts_fail_the_upload_early_and_leave_nothing(void **state)
{
    (void)state;
    struct upload u;
    uint64_t size = 40 * TEST_CHUNK;
    upload_open(&u, &c, 1, 5, 1, size, three, 3, 2);
    while (upload_step(&u, 1)) {
        if (u.at > size / 2) {
            sim_peers_down(c.peers, 2, true);
            sim_peers_down(c.peers, 3, true);
        }
    }
    check(u.failed);
    check(u.at < size);
    check_code(u.fail_status, TSR_EUNAVAILABLE);
    check_code(upload_finish(&u), TSR_EUNAVAILABLE);
    cluster_settle(&c);
    env_collect(&c.envs[1]);
    check_int(stats(1).chunk_count, 0);
}

static void a_full_disk_here_passes_chunks_on(void **state)
{
    (void)state;
    env_close(&c.envs[1]);
    sim_peers_crash(c.peers, 1);
    free(c.services[1].handlers[PEER_CHUNK_PUT].arg);
    c.envs[1].reserve_bytes = INT64_MAX / 2;
    cluster_host_up(&c, 1);
    struct upload u;
    uint64_t size = 20 * TEST_CHUNK;
    upload_open(&u, &c, 1, 5, 1, size, three, 3, 2);
    while (upload_step(&u, 1)) {
    }
    check_ok(upload_finish(&u));
    check_int(u.result.sealed_count, 2);
    check_int(u.result.sealed[0], 2);
    check_replica(3, &u.result.manifest, 1, size);
}

static void no_room_anywhere_says_so(void **state)
{
    (void)state;
    for (unsigned id = 1; id <= 3; id++) {
        env_close(&c.envs[id]);
        sim_peers_crash(c.peers, id);
        free(c.services[id].handlers[PEER_CHUNK_PUT].arg);
        c.envs[id].reserve_bytes = INT64_MAX / 2;
        cluster_host_up(&c, id);
    }
    struct upload u;
    upload_open(&u, &c, 1, 5, 1, 20 * TEST_CHUNK, three, 3, 1);
    while (upload_step(&u, 1)) {
    }
    virtual_sleep(&c.v, 10);
    check(u.failed);
    check_code(u.fail_status, TSR_ENOSPC);
    upload_abort(&u);
}

static void a_peer_that_lost_chunks_gets_them_again_at_the_seal(void **state)
{
    (void)state;
    struct upload u;
    uint64_t size = 10 * TEST_CHUNK;
    uint8_t data[TEST_CHUNK];
    char hex[65], path[128];
    struct chunk_id id;
    upload_open(&u, &c, 1, 5, 1, size, three, 3, 3);
    while (upload_step(&u, 1)) {
    }
    cluster_settle(&c);
    for (unsigned i = 0; i < TEST_CHUNK; i++) {
        data[i] = image_byte(1, i);
    }
    digest_of(DIGEST_SHA256, data, sizeof data, id.bytes);
    hex_encode(id.bytes, 32, hex);
    snprintf(path, sizeof path, "/images/chunks/%.2s/%s", hex, hex);
    check_ok(fs_unlink(c.envs[3].fs, path));
    check_ok(upload_finish(&u));
    check_int(u.result.sealed_count, 3);
    check_replica(3, &u.result.manifest, 1, size);
}

static void chunks_that_a_peer_has_are_not_sent_again(void **state)
{
    (void)state;
    uint64_t size = 40 * TEST_CHUNK;
    cluster_store(&c, 1, 1, size, three, 3);
    uint64_t writes = sim_fs_calls(c.envs[2].fs, SIM_FS_WRITE);
    struct upload u;
    upload_open(&u, &c, 1, 9, 1, size, three, 3, 3);
    while (upload_step(&u, 1)) {
    }
    check_ok(upload_finish(&u));
    check_int(sim_fs_calls(c.envs[2].fs, SIM_FS_WRITE), writes);
}

static void an_abort_at_any_moment_leaves_nothing(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 60; round++) {
        struct upload u;
        uint64_t size = 20 * TEST_CHUNK;
        upload_open(&u, &c, 1, 5, round, size, three, 3, 2);
        for (unsigned n = 0; n < round * 3 && upload_step(&u, 1); n++) {
        }
        if (round % 3 == 0) { /* in the middle of the end, too */
            replica_writer_finish(u.w, upload_done, &u);
            for (unsigned n = 0; n < round && !u.done; n++) {
                virtual_ready_step(&c.v);
            }
            if (u.done) {
                continue;
            }
        }
        upload_abort(&u);
        cluster_settle(&c);
    }
    for (unsigned host = 1; host <= 3; host++) {
        struct waiting list = waiting_for(&c.envs[host], 0);
        check_ok(wait_call(&c.envs[host], chunk_manifest_list, &list));
        for (size_t i = 0; i < list.req.missing_count; i++) {
            int rv = env_manifest(&c.envs[host], chunk_manifest_drop, &list.req.missing[i]);
            check(rv == 0 || rv == TSR_EBUSY);
        }
        free(list.req.missing);
    }
    check_ok(env_session_end(&c.envs[1], 5));
    env_collect(&c.envs[1]);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

TEST_MAIN(CASE(an_upload_is_sealed_on_all_hosts_with_the_right_digests),
          CASE(an_upload_of_every_odd_size_comes_back), CASE(memory_stays_within_eight_buffers),
          CASE(uploads_that_share_few_buffers_all_end), CASE(zeros_are_neither_stored_nor_sent),
          CASE(a_host_that_dies_half_way_is_left_out),
          CASE(silent_uploads_keep_their_memory_only_while_nobody_wants_it),
          CASE(a_host_that_stops_answering_is_dropped_after_a_while),
          CASE(a_host_that_stops_answering_before_the_seal_is_dropped_after_a_while),
          CASE(a_seal_waits_for_a_host_that_it_needs),
          CASE(too_few_hosts_fail_the_upload_early_and_leave_nothing),
          CASE(a_full_disk_here_passes_chunks_on), CASE(no_room_anywhere_says_so),
          CASE(a_peer_that_lost_chunks_gets_them_again_at_the_seal),
          CASE(chunks_that_a_peer_has_are_not_sent_again),
          CASE(an_abort_at_any_moment_leaves_nothing))
