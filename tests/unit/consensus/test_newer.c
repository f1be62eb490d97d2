/* What a newer version of the program wrote, to the disk or into the log: a host that does not know
 * it says so and stops, changes nothing, and skips nothing. */
#include "cluster.h"

#include "consensus/batch.h"
#include "consensus/segment.h"

/* --- files ------------------------------------------------------------------------------------ */

static const char dir[] = "/raft";

static void fill_disk(struct fs *fs)
{
    static char conf[] = "conf";
    static const uint8_t stream[] = "the whole state";
    struct vote vote = {.term = 3};
    struct marker marker = {
        .index = 2, .term = 3, .conf_index = 1, .conf = conf, .conf_size = sizeof conf};
    struct stage_head head = {.marker = marker, .stream_bytes = sizeof stream};
    struct disklog *log;
    struct stage *stage;
    uint64_t have;
    check_ok(fs_mkdir(fs, dir));
    check_ok(vote_store(fs, dir, &vote));
    check_ok(disklog_open(fs, dir, 16 * 1024, 0, 0, NULL, NULL, &log, NULL));
    for (uint64_t i = 1; i <= 4; i++) {
        struct disklog_entry e = {i, 3, ENTRY_BARRIER, "\0\0\0\0\0\0\0\0", 8};
        check_ok(disklog_append(log, &e, 1));
    }
    disklog_close(log);
    check_ok(marker_store(fs, dir, &marker));
    digest_of(DIGEST_SHA256, stream, sizeof stream, head.stream_sha256);
    check_ok(stage_open(fs, dir, &head, &stage, &have));
    check_ok(stage_write(stage, 0, stream, sizeof stream));
    check_ok(stage_finish(stage));
    stage_close(stage);
}

static int load_vote(struct fs *fs, struct err *err)
{
    struct vote v;
    return vote_load(fs, dir, &v, err);
}

static int load_marker(struct fs *fs, struct err *err)
{
    struct marker m = {0};
    int rc = marker_load(fs, dir, &m, err);
    marker_free(&m);
    return rc;
}

static int load_log(struct fs *fs, struct err *err)
{
    struct disklog *log;
    int rc = disklog_open(fs, dir, 16 * 1024, 2, 3, NULL, NULL, &log, err);
    if (rc == 0) {
        check_int(disklog_last_index(log), 4);
        disklog_close(log);
    }
    return rc;
}

static int load_install(struct fs *fs, struct err *err)
{
    struct stage_head head = {0};
    char path[256];
    int rc = install_load(fs, dir, &head, path, sizeof path, err);
    marker_free(&head.marker);
    return rc;
}

static void overwrite(struct fs *fs, const char *path, const char *data, size_t size)
{
    struct fs_file *f;
    check_ok(fs_open(fs, path, FS_WRITE, &f));
    check_ok(fs_pwrite(fs, f, data, size, 0));
    fs_close(fs, f);
}

static void what_a_newer_version_wrote_is_told_and_left_alone(void **state)
{
    (void)state;
    const struct {
        const char *path;
        size_t at, size; /* of the part with magic, checksum, version; size 0: to the end */
        bool twice;      /* damage to one is harmless */
        int (*load)(struct fs *fs, struct err *err);
    } files[] = {
        {"/raft/vote1", 0, 4096, true, load_vote},
        {"/raft/vote2", 0, 4096, true, load_vote},
        {"/raft/marker", 0, 0, false, load_marker},
        {"/raft/log-0000000000000001", 0, SEGMENT_HEADER_SIZE, false, load_log},
        {"/raft/log.mark", 0, 64, true, load_log},
        {"/raft/log.mark", 4096, 64, true, load_log},
        {"/raft/install/head", 0, 0, false, load_install},
    };
    struct fs *fs = sim_fs_new(1);
    fill_disk(fs);
    for (size_t i = 0; i < array_len(files); i++) {
        char *data, *newer, *after;
        size_t size, size_after;
        struct err err = {0};
        check_ok(files[i].load(fs, NULL));
        check_ok(fs_read_file(fs, files[i].path, 1024 * 1024, &data, &size));
        newer = malloc(size);
        assert_non_null(newer);
        memcpy(newer, data, size);
        uint8_t *part = (uint8_t *)newer + files[i].at;
        size_t part_size = files[i].size ? files[i].size : size;
        check_int(le_get32(part + 8), 1);
        le_put32(part + 8, 2);
        le_put32(part + 4, crc32c(0, part + 8, part_size - 8));
        overwrite(fs, files[i].path, newer, size);
        check_code(files[i].load(fs, &err), TSR_ENOTSUP);
        check(strstr(err.msg, "written by a newer version") != NULL);
        check_ok(fs_read_file(fs, files[i].path, 1024 * 1024, &after, &size_after));
        check_int(size_after, size);
        check_mem(after, newer, size);
        free(after);
        part[9] ^= 1; /* without its checksum it is damage */
        overwrite(fs, files[i].path, newer, size);
        check_code(files[i].load(fs, NULL), files[i].twice ? 0 : TSR_ECORRUPT);
        overwrite(fs, files[i].path, data, size);
        check_ok(files[i].load(fs, NULL));
        free(data);
        free(newer);
    }
    sim_fs_free(fs);
}

/* --- entries ---------------------------------------------------------------------------------- */

static unsigned old_host; /* its program does not know what is "newer" */
static bool old_stream;   /* nor the leader's snapshots */

static int apply_by_version(struct fsm *fsm, struct fsm_entry *entries, unsigned n)
{
    for (unsigned i = 0; i < n && store_of(fsm)->host == old_host; i++) {
        for (unsigned k = 0; k < entries[i].count; k++) {
            if (strncmp(entries[i].commands[k].data, "newer", 5) == 0) {
                return TSR_ENOTSUP;
            }
        }
    }
    return store_apply(fsm, entries, n);
}

