/* The reader: ranges, sources that fail, lie or vanish, bad copies here. */
#include "cluster.h"

static struct cluster c;
static const uint64_t three[3] = {1, 2, 3}, two[2] = {1, 2}, far[2] = {2, 3};
static const uint64_t image_size = 21 * TEST_CHUNK + 1234;

static int setup(void **state)
{
    (void)state;
    cluster_init(&c, 5);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster_end(&c);
    return 0;
}

static void image_chunk(unsigned image, unsigned n, uint8_t data[TEST_CHUNK], struct chunk_id *id)
{
    for (unsigned i = 0; i < TEST_CHUNK; i++) {
        data[i] = image_byte(image, (uint64_t)n * TEST_CHUNK + i);
    }
    digest_of(DIGEST_SHA256, data, TEST_CHUNK, id->bytes);
}

static void image_path(unsigned image, unsigned n, char path[128])
{
    uint8_t data[TEST_CHUNK];
    char hex[65];
    struct chunk_id id;
    image_chunk(image, n, data, &id);
    hex_encode(id.bytes, 32, hex);
    snprintf(path, 128, "/images/chunks/%.2s/%s", hex, hex);
}

/* Restart, so that nothing counts as verified any more. */
static void restart(unsigned host)
{
    env_close(&c.envs[host]);
    sim_peers_crash(c.peers, host);
    free(c.services[host].handlers[PEER_CHUNK_PUT].arg);
    cluster_host_up(&c, host);
}

static void every_range_is_served_from_here_and_from_far(void **state)
{
    (void)state;
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, three, 3);
    static const struct {
        uint64_t offset, length, want;
    } table[] = {
        {0, UINT64_MAX, 21 * TEST_CHUNK + 1234},
        {0, 1, 1},
        {1, 1, 1},
        {0, TEST_CHUNK, TEST_CHUNK},
        {1, TEST_CHUNK, TEST_CHUNK},
        {TEST_CHUNK - 1, 2, 2},
        {TEST_CHUNK, TEST_CHUNK, TEST_CHUNK},
        {3 * TEST_CHUNK + 5, 10, 10},
        {2 * TEST_CHUNK + 5, 3 * TEST_CHUNK, 3 * TEST_CHUNK},
        {21 * TEST_CHUNK, UINT64_MAX, 1234},
        {21 * TEST_CHUNK + 1233, 1, 1},
        {21 * TEST_CHUNK + 1233, 2, 1},
        {21 * TEST_CHUNK + 1234, 1, 0},
        {UINT64_MAX, 1, 0},
        {5, 0, 0},
        {5, UINT64_MAX - 2, 21 * TEST_CHUNK + 1234 - 5},
    };
    for (unsigned i = 0; i < array_len(table); i++) {
        for (unsigned host = 1; host <= 4; host += 3) {
            for (unsigned files = 0; files < 2; files++) {
                uint64_t good;
                check_ok(cluster_read(&c, host, &id, 1, table[i].offset, table[i].length, three, 3,
                                      files == 1, &good));
                check_int(good, table[i].want);
            }
        }
    }
}

static void an_empty_image_ends_at_once(void **state)
{
    (void)state;
    uint64_t good;
    struct chunk_id id = cluster_store(&c, 1, 1, 0, two, 2);
    check_ok(cluster_read(&c, 4, &id, 1, 0, UINT64_MAX, two, 2, false, &good));
    check_int(good, 0);
}

static void a_source_that_dies_in_the_middle_is_replaced(void **state)
{
    (void)state;
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, three, 3);
    struct download d = {.c = &c};
    struct replica_reader *r;
    uint64_t at = 0;
    sim_peers_delay(c.peers, 1, 20);
    check_ok(replica_reader_open(&c.ctx[4], &id, 0, UINT64_MAX, three, 3, false, download_opened,
                                 &d, &r));
    virtual_until(&c.v, &d.opened);
    check_ok(d.status);
    for (unsigned n = 0;; n++) {
        d.got = false;
        replica_reader_next(r, download_got, &d);
        virtual_until(&c.v, &d.got);
        check_ok(d.status);
        if (d.piece.size == 0) {
            break;
        }
        check_int(((const uint8_t *)d.piece.data)[7], image_byte(1, at + 7));
        at += d.piece.size;
        if (n == 3) {
            sim_peers_down(c.peers, 1, true);
        } else if (n == 9) {
            sim_peers_cut(c.peers, 2, 4, true); /* hears us, but is not heard */
        }
    }
    check_int(at, image_size);
    replica_reader_close(r);
}

static void wrong_bytes_of_a_source_are_never_given(void **state)
{
    (void)state;
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, two, 2);
    char path[128];
    uint64_t good;
    image_path(1, 2, path);
    check(sim_fs_flip(c.envs[1].fs, path, 5, 1));
    restart(1);
    check_ok(cluster_read(&c, 4, &id, 1, 0, UINT64_MAX, two, 2, false, &good));
    check_int(good, image_size);
    /* the same chunk bad everywhere: what comes before is good, then it ends with an error */
    check(sim_fs_flip(c.envs[2].fs, path, 9, 1));
    restart(2);
    check_code(cluster_read(&c, 4, &id, 1, 0, UINT64_MAX, two, 2, false, &good), TSR_EIO);
    check_int(good, 2 * TEST_CHUNK);
}

