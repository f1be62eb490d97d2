/* Whole hosts in the simulator, one scenario a test. */
#include "cluster.h"

static bool all_ended_ok(struct cluster *w)
{
    for (unsigned i = 0; i < w->request_count; i++) {
        if (w->requests[i].state == REQUEST_DONE && w->requests[i].status != 0) {
            return false;
        }
    }
    return true;
}

static struct cluster *three(uint64_t seed)
{
    struct cluster *w = cluster_new(seed, 3);
    cluster_form(w, 3);
    return w;
}

static unsigned other(struct cluster *w, unsigned than)
{
    for (unsigned i = 1; i <= w->host_count; i++) {
        if (i != than && w->hosts[i].c) {
            return i;
        }
    }
    return 0;
}

static void one_host_alone_commits_and_reads(void **state)
{
    (void)state;
    struct cluster *w = cluster_new(1, 1);
    check(cluster_wait(w, has_leader, 100));
    for (unsigned i = 0; i < 100; i++) {
        submit(w, 1);
    }
    read_at(w, 1);
    check(cluster_wait(w, all_ended, 1000));
    check(all_ended_ok(w));
    check_int(w->acked, 100);
    host_crash(w, 1, SIM_FS_DROP);
    host_start(w, 1);
    check(cluster_wait(w, has_leader, 1000));
    check(cluster_wait(w, all_equal, 1000));
    check_acked(w);
    cluster_free(w);
}

static void three_hosts_elect_and_commit_from_any(void **state)
{
    (void)state;
    struct cluster *w = three(2);
    for (unsigned i = 0; i < 300; i++) {
        submit(w, 1 + i % 3);
    }
    submit_as(w, 2, 777777, "refuse", 0);
    check(cluster_wait(w, all_ended, 2000));
    check(all_ended_ok(w));
    check_int(w->requests[300].code, TSR_ECONFLICT);
    check(cluster_wait(w, all_equal, 1000));
    check_acked(w);
    cluster_free(w);
}

static void a_dead_leader_is_replaced_and_nothing_is_lost(void **state)
{
    (void)state;
    for (uint64_t seed = 10; seed < 15; seed++) {
        struct cluster *w = three(seed);
        for (unsigned round = 0; round < 3; round++) {
            check(cluster_wait(w, has_leader, 5000));
            unsigned leader = cluster_leader(w)->n;
            for (unsigned i = 0; i < 60; i++) {
                submit(w, 1 + i % 3);
                if (i % 10 == 0) {
                    sim_run_for(w->sim, 1);
                }
            }
            host_crash(w, leader, round % 2 ? SIM_FS_RANDOM : SIM_FS_KILL);
            uint64_t start = sim_now_ms(w->sim);
            check(cluster_wait(w, has_leader, 3000));
            check(sim_now_ms(w->sim) - start <= 3000);
            check(cluster_wait(w, all_ended, 10000));
            host_start(w, leader);
            check(cluster_wait(w, all_equal, 10000));
            check_acked(w);
        }
        cluster_free(w);
    }
}

static bool drop_forward_replies(struct cluster *w, struct host *from, struct host *to,
                                 const struct message *m)
{
    (void)w;
    (void)from;
    (void)to;
    return m->kind == MESSAGE_FORWARD_REPLY;
}

static void a_command_whose_reply_is_lost_is_applied_once(void **state)
{
    (void)state;
    struct cluster *w = three(20);
    unsigned follower = other(w, cluster_leader(w)->n);
    w->drop = drop_forward_replies;
    for (unsigned i = 0; i < 50; i++) {
        submit(w, follower);
    }
    struct request *twin = submit_as(w, follower, 1, "set", 0);
    check(cluster_wait(w, all_ended, 5000));
    check(all_ended_ok(w));
    check_int(twin->position, w->requests[0].position);
    check_int(store_ops(&w->hosts[follower].store), 50);
    /* Sent again by another host under the same id: the outcome of the first. */
    w->drop = NULL;
    struct request *again = submit_as(w, other(w, follower), 1, "set", 0);
    check(cluster_wait(w, all_ended, 5000));
    check_int(again->position, w->requests[0].position);
    cluster_free(w);
}

