/* Every call to the disk fails once, or is the last before the machine stops: a life of a host with
 * elections, writes, markers and cut logs, and the life of a host that gets the whole state. For N
 * = 0, 1, 2 ... until a run is not touched any more: the host goes on, refuses to start or stops
 * with a reason, and after the next start the state is that of a host that did not fail (the
 * checkers of cluster.h compare digests at every index) and holds everything that was acknowledged.
 */
#include "cluster.h"

struct fault {
    unsigned kinds; /* calls that fail; 0: the machine stops */
    int code;
    enum sim_fs_crash_mode after;
};

static const struct fault faults[] = {
    {SIM_FS_OPEN, TSR_EIO, SIM_FS_KILL},
    {SIM_FS_READ, TSR_EIO, SIM_FS_KILL},
    {SIM_FS_WRITE, TSR_EIO, SIM_FS_DROP},
    {SIM_FS_WRITE, TSR_ENOSPC, SIM_FS_KILL},
    {SIM_FS_SYNC, TSR_EIO, SIM_FS_DROP},
    {SIM_FS_SYNC, TSR_EIO, SIM_FS_RANDOM},
    {SIM_FS_RESIZE, TSR_ENOSPC, SIM_FS_DROP},
    {SIM_FS_NAME, TSR_EIO, SIM_FS_RANDOM},
    {SIM_FS_SYNC_DIR, TSR_EIO, SIM_FS_DROP},
    {SIM_FS_STAT, TSR_EIO, SIM_FS_KILL},
    {0, 0, SIM_FS_DROP},
    {0, 0, SIM_FS_KEEP},
    {0, 0, SIM_FS_RANDOM},
};

static void order(struct host *h, const struct fault *f, uint64_t n)
{
    if (f->kinds) {
        sim_fs_fail(h->fs, f->kinds, n, f->code, 1);
    } else {
        sim_fs_stop(h->fs, n);
    }
}

static bool try_start(struct cluster *w, unsigned n)
{
    struct host *h = &w->hosts[n];
    struct err err = {0};
    int rc = host_open(w, n, &err);
    if (rc) { /* a reason, and nothing else */
        check(err.msg[0] != '\0' || rc == TSR_ENOMEM);
        check(rc != TSR_ECORRUPT || h->fatal == 0);
        h->c = NULL;
        return false;
    }
    h->incarnation++;
    return consensus_start(h->c) == 0;
}

static void clean_start(struct cluster *w, unsigned n, enum sim_fs_crash_mode after)
{
    struct host *h = &w->hosts[n];
    if (h->c) {
        host_crash(w, n, after);
    } else {
        sim_fs_crash(h->fs, 1, after);
        if (after != SIM_FS_KILL) {
            store_power_cut(&h->store);
        }
    }
    host_start(w, n); /* fails the test when it does not start */
}

/* One host alone. Returns whether the order hit. */
static bool life(const struct fault *f, uint64_t n)
{
    struct cluster *w = cluster_new(1000 + n, 1);
    struct host *h = &w->hosts[1];
    host_crash(w, 1, SIM_FS_KILL);
    w->snapshot_entries = 12;
    w->snapshot_trailing = 3;
    order(h, f, n);
    if (try_start(w, 1)) {
        for (unsigned i = 0; i < 60; i++) {
            submit(w, 1);
            sim_run_for(w->sim, 10);
        }
    }
    bool hit = sim_fs_failed(h->fs);
    sim_fs_fail(h->fs, SIM_FS_ANY, 0, 0, 0);
    clean_start(w, 1, f->after);
    check(cluster_wait(w, has_leader, 3000));
    submit(w, 1);
    check(cluster_wait(w, all_ended, 15000));
    check(cluster_wait(w, all_equal, 3000));
    check_code(w->requests[w->request_count - 1].status, 0);
    check_acked(w);
    cluster_free(w);
    return hit;
}

/* Host 3 is far behind and gets the whole state. */
static bool install(const struct fault *f, uint64_t n)
{
    struct cluster *w = cluster_new(5000, 3);
    w->snapshot_entries = 20;
    w->snapshot_trailing = 3;
    host_crash(w, 1, SIM_FS_KILL); /* with these options */
    host_start(w, 1);
    check(cluster_wait(w, has_leader, 3000));
    cluster_form(w, 3);
    if (cluster_leader(w)->n == 3) {
        net_isolate(w, 3, true);
        sim_run_for(w->sim, 3000);
        net_isolate(w, 3, false);
    }
    host_crash(w, 3, SIM_FS_KILL);
    check(cluster_wait(w, has_leader, 5000));
    for (unsigned i = 0; i < 80; i++) {
        submit(w, 1 + i % 2);
        sim_run_for(w->sim, 5);
    }
    check(cluster_wait(w, all_ended, 10000));
    order(&w->hosts[3], f, n);
    if (try_start(w, 3)) {
        sim_run_for(w->sim, 2500);
    }
    bool hit = sim_fs_failed(w->hosts[3].fs);
    sim_fs_fail(w->hosts[3].fs, SIM_FS_ANY, 0, 0, 0);
    clean_start(w, 3, f->after);
    submit(w, 1);
    check(cluster_wait(w, all_ended, 15000));
    if (!cluster_wait(w, all_equal, 20000)) {
        fail_msg("host 3 does not catch up: kinds %u code %s n %llu", f->kinds, err_name(f->code),
                 (unsigned long long)n);
    }
    check(w->installs > 0);
    check_acked(w);
    cluster_free(w);
    return hit;
}

static void run(const char *what, bool (*fn)(const struct fault *f, uint64_t n))
{
    uint64_t runs = 0;
    for (size_t i = 0; i < array_len(faults); i++) {
        uint64_t n = 0;
        while (fn(&faults[i], n)) {
            check(n < 100000);
            n++;
            runs++;
        }
        check(runs > 0 || faults[i].kinds != 0);
    }
    print_message("%s: %llu calls failed\n", what, (unsigned long long)runs);
}

static void a_host_survives_each_failing_call(void **state)
{
    (void)state;
    run("life", life);
}

static void an_install_survives_each_failing_call(void **state)
{
    (void)state;
    run("install", install);
}

int main(void)
{
    log_set_sink(no_log, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_survives_each_failing_call),
        cmocka_unit_test(an_install_survives_each_failing_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