static void a_bad_copy_here_is_replaced_within_the_request(void **state)
{
    (void)state;
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, three, 3);
    char path[128];
    uint64_t good;
    struct chunks_stats s;
    image_path(1, 2, path);
    check(sim_fs_flip(c.envs[1].fs, path, 5, 1));
    image_path(1, 4, path);
    check_ok(fs_unlink(c.envs[1].fs, path));
    restart(1);
    check_ok(cluster_read(&c, 1, &id, 1, 0, UINT64_MAX, three, 3, false, &good));
    check_int(good, image_size);
    cluster_settle(&c);
    chunks_stats(c.envs[1].chunks, &s);
    check_int(s.bad_count, 1);
    check_int(s.lost_count, 0);
    check_ok(cluster_read(&c, 1, &id, 1, 0, UINT64_MAX, NULL, 0, false, &good)); /* alone */
    check_int(good, image_size);
}

static void a_bad_manifest_here_is_fetched_from_a_peer(void **state)
{
    (void)state;
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, three, 3);
    char hex[65], path[128];
    uint64_t good;
    hex_encode(id.bytes, 32, hex);
    snprintf(path, sizeof path, "/images/manifests/%.2s/%s", hex, hex);
    check(sim_fs_flip(c.envs[1].fs, path, 40, 1));
    check_ok(cluster_read(&c, 1, &id, 1, 0, UINT64_MAX, three, 3, false, &good));
    check_int(good, image_size);
}

static void nobody_there_is_told_from_nobody_has_it(void **state)
{
    (void)state;
    struct chunk_id id = cluster_store(&c, 2, 1, image_size, far, 2), other = id;
    other.bytes[0] ^= 1;
    check_code(cluster_read(&c, 1, &other, 1, 0, UINT64_MAX, far, 2, false, NULL), TSR_EIO);
    sim_peers_down(c.peers, 2, true);
    sim_peers_down(c.peers, 3, true);
    check_code(cluster_read(&c, 1, &id, 1, 0, UINT64_MAX, far, 2, false, NULL), TSR_EUNAVAILABLE);
}

static void closing_at_any_moment_gives_everything_back(void **state)
{
    (void)state;
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, three, 3);
    sim_peers_delay(c.peers, 0, 3);
    for (unsigned round = 0; round < 150; round++) {
        struct download d = {.c = &c};
        struct replica_reader *r;
        unsigned host = round % 2 == 0 ? 1 : 4;
        check_ok(replica_reader_open(&c.ctx[host], &id, 100, UINT64_MAX, three, 3, round % 4 == 0,
                                     download_opened, &d, &r));
        for (unsigned n = 0; n < round; n++) {
            if (d.opened && d.status == 0 && (n == 5 || d.got)) {
                d.got = false;
                if (n % 2 == 0) {
                    replica_reader_next(r, download_got, &d);
                    virtual_until(&c.v, &d.got);
                } else {
                    d.got = true;
                }
            }
            virtual_step(&c.v, UINT64_MAX);
        }
        replica_reader_close(r);
        d.opened = d.got = false;
        cluster_settle(&c);
        check(!d.opened && !d.got); /* no callback after close */
        check_int(bufpool_in_use(c.ctx[host].relay_buffers), 0);
    }
}

static void many_readers_share_few_buffers(void **state)
{
    (void)state;
    enum { READERS = 12 };
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, three, 3);
    struct download d[READERS];
    struct replica_reader *r[READERS];
    uint64_t at[READERS] = {0};
    bool asked[READERS] = {false}, ended[READERS] = {false};
    unsigned left = READERS;
    memset(d, 0, sizeof d);
    for (unsigned i = 0; i < READERS; i++) {
        check_ok(replica_reader_open(&c.ctx[4], &id, 0, UINT64_MAX, three, 3, false,
                                     download_opened, &d[i], &r[i]));
    }
    while (left > 0) {
        for (unsigned i = 0; i < READERS; i++) {
            if (ended[i] || !d[i].opened || (asked[i] && !d[i].got)) {
                continue;
            }
            if (asked[i]) {
                check_ok(d[i].status);
                at[i] += d[i].piece.size;
                if (d[i].piece.size == 0) {
                    check_int(at[i], image_size);
                    replica_reader_close(r[i]);
                    ended[i] = true;
                    left--;
                    continue;
                }
            }
            asked[i] = true;
            d[i].got = false;
            replica_reader_next(r[i], download_got, &d[i]);
        }
        check(left == 0 || virtual_step(&c.v, UINT64_MAX));
        check(bufpool_in_use(c.ctx[4].relay_buffers) <= BUFFERS);
    }
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

TEST_MAIN(CASE(every_range_is_served_from_here_and_from_far), CASE(an_empty_image_ends_at_once),
          CASE(a_source_that_dies_in_the_middle_is_replaced),
          CASE(wrong_bytes_of_a_source_are_never_given),
          CASE(a_bad_copy_here_is_replaced_within_the_request),
          CASE(a_bad_manifest_here_is_fetched_from_a_peer),
          CASE(nobody_there_is_told_from_nobody_has_it),
          CASE(closing_at_any_moment_gives_everything_back), CASE(many_readers_share_few_buffers))