static int import_by_version(struct fsm *fsm, struct fs *fs, const char *path,
                             struct fsm_point *out)
{
    return old_stream && store_of(fsm)->host == old_host ? TSR_ENOTSUP
                                                         : store_import(fsm, fs, path, out);
}

static struct fsm_ops ops_by_version;

static struct cluster *three(uint64_t seed)
{
    struct cluster *w = cluster_new(seed, 3);
    ops_by_version = store_fsm_ops;
    ops_by_version.apply = apply_by_version;
    ops_by_version.import_file = import_by_version;
    for (unsigned n = 1; n <= 3; n++) {
        w->hosts[n].store.fsm.ops = &ops_by_version;
    }
    old_host = 0;
    old_stream = false;
    cluster_form(w, 3);
    return w;
}

static bool old_has_stopped(struct cluster *w)
{
    return w->hosts[old_host].fatal != 0;
}

static void an_old_host_stops_at_a_newer_command_and_the_others_go_on(void **state)
{
    (void)state;
    struct cluster *w = three(80);
    unsigned up = cluster_leader(w)->n;
    struct host *old = &w->hosts[up == 1 ? 2 : 1];
    old_host = old->n;
    submit(w, up);
    check(cluster_wait(w, all_ended, 5000));
    check(cluster_wait(w, all_equal, 5000));
    struct request *r = submit_as(w, up, 1000, "newer", 0);
    uint64_t at = core_last_index(w->hosts[up].c->core) + 1;
    check(cluster_wait(w, old_has_stopped, 5000));
    check_int(store_point(&old->store).index, at - 1);
    check(cluster_wait(w, all_ended, 5000));
    check_ok(r->status);
    for (unsigned starts = 0; starts < 3; starts++) { /* and it does so each time */
        check_code(old->fatal, TSR_ENOTSUP);
        check(store_point(&old->store).index < at);
        host_crash(w, old->n, SIM_FS_DROP);
        for (unsigned i = 0; i < 10; i++) {
            submit(w, up);
        }
        check(cluster_wait(w, all_ended, 5000));
        host_start(w, old->n);
        check(cluster_wait(w, old_has_stopped, 5000));
    }
    host_crash(w, old->n, SIM_FS_DROP);
    old_host = 0; /* the newer version is installed there */
    host_start(w, old->n);
    check(cluster_wait(w, all_equal, 5000));
    check_acked(w);
    cluster_free(w);
}

/* A whole entry in a form that no host here knows reaches their logs, and nobody goes past it. */
static void an_entry_of_a_newer_form_is_taken_into_the_log_and_never_skipped(void **state)
{
    (void)state;
    static const uint8_t id[COMMAND_ID_SIZE] = "a command";
    struct batch_command command = {.id = id, .data = "set", .size = 3};
    struct cluster *w = three(81);
    struct host *leader = cluster_leader(w);
    struct payload *p = batch_encode(1, &command, 1);
    uint64_t index;
    p->data[0] = 2;
    check_ok(core_submit(leader->c->core, sim_now_ms(w->sim), p, &index));
    host_pump(leader->c);
    sim_run_for(w->sim, 2000);
    check_code(leader->fatal, TSR_ENOTSUP); /* the others if they heard that it is committed */
    for (unsigned n = 1; n <= 3; n++) {
        check(w->hosts[n].fatal == 0 || w->hosts[n].fatal == TSR_ENOTSUP);
        check(core_last_index(w->hosts[n].c->core) >= index);
        check_int(store_point(&w->hosts[n].store).index, index - 1);
    }
    cluster_free(w);
}

static void a_newer_snapshot_stops_an_old_host_and_waits_for_the_newer_version(void **state)
{
    (void)state;
    struct cluster *w = three(82);
    w->snapshot_entries = 50;
    w->snapshot_trailing = 5;
    for (unsigned n = 1; n <= 3; n++) {
        host_crash(w, n, SIM_FS_KILL);
        host_start(w, n);
    }
    check(cluster_wait(w, has_leader, 5000));
    unsigned up = cluster_leader(w)->n;
    struct host *old = &w->hosts[up == 1 ? 2 : 1];
    host_crash(w, old->n, SIM_FS_KILL);
    for (unsigned i = 0; i < 300; i++) {
        submit(w, up);
        sim_run_for(w->sim, 1);
    }
    check(cluster_wait(w, all_ended, 20000));
    old_host = old->n;
    old_stream = true;
    uint64_t before = store_point(&old->store).index;
    host_start(w, old->n);
    check(cluster_wait(w, old_has_stopped, 10000));
    check_code(old->fatal, TSR_ENOTSUP);
    host_crash(w, old->n, SIM_FS_DROP);
    struct err err = {0};
    check_code(host_open(w, old->n, &err), TSR_ENOTSUP);
    check_str(err.msg, "the received snapshot was written by a newer version");
    check(store_point(&old->store).index <= before);
    old_stream = false;
    host_start(w, old->n);
    check(cluster_wait(w, all_equal, 10000));
    check_int(w->installs, 1);
    check_int(w->exports, 1); /* what was received is used */
    check_acked(w);
    cluster_free(w);
}

int main(void)
{
    log_set_sink(no_log, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_newer_version_wrote_is_told_and_left_alone),
        cmocka_unit_test(an_old_host_stops_at_a_newer_command_and_the_others_go_on),
        cmocka_unit_test(an_entry_of_a_newer_form_is_taken_into_the_log_and_never_skipped),
        cmocka_unit_test(a_newer_snapshot_stops_an_old_host_and_waits_for_the_newer_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
