#include "test.h"

#include <stdlib.h>

#include "consensus/disklog.h"
#include "consensus/marker.h"
#include "consensus/vote.h"
#include "sim_fs.h"

static const char dir[] = "/raft";

static struct fs *new_fs(uint64_t seed)
{
    struct fs *fs = sim_fs_new(seed);
    check_ok(fs_mkdir(fs, dir));
    check_ok(fs_sync_dir(fs, "/"));
    return fs;
}

static void store(struct fs *fs, struct vote *v, uint64_t term, uint64_t voted_for)
{
    v->term = term;
    v->voted_for = voted_for;
    check_ok(vote_store(fs, dir, v));
}

static struct vote load(struct fs *fs)
{
    struct vote v = {9, 9, 9};
    struct err err = {0};
    int rv = vote_load(fs, dir, &v, &err);
    if (rv != 0)
        print_error("%s\n", err.msg);
    check_ok(rv);
    return v;
}

static void load_corrupt(struct fs *fs, const char *text)
{
    struct vote v = {9, 9, 9};
    struct err err = {0};
    check_code(vote_load(fs, dir, &v, &err), TSR_ECORRUPT);
    check(strstr(err.msg, text) != NULL);
    check_int(v.term, 9); /* untouched */
    check_int(sim_fs_open_files(fs), 0);
}

static void a_fresh_directory_has_no_vote(void **state)
{
    (void)state;
    struct fs *fs = sim_fs_new(1);
    struct vote v = load(fs);
    check_int(v.generation, 0);
    check_int(v.term, 0);
    store(fs, &v, 1, 2); /* makes the directory */
    check_int(load(fs).term, 1);
    sim_fs_free(fs);
}

static void the_last_stored_vote_is_loaded_after_a_power_cut(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    struct vote v = {0};
    for (uint64_t i = 1; i < 20; i++) {
        store(fs, &v, i, i * 7);
        check_int(v.generation, i);
        sim_fs_crash(fs, i, SIM_FS_DROP);
        struct vote seen = load(fs);
        check_int(seen.generation, i);
        check_int(seen.term, i);
        check_int(seen.voted_for, i * 7);
    }
    sim_fs_free(fs);
}

static void any_one_damaged_missing_or_old_copy_is_harmless_and_healed(void **state)
{
    (void)state;
    static const char *const copies[] = {"/raft/vote1", "/raft/vote2"};
    for (int copy = 0; copy < 2; copy++) {
        for (int how = 0; how < 5; how++) {
            struct fs *fs = new_fs(1);
            struct vote v = {0};
            struct fs_file *f;
            store(fs, &v, 4, 1);
            if (how == 4) /* the disk swallows a write */
                sim_fs_bad_write(fs, copies[copy], SIM_FS_LOST, 0);
            store(fs, &v, 5, 2);
            if (how < 2)
                check(sim_fs_flip(fs, copies[copy], how == 0 ? 25 : 3000, 16));
            if (how == 2)
                check_ok(fs_unlink(fs, copies[copy]));
            if (how == 3) {
                check_ok(fs_open(fs, copies[copy], FS_WRITE, &f));
                check_ok(fs_truncate(fs, f, 100));
                fs_close(fs, f);
            }
            sim_fs_drop_caches(fs);
            check_int(load(fs).term, 5);
            /* now the other one may be lost */
            check_ok(fs_unlink(fs, copies[1 - copy]));
            check_int(load(fs).term, 5);
            sim_fs_free(fs);
        }
    }
}

static void two_damaged_copies_are_corrupt(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    struct vote v = {0};
    store(fs, &v, 4, 1);
    check(sim_fs_flip(fs, "/raft/vote1", 40, 1));
    check(sim_fs_flip(fs, "/raft/vote2", 24, 1));
    load_corrupt(fs, "no valid copy");
    check_ok(fs_unlink(fs, "/raft/vote1"));
    load_corrupt(fs, "no valid copy");
    sim_fs_free(fs);
}

