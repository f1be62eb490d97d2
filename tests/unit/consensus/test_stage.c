#include "test.h"

#include <stdlib.h>

#include "consensus/marker.h"
#include "sim_fs.h"
#include "tessera/base/digest.h"

static const char dir[] = "/raft";
enum { STREAM = 10000, PIECE = 3000 };
static uint8_t stream[STREAM];

static struct fs *new_fs(uint64_t seed)
{
    struct fs *fs = sim_fs_new(seed);
    check_ok(fs_mkdir(fs, dir));
    check_ok(fs_sync_dir(fs, "/"));
    return fs;
}

static struct stage_head head_of(uint64_t index)
{
    static char conf[] = "conf";
    struct stage_head h = {.marker = {.index = index,
                                      .term = 2,
                                      .conf_index = 1,
                                      .conf = conf,
                                      .conf_size = sizeof(conf)},
                           .stream_bytes = STREAM};
    for (size_t i = 0; i < STREAM; i++)
        stream[i] = (uint8_t)(i * 7 + i / 256);
    digest_of(DIGEST_SHA256, stream, STREAM, h.stream_sha256);
    return h;
}

/* Bring the whole stream in, from where it stands. */
static int receive(struct fs *fs, uint64_t index, uint64_t *have_out)
{
    struct stage_head h = head_of(index);
    struct stage *s = NULL;
    uint64_t have = 0;
    int rv = stage_open(fs, dir, &h, &s, &have);
    if (have_out)
        *have_out = have;
    while (rv == 0 && have < STREAM) {
        size_t n = STREAM - have < PIECE ? (size_t)(STREAM - have) : PIECE;
        rv = stage_write(s, have, stream + have, n);
        have += n;
    }
    if (rv == 0)
        rv = stage_finish(s);
    stage_close(s);
    return rv;
}

static void install_is(struct fs *fs, uint64_t index)
{
    struct stage_head h, want = head_of(index);
    struct err err = {0};
    char path[256];
    char *data;
    size_t size;
    check_ok(install_load(fs, dir, &h, path, sizeof(path), &err));
    check_int(h.marker.index, index);
    check_int(h.stream_bytes, STREAM);
    check_mem(h.marker.conf, want.marker.conf, want.marker.conf_size);
    check_ok(fs_read_file(fs, path, STREAM, &data, &size));
    check_int(size, STREAM);
    check_mem(data, stream, STREAM);
    free(data);
    marker_free(&h.marker);
}

static int install_state(struct fs *fs)
{
    struct stage_head h;
    char path[256];
    int rv = install_load(fs, dir, &h, path, sizeof(path), NULL);
    if (rv == 0)
        marker_free(&h.marker);
    return rv;
}

static void a_whole_stream_becomes_an_install_and_goes_when_removed(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    check_code(install_state(fs), TSR_ENOENT);
    check_ok(receive(fs, 5, NULL));
    sim_fs_crash(fs, 1, SIM_FS_DROP);
    install_is(fs, 5);
    check_code(receive(fs, 6, NULL), TSR_EEXIST); /* one at a time */
    install_is(fs, 5);
    check_ok(install_remove(fs, dir));
    sim_fs_crash(fs, 2, SIM_FS_DROP);
    check_code(install_state(fs), TSR_ENOENT);
    check_ok(install_remove(fs, dir));
    uint64_t have;
    check_ok(receive(fs, 6, NULL));
    check_code(receive(fs, 7, NULL), TSR_EEXIST);
    check_ok(install_remove(fs, dir));
    check_ok(receive(fs, 7, &have)); /* what was received before is used */
    check_int(have, STREAM);
    install_is(fs, 7);
    sim_fs_free(fs);
}

static void a_stage_is_resumed_by_the_same_head_only(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    struct stage_head h = head_of(5);
    struct stage *s;
    uint64_t have;
    check_ok(stage_open(fs, dir, &h, &s, &have));
    check_int(have, 0);
    check_ok(stage_write(s, 0, stream, PIECE));
    check_code(stage_write(s, 0, stream, PIECE), TSR_EINVAL);
    check_code(stage_write(s, PIECE + 1, stream, 1), TSR_EINVAL);
    check_code(stage_write(s, PIECE, stream, STREAM), TSR_EINVAL);
    check_code(stage_finish(s), TSR_EINVAL);
    stage_close(s);
    check_ok(stage_open(fs, dir, &h, &s, &have));
    check_int(have, PIECE);
    stage_close(s);
    check_ok(receive(fs, 6, &have));
    check_int(have, 0);
    install_is(fs, 6);
    sim_fs_free(fs);
}

