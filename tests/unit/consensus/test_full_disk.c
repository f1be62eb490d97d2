/* Full disks: whole hosts in the simulator, one of which has no room for its log or its store. */
#include "cluster.h"

static struct fsm_ops full_ops; /* a store that is full while `store_full` is set */
static bool store_full;
static unsigned full_applies;

static int full_apply(struct fsm *fsm, struct fsm_entry *entries, unsigned n)
{
    full_applies += store_full;
    return store_full ? TSR_ENOSPC : store_apply(fsm, entries, n);
}

static struct cluster *three(uint64_t seed)
{
    struct cluster *w = cluster_new(seed, 3);
    cluster_form(w, 3);
    return w;
}

static void no_room(struct host *h)
{
    sim_fs_limit(h->fs, (int64_t)sim_fs_used(h->fs));
}

static void room(struct host *h)
{
    sim_fs_limit(h->fs, 0);
}

static void submits(struct cluster *w, unsigned n, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        submit(w, n);
        sim_run_for(w->sim, 3);
    }
}

static void all_ok(struct cluster *w)
{
    check(cluster_wait(w, all_ended, 12000));
    for (unsigned i = 0; i < w->request_count; i++) {
        check_code(w->requests[i].status, 0);
    }
}

static void a_follower_without_room_waits_and_goes_on(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct cluster *w = three(seed);
        struct host *leader = cluster_leader(w),
                    *full = leader->n == 1 ? &w->hosts[2] : &w->hosts[1];
        uint64_t term = status_of(leader).term;
        no_room(full);
        submits(w, leader->n, 600); /* many segments */
        all_ok(w);
        struct consensus_status st = status_of(full);
        check(st.log_full);
        check_int(full->fatal, 0);
        check(st.last_index < status_of(leader).last_index);
        check_int(st.leader, leader->id); /* heartbeats pass: it elects nobody */
        check_int(st.term, term);
        uint64_t contact = st.contact_ms;
        sim_run_for(w->sim, 3000);
        check_int(status_of(full).contact_ms, contact); /* reads there tell their age */
        check_int(status_of(full).term, term);
        room(full);
        check(cluster_wait(w, all_equal, 10000));
        check(!status_of(full).log_full);
        check(status_of(full).contact_ms > contact);
        check_acked(w);
        cluster_free(w);
    }
}

static bool another_leads(struct cluster *w)
{
    struct host *leader = cluster_leader(w);
    return leader && leader->n != 1 && w->hosts[1].led_term == 0;
}

static void lead_by_first(struct cluster *w)
{
    for (unsigned i = 0; i < 20 && cluster_leader(w)->n != 1; i++) {
        w->change_done = false;
        if (consensus_transfer(cluster_leader(w)->c, w->hosts[1].id, on_change, w) == 0) {
            check(cluster_wait(w, change_ended, 5000));
        }
        check(cluster_wait(w, has_leader, 5000));
    }
    check_int(cluster_leader(w)->n, 1);
}

static void a_leader_without_room_hands_over(void **state)
{
    (void)state;
    for (uint64_t seed = 11; seed <= 14; seed++) {
        struct cluster *w = three(seed);
        lead_by_first(w);
        no_room(&w->hosts[1]);
        for (unsigned i = 0; i < 2000; i++) { /* the first segment of host 1 is a large one */
            submit(w, 1 + i % 3);
            sim_run_for(w->sim, 3);
        }
        check(another_leads(w));
        check(cluster_wait(w, all_ended, 12000));
        for (unsigned i = 0; i < w->request_count; i++) {
            struct request *r = &w->requests[i];
            if (r->host->n != 1) { /* elsewhere no request fails for it */
                check_code(r->status, 0);
            } else if (r->status != 0) {
                check(r->status == TSR_EUNAVAILABLE || r->status == TSR_ETIMEOUT);
            }
        }
        check_int(w->hosts[1].fatal, 0);
        room(&w->hosts[1]);
        check(cluster_wait(w, all_equal, 10000));
        check_acked(w);
        cluster_free(w);
    }
}