static void a_missing_vote_beside_a_log_or_marker_is_corrupt(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    check_ok(disklog_recreate(fs, dir, 65536, 0, 0));
    load_corrupt(fs, "missing although");
    sim_fs_free(fs);
    fs = new_fs(1);
    check_ok(marker_store(fs, dir, &(struct marker){.index = 1, .term = 1}));
    load_corrupt(fs, "missing although");
    sim_fs_free(fs);
}

static void copies_that_contradict_each_other_are_corrupt(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    struct vote v = {0}, w = {0};
    store(fs, &v, 4, 1);
    check_ok(fs_rename(fs, "/raft/vote1", "/raft/keep"));
    store(fs, &w, 4, 2); /* another generation 1 */
    check_ok(fs_rename(fs, "/raft/keep", "/raft/vote1"));
    load_corrupt(fs, "contradict");
    sim_fs_free(fs);
}

/* Stop or fail at call @n of a store over generation 1; then crash, load, and crash again: what was
 * loaded must stay. */
static bool interrupted_store(uint64_t n, uint64_t seed, bool stop, uint64_t generations)
{
    struct fs *fs = new_fs(seed);
    struct vote v = {0};
    for (uint64_t i = 0; i < generations; i++)
        store(fs, &v, 10 + i, 1);
    struct vote before = v;
    v.term = 50;
    v.voted_for = 3;
    if (stop)
        sim_fs_stop(fs, n);
    else
        sim_fs_fail(fs, SIM_FS_ANY, n, TSR_EIO, 1);
    int rv = vote_store(fs, dir, &v);
    bool hit = sim_fs_failed(fs);
    check(hit == (rv != 0));
    check_int(v.generation, before.generation + (rv == 0));
    sim_fs_crash(fs, seed, stop ? (enum sim_fs_crash_mode)(seed % 4) : SIM_FS_KILL);
    struct vote seen = load(fs);
    if (rv == 0)
        check_int(seen.term, 50);
    else
        check(seen.term == 50 || (seen.term == before.term && seen.voted_for == before.voted_for));
    sim_fs_crash(fs, seed + 1, SIM_FS_DROP);
    struct vote again = load(fs);
    check_int(again.term, seen.term);
    check_int(again.voted_for, seen.voted_for);
    check_int(again.generation, seen.generation);
    sim_fs_free(fs);
    return hit;
}

static void a_store_interrupted_at_each_call_leaves_the_old_or_the_new_vote(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 200; seed++)
        for (int stop = 0; stop < 2; stop++)
            for (uint64_t generations = 0; generations < 3; generations++) {
                uint64_t n = 0;
                while (interrupted_store(n, seed, stop, generations))
                    n++;
                check(n >= 6);
            }
}

static void a_load_that_fails_at_each_call_says_so_and_harms_nothing(void **state)
{
    (void)state;
    for (uint64_t n = 0;; n++) {
        struct fs *fs = new_fs(n);
        struct vote v = {0}, seen;
        struct err err = {0};
        store(fs, &v, 4, 1);
        store(fs, &v, 5, 2);
        sim_fs_fail(fs, SIM_FS_ANY, n, TSR_EIO, 1);
        int rv = vote_load(fs, dir, &seen, &err);
        bool hit = sim_fs_failed(fs);
        check(rv == 0 || err.msg[0] != 0);
        if (rv == 0)
            check_int(seen.term, 5);
        sim_fs_crash(fs, n, SIM_FS_RANDOM);
        check_int(load(fs).term, 5);
        sim_fs_free(fs);
        if (!hit)
            break;
        check(n < 100);
    }
}

TEST_MAIN(cmocka_unit_test(a_fresh_directory_has_no_vote),
          cmocka_unit_test(the_last_stored_vote_is_loaded_after_a_power_cut),
          cmocka_unit_test(any_one_damaged_missing_or_old_copy_is_harmless_and_healed),
          cmocka_unit_test(two_damaged_copies_are_corrupt),
          cmocka_unit_test(a_missing_vote_beside_a_log_or_marker_is_corrupt),
          cmocka_unit_test(copies_that_contradict_each_other_are_corrupt),
          cmocka_unit_test(a_store_interrupted_at_each_call_leaves_the_old_or_the_new_vote),
          cmocka_unit_test(a_load_that_fails_at_each_call_says_so_and_harms_nothing))