static void a_wrong_digest_deletes_the_stage(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    struct stage_head h = head_of(5);
    struct stage *s;
    uint64_t have;
    check_ok(stage_open(fs, dir, &h, &s, &have));
    check_ok(stage_write(s, 0, stream, STREAM));
    check(sim_fs_flip(fs, "/raft/stage/stream", 77, 1));
    check_code(stage_finish(s), TSR_ECORRUPT);
    stage_close(s);
    check_code(install_state(fs), TSR_ENOENT);
    check_ok(receive(fs, 5, &have));
    check_int(have, 0);
    sim_fs_free(fs);
}

static void a_damaged_install_is_corrupt(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    struct fs_stat st;
    check_ok(receive(fs, 5, NULL));
    check_ok(fs_stat(fs, "/raft/install/head", &st));
    for (int64_t i = 0; i < st.size; i++) {
        check(sim_fs_flip(fs, "/raft/install/head", i, 1));
        check_code(install_state(fs), TSR_ECORRUPT);
        check(sim_fs_flip(fs, "/raft/install/head", i, 1));
    }
    check(sim_fs_flip(fs, "/raft/install/stream", 9999, 1));
    check_code(install_state(fs), TSR_ECORRUPT);
    check(sim_fs_flip(fs, "/raft/install/stream", 9999, 1));
    install_is(fs, 5);
    check_ok(fs_unlink(fs, "/raft/install/stream"));
    check_code(install_state(fs), TSR_ECORRUPT);
    sim_fs_free(fs);
}

static void a_damaged_stage_head_begins_anew(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    struct stage_head h = head_of(5);
    struct stage *s;
    uint64_t have;
    check_ok(stage_open(fs, dir, &h, &s, &have));
    check_ok(stage_write(s, 0, stream, PIECE));
    stage_close(s);
    check(sim_fs_flip(fs, "/raft/stage/head", 20, 1));
    check_ok(receive(fs, 5, &have));
    check_int(have, 0);
    sim_fs_free(fs);
}

/* Interrupted at any call and crashed in any way, the stream comes in at the second or third try,
 * and there never is an install that is not whole. */
static void staging_interrupted_at_each_call_ends_well_when_repeated(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        bool hit = true;
        for (uint64_t n = 0; hit; n++) {
            struct fs *fs = new_fs(seed);
            if (seed % 2)
                sim_fs_stop(fs, n);
            else
                sim_fs_fail(fs, SIM_FS_ANY, n, TSR_ENOSPC, 1);
            int rv = receive(fs, 5, NULL);
            if (rv == 0)
                rv = install_remove(fs, dir);
            hit = sim_fs_failed(fs);
            check(rv == 0 || hit);
            check_int(sim_fs_open_files(fs), 0);
            sim_fs_crash(fs, seed, (enum sim_fs_crash_mode)(seed / 2 % 4));
            int there = install_state(fs);
            check(there == 0 || there == TSR_ENOENT);
            for (int i = 0; there != 0 && i < 3; i++) {
                there = receive(fs, 5, NULL);
                check(there == 0 || there == TSR_ECORRUPT); /* holes of a power cut */
            }
            install_is(fs, 5);
            sim_fs_free(fs);
        }
    }
}

static void an_empty_stream_is_fine(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    struct stage_head h = head_of(5);
    struct stage *s;
    uint64_t have;
    h.stream_bytes = 0;
    digest_of(DIGEST_SHA256, "", 0, h.stream_sha256);
    check_ok(stage_open(fs, dir, &h, &s, &have));
    check_ok(stage_finish(s));
    stage_close(s);
    check_ok(install_state(fs));
    sim_fs_free(fs);
}

TEST_MAIN(cmocka_unit_test(a_whole_stream_becomes_an_install_and_goes_when_removed),
          cmocka_unit_test(a_stage_is_resumed_by_the_same_head_only),
          cmocka_unit_test(a_wrong_digest_deletes_the_stage),
          cmocka_unit_test(a_damaged_install_is_corrupt),
          cmocka_unit_test(a_damaged_stage_head_begins_anew),
          cmocka_unit_test(staging_interrupted_at_each_call_ends_well_when_repeated),
          cmocka_unit_test(an_empty_stream_is_fine))