static void a_cut_off_leader_steps_down_and_answers_no_read(void **state)
{
    (void)state;
    struct cluster *w = three(30);
    unsigned old = cluster_leader(w)->n;
    net_isolate(w, old, true);
    struct request *read = read_at(w, old);
    struct request *lost = submit_as(w, old, 5555, "lost", 3000);
    sim_run_for(w->sim, 1200);
    check(w->hosts[old].led_term == 0);
    check_int(read->state, REQUEST_DONE);
    check(read->status == TSR_ENOQUORUM || read->status == TSR_ETIMEOUT);
    check(cluster_wait(w, has_leader, 3000));
    unsigned leader = cluster_leader(w)->n;
    check(leader != old);
    struct request *ok = submit(w, leader);
    sim_run_for(w->sim, 200);
    check_int(ok->state, REQUEST_DONE);
    check_int(ok->status, 0);
    net_isolate(w, old, false);
    check(cluster_wait(w, all_ended, 5000));
    check(lost->state == REQUEST_DONE);
    check(cluster_wait(w, all_equal, 5000));
    check_acked(w);
    cluster_free(w);
}

static void reads_are_linearizable_on_every_host(void **state)
{
    (void)state;
    struct cluster *w = three(40);
    w->loss_percent = 3;
    for (unsigned i = 0; i < 400; i++) {
        submit(w, 1 + i % 3);
        read_at(w, 1 + (i / 3) % 3);
        if (i % 4 == 0) {
            sim_run_for(w->sim, 2);
        }
    }
    check(cluster_wait(w, all_ended, 20000));
    unsigned good = 0;
    for (unsigned i = 0; i < w->request_count; i++) {
        good += w->requests[i].is_read && w->requests[i].status == 0;
    }
    check(good > 350);
    cluster_free(w);
}

static bool handing_over;

static bool watch_timeout_now(struct cluster *w, struct host *from, struct host *to,
                              const struct message *m)
{
    (void)to;
    if (m->kind == MESSAGE_TIMEOUT_NOW) {
        handing_over = true;
        for (unsigned i = 1; i <= w->host_count; i++) {
            w->cut[i][from->n] = true; /* it hears nothing any more */
        }
    }
    return false;
}

/* The old leader has asked another to take over and is cut off at once: for half a second it
 * believes that it leads, while the new one commits. */
static void a_leader_by_belief_only_answers_no_read(void **state)
{
    (void)state;
    struct cluster *w = three(45);
    struct host *old = cluster_leader(w);
    handing_over = false;
    w->drop = watch_timeout_now;
    check_ok(consensus_transfer(old->c, 0, on_change, w));
    while (!handing_over) {
        sim_run_for(w->sim, 1);
    }
    while (!cluster_leader(w) || cluster_leader(w) == old) {
        sim_run_for(w->sim, 1);
    }
    struct request *ok = submit(w, cluster_leader(w)->n);
    while (ok->state == REQUEST_WAITING) {
        sim_run_for(w->sim, 1);
    }
    check_ok(ok->status);
    check_int(core_state(old->c->core), CONSENSUS_LEADER);
    struct request *read = read_at(w, old->n);
    sim_run_for(w->sim, 2000);
    check_int(read->state, REQUEST_DONE);
    check(read->status != 0);
    cluster_free(w);
}

static void a_host_far_behind_gets_the_whole_state(void **state)
{
    (void)state;
    struct cluster *w = cluster_new(50, 3);
    w->snapshot_entries = 50;
    w->snapshot_trailing = 5;
    host_crash(w, 1, SIM_FS_KILL);
    host_start(w, 1);
    cluster_form(w, 3);
    unsigned behind = other(w, cluster_leader(w)->n);
    host_crash(w, behind, SIM_FS_KILL);
    unsigned up = cluster_leader(w)->n;
    for (unsigned i = 0; i < 3000; i++) {
        submit(w, up);
        if (i % 10 == 0) {
            sim_run_for(w->sim, 2);
        }
    }
    check(cluster_wait(w, all_ended, 20000));
    struct consensus_status s;
    consensus_status(w->hosts[up].c, &s);
    check(s.snapshot_index > 100);
    host_start(w, behind);
    check(cluster_wait(w, all_equal, 20000));
    consensus_status(w->hosts[behind].c, &s);
    check(s.snapshot_index > 100);
    check_acked(w);
    submit(w, behind);
    check(cluster_wait(w, all_ended, 2000));
    check(all_ended_ok(w));
    host_crash(w, behind, SIM_FS_DROP);
    host_start(w, behind);
    check(cluster_wait(w, all_equal, 20000));
    check_acked(w);
    cluster_free(w);
}