static void a_host_alone_without_room_refuses(void **state)
{
    (void)state;
    struct cluster *w = cluster_new(21, 1);
    check(cluster_wait(w, has_leader, 1000));
    no_room(&w->hosts[1]);
    for (unsigned i = 0; i < 2000 && !status_of(&w->hosts[1]).log_full; i++) {
        submit(w, 1);
        sim_run_for(w->sim, 3);
    }
    check(status_of(&w->hosts[1]).log_full);
    sim_run_for(w->sim, 5000);
    struct request *r = submit(w, 1);
    check(cluster_wait(w, all_ended, 1000)); /* at once, not at its deadline */
    check_code(r->status, TSR_EUNAVAILABLE);
    check_int(w->hosts[1].fatal, 0);
    room(&w->hosts[1]);
    sim_run_for(w->sim, 1000);
    r = submit(w, 1);
    check(cluster_wait(w, all_ended, 1000));
    check_code(r->status, 0);
    check_acked(w);
    cluster_free(w);
}

/* Before it has written anything at all, or with room for a part of what its first log takes. */
static void a_new_host_without_room_waits_and_goes_on(void **state)
{
    (void)state;
    static const int64_t rooms[] = {1, 5000, 20000, 70000, 85000, 100000};
    for (unsigned i = 0; i < array_len(rooms); i++) {
        struct cluster *w = cluster_new(51 + i, 3);
        struct host *full = &w->hosts[3];
        cluster_form(w, 2);
        check_ok(consensus_prepare(full->fs, "raft"));
        if (i % 2 == 0) {
            sim_fs_limit(full->fs, (int64_t)sim_fs_used(full->fs) + rooms[i]);
        }
        host_start(w, 3);
        if (i % 2 == 1) { /* the room goes later */
            sim_fs_limit(full->fs, (int64_t)sim_fs_used(full->fs) + rooms[i]);
        }
        check(cluster_add(w, 3));
        submits(w, 1, 40);
        all_ok(w);
        sim_run_for(w->sim, 2000);
        check_int(full->fatal, 0);
        room(full);
        check(cluster_promote(w, 3));
        check(cluster_wait(w, all_equal, 10000));
        check(!status_of(full).log_full);
        check_acked(w);
        cluster_free(w);
    }
}

static void a_full_store_applies_the_same_again(void **state)
{
    (void)state;
    struct cluster *w = three(31);
    unsigned leads = cluster_leader(w)->n;
    struct host *full = &w->hosts[leads == 1 ? 2 : 1];
    full_ops = store_fsm_ops;
    full_ops.apply = full_apply;
    full->store.fsm.ops = &full_ops;
    full_applies = 0;
    store_full = true;
    submits(w, leads, 50);
    all_ok(w);
    sim_run_for(w->sim, 3000);
    check(status_of(full).store_full);
    check_int(full->fatal, 0);
    check(full_applies >= 4 && full_applies <= 10); /* twice a second */
    store_full = false;
    check(cluster_wait(w, all_equal, 10000)); /* and equal digests, which the store compares */
    check(!status_of(full).store_full);
    check_acked(w);

    lead_by_first(w); /* now of a leader */
    w->hosts[1].store.fsm.ops = &full_ops;
    full->store.fsm.ops = full->n == 1 ? &full_ops : &store_fsm_ops;
    store_full = true;
    submits(w, 2, 20);
    check(cluster_wait(w, another_leads, 5000));
    check(cluster_wait(w, all_ended, 12000));
    store_full = false;
    check(cluster_wait(w, all_equal, 10000));
    check_acked(w);
    cluster_free(w);
}

static void a_marker_that_finds_no_room_is_tried_again(void **state)
{
    (void)state;
    struct cluster *w = cluster_new(41, 1);
    host_crash(w, 1, SIM_FS_KILL);
    w->snapshot_entries = 40;
    w->snapshot_trailing = 5;
    host_start(w, 1);
    check(cluster_wait(w, has_leader, 1000));
    sim_fs_limit(w->hosts[1].fs, (int64_t)sim_fs_used(w->hosts[1].fs));
    submits(w, 1, 60);
    all_ok(w);
    check_int(w->hosts[1].fatal, 0);
    check_int(status_of(&w->hosts[1]).snapshot_index, 0);
    room(&w->hosts[1]);
    sim_run_for(w->sim, 2500);
    check(status_of(&w->hosts[1]).snapshot_index > 0);
    cluster_free(w);
}

int main(void)
{
    log_set_sink(no_log, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_follower_without_room_waits_and_goes_on),
        cmocka_unit_test(a_leader_without_room_hands_over),
        cmocka_unit_test(a_host_alone_without_room_refuses),
        cmocka_unit_test(a_new_host_without_room_waits_and_goes_on),
        cmocka_unit_test(a_full_store_applies_the_same_again),
        cmocka_unit_test(a_marker_that_finds_no_room_is_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
