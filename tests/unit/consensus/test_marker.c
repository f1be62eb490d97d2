#include "test.h"

#include <stdlib.h>

#include "consensus/marker.h"
#include "sim_fs.h"

static const char dir[] = "/raft";

static struct fs *new_fs(void)
{
    struct fs *fs = sim_fs_new(1);
    check_ok(fs_mkdir(fs, dir));
    check_ok(fs_sync_dir(fs, "/"));
    return fs;
}

static struct marker marker_at(uint64_t index)
{
    static char conf[] = "three voters";
    struct marker m = {
        .index = index, .term = 3, .conf_index = 2, .conf = conf, .conf_size = sizeof(conf)};
    memset(m.digest, (int)index, sizeof(m.digest));
    return m;
}

static void load_is(struct fs *fs, uint64_t index)
{
    struct marker m, want = marker_at(index);
    check_ok(marker_load(fs, dir, &m, NULL));
    check_int(m.index, want.index);
    check_int(m.term, want.term);
    check_int(m.conf_index, want.conf_index);
    check_mem(m.digest, want.digest, sizeof(m.digest));
    check_int(m.conf_size, want.conf_size);
    check_mem(m.conf, want.conf, m.conf_size);
    marker_free(&m);
}

static void a_stored_marker_is_loaded_after_a_power_cut(void **state)
{
    (void)state;
    struct fs *fs = new_fs();
    struct marker m;
    check(!marker_exists(fs, dir));
    check_code(marker_load(fs, dir, &m, NULL), TSR_ENOENT);
    for (uint64_t i = 1; i < 4; i++) {
        struct marker at = marker_at(i);
        check_ok(marker_store(fs, dir, &at));
        sim_fs_crash(fs, i, SIM_FS_DROP);
        check(marker_exists(fs, dir));
        load_is(fs, i);
    }
    sim_fs_free(fs);
}

static void a_marker_without_membership_is_fine_and_a_huge_one_refused(void **state)
{
    (void)state;
    struct fs *fs = new_fs();
    struct marker m = {.index = 1, .term = 1}, seen;
    check_ok(marker_store(fs, dir, &m));
    check_ok(marker_load(fs, dir, &seen, NULL));
    check_int(seen.conf_size, 0);
    marker_free(&seen);
    m.conf_size = MARKER_CONF_MAX + 1;
    m.conf = calloc(1, m.conf_size);
    check_code(marker_store(fs, dir, &m), TSR_ETOOBIG);
    m.conf_size = MARKER_CONF_MAX;
    check_ok(marker_store(fs, dir, &m));
    check_ok(marker_load(fs, dir, &seen, NULL));
    check_int(seen.conf_size, MARKER_CONF_MAX);
    marker_free(&seen);
    marker_free(&m);
    sim_fs_free(fs);
}

static void each_flipped_byte_and_each_length_is_corrupt(void **state)
{
    (void)state;
    struct fs *fs = new_fs();
    struct marker at = marker_at(5), m;
    struct fs_stat st;
    check_ok(marker_store(fs, dir, &at));
    check_ok(fs_stat(fs, "/raft/marker", &st));
    for (int64_t i = 0; i < st.size; i++) {
        struct err err = {0};
        check(sim_fs_flip(fs, "/raft/marker", i, (uint8_t)(1 << i % 8)));
        check_code(marker_load(fs, dir, &m, &err), TSR_ECORRUPT);
        check_str(err.msg, "snapshot marker damaged");
        check(sim_fs_flip(fs, "/raft/marker", i, (uint8_t)(1 << i % 8)));
    }
    struct fs_file *f;
    check_ok(fs_open(fs, "/raft/marker", FS_WRITE, &f));
    check_ok(fs_pwrite(fs, f, "", 1, st.size));
    check_code(marker_load(fs, dir, &m, NULL), TSR_ECORRUPT);
    for (int64_t i = st.size - 1; i >= 0; i--) {
        check_ok(fs_truncate(fs, f, i));
        check_code(marker_load(fs, dir, &m, NULL), TSR_ECORRUPT);
    }
    fs_close(fs, f);
    sim_fs_free(fs);
}

static void a_store_interrupted_at_each_call_leaves_the_old_or_the_new_marker(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 400; seed++) {
        bool hit = true;
        for (uint64_t n = 0; hit; n++) {
            struct fs *fs = new_fs();
            struct marker old = marker_at(1), new = marker_at(2), m;
            check_ok(marker_store(fs, dir, &old));
            if (seed % 2)
                sim_fs_stop(fs, n);
            else
                sim_fs_fail(fs, SIM_FS_ANY, n, TSR_ENOSPC, 1);
            int rv = marker_store(fs, dir, &new);
            hit = sim_fs_failed(fs);
            check(rv == 0 || hit);
            sim_fs_crash(fs, seed, (enum sim_fs_crash_mode)(seed / 2 % 4));
            check_ok(marker_load(fs, dir, &m, NULL));
            check(m.index == 2 || (m.index == 1 && rv != 0));
            marker_free(&m);
            sim_fs_free(fs);
        }
    }
}

static void a_failing_read_is_no_damage(void **state)
{
    (void)state;
    struct fs *fs = new_fs();
    struct marker at = marker_at(5), m;
    struct err err = {0};
    check_ok(marker_store(fs, dir, &at));
    sim_fs_fail(fs, SIM_FS_READ, 0, TSR_EIO, 1);
    check_code(marker_load(fs, dir, &m, &err), TSR_EIO);
    check(err.msg[0] != 0);
    load_is(fs, 5);
    sim_fs_free(fs);
}

TEST_MAIN(cmocka_unit_test(a_stored_marker_is_loaded_after_a_power_cut),
          cmocka_unit_test(a_marker_without_membership_is_fine_and_a_huge_one_refused),
          cmocka_unit_test(each_flipped_byte_and_each_length_is_corrupt),
          cmocka_unit_test(a_store_interrupted_at_each_call_leaves_the_old_or_the_new_marker),
          cmocka_unit_test(a_failing_read_is_no_damage))