static void a_crash_at_any_time_of_an_install_is_survived(void **state)
{
    (void)state;
    struct cluster *w = cluster_new(51, 3);
    w->snapshot_entries = 50;
    w->snapshot_trailing = 5;
    host_crash(w, 1, SIM_FS_KILL);
    host_start(w, 1);
    cluster_form(w, 3);
    for (unsigned delay = 0; delay < 40; delay++) {
        check(cluster_wait(w, has_leader, 5000));
        unsigned up = cluster_leader(w)->n;
        unsigned behind = other(w, up);
        host_crash(w, behind, SIM_FS_KILL);
        for (unsigned i = 0; i < 300; i++) {
            submit(w, up);
            if (i % 4 == 0) {
                sim_run_for(w->sim, 2);
            }
        }
        check(cluster_wait(w, all_ended, 20000));
        host_start(w, behind);
        sim_run_for(w->sim, 40 + delay);
        host_crash(w, behind, SIM_FS_RANDOM);
        host_start(w, behind);
        check(cluster_wait(w, all_equal, 20000));
        check_acked(w);
    }
    cluster_free(w);
}

static void a_cluster_grows_and_shrinks(void **state)
{
    (void)state;
    struct cluster *w = cluster_new(60, 5);
    cluster_form(w, 5);
    unsigned leader = cluster_leader(w)->n;
    struct consensus_status s;
    consensus_status(w->hosts[leader].c, &s);
    check_int(s.member_count, 5);
    check_int(s.members[4].role, CONSENSUS_VOTER);
    check_code(consensus_member_remove(w->hosts[leader].c, w->hosts[leader].id, on_change, w),
               TSR_ECONFLICT);
    unsigned gone = other(w, leader);
    check_code(consensus_member_add(w->hosts[gone].c, 99, "x", on_change, w), TSR_ENOTLEADER);
    check(cluster_remove(w, gone));
    check(cluster_wait(w, all_equal, 5000));
    consensus_status(w->hosts[leader].c, &s);
    check_int(s.member_count, 4);
    /* The removed host disturbs nobody. */
    uint64_t term = s.term;
    sim_run_for(w->sim, 5000);
    consensus_status(w->hosts[leader].c, &s);
    check_int(s.term, term);
    submit(w, leader);
    check(cluster_wait(w, all_ended, 1000));
    check(all_ended_ok(w));
    cluster_free(w);
}

static void leadership_is_handed_over(void **state)
{
    (void)state;
    struct cluster *w = three(70);
    for (unsigned i = 0; i < 6; i++) {
        check(cluster_wait(w, has_leader, 3000));
        unsigned from = cluster_leader(w)->n;
        unsigned to = i % 2 ? 0 : other(w, from);
        w->change_done = false;
        for (unsigned k = 0; k < 50; k++) {
            submit(w, 1 + k % 3);
        }
        check_ok(consensus_transfer(w->hosts[from].c, to ? w->hosts[to].id : 0, on_change, w));
        check_code(consensus_transfer(w->hosts[from].c, 0, on_change, w), TSR_EBUSY);
        check(cluster_wait(w, change_ended, 2000));
        check_int(w->change_status, 0);
        check(cluster_wait(w, has_leader, 1000));
        check(cluster_leader(w)->n != from);
        check(to == 0 || cluster_leader(w)->n == to);
        check(cluster_wait(w, all_ended, 5000));
        check(all_ended_ok(w));
    }
    cluster_free(w);
}

static void all_lose_power_at_once(void **state)
{
    (void)state;
    for (uint64_t seed = 80; seed < 84; seed++) {
        struct cluster *w = cluster_new(seed, 3);
        w->snapshot_entries = 40;
        w->snapshot_trailing = 10;
        host_crash(w, 1, SIM_FS_KILL);
        host_start(w, 1);
        cluster_form(w, 3);
        for (unsigned round = 0; round < 5; round++) {
            for (unsigned i = 0; i < 200; i++) {
                submit(w, 1 + i % 3);
                if (i % 4 == 0) {
                    sim_run_for(w->sim, 1);
                }
            }
            for (unsigned n = 1; n <= 3; n++) {
                host_crash(w, n, round % 2 ? SIM_FS_DROP : SIM_FS_RANDOM);
            }
            for (unsigned n = 3; n >= 1; n--) {
                host_start(w, n);
                sim_run_for(w->sim, 100);
            }
            check(cluster_wait(w, all_equal, 10000));
            check_acked(w);
        }
        cluster_free(w);
    }
}

static void requests_end_without_a_quorum(void **state)
{
    (void)state;
    struct cluster *w = three(90);
    host_crash(w, 2, SIM_FS_KILL);
    host_crash(w, 3, SIM_FS_KILL);
    sim_run_for(w->sim, 2000);
    struct request *a = submit_as(w, 1, 1001, "x", 700);
    struct request *b = read_at(w, 1);
    sim_run_for(w->sim, 1500);
    check_code(a->status, TSR_ENOQUORUM);
    check_code(b->status, TSR_ENOQUORUM);
    cluster_free(w);
}

static void set_flag(void *arg)
{
    *(bool *)arg = true;
}

static void close_ends_all_requests(void **state)
{
    (void)state;
    struct cluster *w = three(91);
    bool closed = false;
    struct request *a[20];
    for (unsigned i = 0; i < 20; i++) {
        a[i] = i % 2 ? submit(w, 2) : read_at(w, 2);
    }
    consensus_close(w->hosts[2].c, set_flag, &closed);
    w->hosts[2].c = NULL; /* gone when it has closed: nothing is delivered from here on */
    check(!closed);
    for (unsigned i = 0; i < 20; i++) {
        check_code(a[i]->status, TSR_ECANCELED);
    }
    sim_run_for(w->sim, 100);
    check(closed);
    host_start(w, 2);
    check(cluster_wait(w, all_equal, 5000));
    cluster_free(w);
}

static void a_failed_sync_stops_the_host_and_others_go_on(void **state)
{
    (void)state;
    struct cluster *w = three(95);
    unsigned leader = cluster_leader(w)->n;
    sim_fs_fail(w->hosts[leader].fs, SIM_FS_SYNC, 0, TSR_EIO, 1);
    for (unsigned i = 0; i < 10; i++) {
        submit(w, other(w, leader));
    }
    sim_run_for(w->sim, 50);
    check_code(w->hosts[leader].fatal, TSR_EIO);
    host_crash(w, leader, SIM_FS_KILL);
    check(cluster_wait(w, has_leader, 3000));
    check(cluster_wait(w, all_ended, 10000));
    host_start(w, leader);
    check(cluster_wait(w, all_equal, 10000));
    check_acked(w);
    cluster_free(w);
}

int main(void)
{
    log_set_sink(no_log, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_host_alone_commits_and_reads),
        cmocka_unit_test(three_hosts_elect_and_commit_from_any),
        cmocka_unit_test(a_dead_leader_is_replaced_and_nothing_is_lost),
        cmocka_unit_test(a_command_whose_reply_is_lost_is_applied_once),
        cmocka_unit_test(a_cut_off_leader_steps_down_and_answers_no_read),
        cmocka_unit_test(reads_are_linearizable_on_every_host),
        cmocka_unit_test(a_leader_by_belief_only_answers_no_read),
        cmocka_unit_test(a_host_far_behind_gets_the_whole_state),
        cmocka_unit_test(a_crash_at_any_time_of_an_install_is_survived),
        cmocka_unit_test(a_cluster_grows_and_shrinks),
        cmocka_unit_test(leadership_is_handed_over),
        cmocka_unit_test(all_lose_power_at_once),
        cmocka_unit_test(requests_end_without_a_quorum),
        cmocka_unit_test(close_ends_all_requests),
        cmocka_unit_test(a_failed_sync_stops_the_host_and_others_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
